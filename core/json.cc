#include "core/json.h"

#include <algorithm>

#include "core/atomic_file.h"
#include "core/error.h"

namespace graft {
namespace {

constexpr int kMaxDepth = 64;

std::string place_of(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const auto line = std::ranges::count(before, '\n') + 1;
  const size_t newline = before.rfind('\n');
  const size_t column =
      newline == std::string_view::npos ? before.size() : before.size() - newline - 1;
  return fmt::format("line {}, column {}", line, column);
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  // Depth is checked before parsing: the parser's own stack is on the heap, but destroying deep
  // values recurses.
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth)
        throw FileError("{}: {}: JSON is nested deeper than {}", source, place_of(text, i),
                        kMaxDepth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& e) {
    throw FileError("{}: {}: not valid JSON: {}", source, place_of(text, e.byte), e.what());
  } catch (const Json::exception& e) {
    throw FileError("{}: not valid JSON: {}", source, e.what());
  }
}

Json parse_json_file(const std::string& path) { return parse_json(read_file(path), path); }

void write_json_file(const std::string& path, const Json& value) {
  write_file(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace graft
