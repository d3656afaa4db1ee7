#include "core/json.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

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

// What the parser would let through. It takes a zero byte for the end of the text, whatever
// follows; and its own stack is on the heap, but destroying deep values recurses.
void check_outline(std::string_view text, std::string_view source) {
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
    } else if (c == '\0') {
      throw FileError("{}: {}: not valid JSON: a zero byte", source, place_of(text, i));
    }
  }
}

// What the parser says, without its own numbering and place, and without the megabytes that it may
// quote from the file.
std::string reason_of(const Json::exception& e) {
  constexpr size_t kLongest = 200;
  std::string_view what = e.what();
  for (const std::string_view before : {"] ", "syntax error "}) {
    if (const size_t at = what.find(before); at != std::string_view::npos)
      what.remove_prefix(before == "] " ? at + before.size() : at);
  }
  return std::string(what.substr(0, kLongest)) + (what.size() > kLongest ? "..." : "");
}

// Builds the value in the order of the text and refuses a key that stands twice in one object. The
// library's own builder looks each key of an ordered object up among all before it, which makes a
// vocabulary of 30000 tokens take most of a second.
class Reader {
 public:
  Reader(std::string_view text, std::string_view source) : text_(text), source_(source) {}
  Json take() { return std::move(root_); }

  bool null() { return put(nullptr); }
  bool boolean(bool v) { return put(v); }
  bool number_integer(int64_t v) { return put(v); }
  bool number_unsigned(uint64_t v) { return put(v); }
  bool number_float(double v, const std::string&) { return put(v); }
  bool string(std::string& v) { return put(std::move(v)); }
  bool binary(Json::binary_t&) { return false; }  // JSON text has none
  bool key(std::string& k) {
    key_ = std::move(k);
    return true;
  }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_array() { return close(); }
  bool end_object() {
    const auto& object = open_.back()->get_ref<const Json::object_t&>();
    std::unordered_set<std::string_view> seen;
    seen.reserve(object.size());
    for (const auto& [k, v] : object) {
      if (!seen.insert(k).second)
        throw FileError("{}: the key '{}' stands twice in one object", source_, k);
    }
    return close();
  }
  bool parse_error(size_t byte, const std::string&, const Json::exception& e) {
    throw FileError("{}: {}: not valid JSON: {}", source_, place_of(text_, byte), reason_of(e));
  }

 private:
  bool put(Json v) {
    add(std::move(v));
    return true;
  }
  bool open(Json v) {
    // Only the innermost open value grows, so those around it keep their place in memory.
    open_.push_back(&add(std::move(v)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  Json& add(Json v) {
    if (open_.empty()) return root_ = std::move(v);
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return parent.back();
    }
    auto& object = parent.get_ref<Json::object_t&>();
    object.emplace_back(std::move(key_), std::move(v));
    return object.back().second;
  }

  std::string_view text_, source_;
  Json root_;
  std::vector<Json*> open_;
  std::string key_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  check_outline(text, source);
  Reader reader(text, source);
  Json::sax_parse(text, &reader);
  return reader.take();
}

Json parse_json_file(const std::string& path) { return parse_json(read_file(path), path); }

std::string json_text(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void write_json_file(const std::string& path, const Json& value) {
  write_file(path, json_text(value));
}

}  // namespace graft
