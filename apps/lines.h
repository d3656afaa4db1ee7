// Text as commands take it: one text a line.
#pragma once

#include <string>
#include <vector>

namespace graft {

// The lines of a file, or of standard input for "-". Throws FileError.
std::vector<std::string> read_lines(const std::string& file);

}  // namespace graft
