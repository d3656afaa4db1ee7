// Memory in a file of its own, which the system may write out and take back when memory is short.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace graft {

// Zeroed bytes in a file without a name in that folder; its space is taken at once, so that a full
// disk is told of here. Throws FileError where the folder does not take such a file.
std::shared_ptr<void> allocate_in_folder(const std::string& folder, size_t bytes);

}  // namespace graft
