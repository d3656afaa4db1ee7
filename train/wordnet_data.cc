#include "train/wordnet_data.h"

#include <algorithm>
#include <charconv>

#include "core/atomic_file.h"
#include "core/error.h"

namespace graft {
namespace {

std::vector<std::string> split(std::string_view s, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0;;) {
    const size_t end = s.find(separator, at);
    parts.emplace_back(s.substr(at, end == std::string_view::npos ? end : end - at));
    if (end == std::string_view::npos) return parts;
    at = end + 1;
  }
}

// Runs of spaces become one; none at the ends.
std::string squeeze(std::string_view s) {
  std::string out;
  for (char c : s) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

void read_gloss(Synset& s, std::string_view text) {
  const std::vector<std::string> parts = split(text, '"');
  std::string gloss = squeeze(parts[0]);
  while (!gloss.empty() && std::string_view(" ;:,-").find(gloss.back()) != std::string_view::npos)
    gloss.pop_back();
  s.gloss = squeeze(gloss);
  for (size_t i = 1; i + 1 < parts.size(); i += 2) {
    const std::string e = squeeze(parts[i]);
    if (!e.empty() && std::ranges::find(s.examples, e) == s.examples.end()) s.examples.push_back(e);
  }
}

class Fields {
 public:
  Fields(std::vector<std::string> fields, std::string where)
      : fields_(std::move(fields)), where_(std::move(where)) {}
  const std::string& next() {
    if (at_ >= fields_.size()) throw FileError("{}: the line ends too early", where_);
    return fields_[at_++];
  }
  int number(int base) {
    const std::string& s = next();
    int value = 0;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value, base);
    if (error != std::errc() || end != s.data() + s.size() || value < 0)
      throw FileError("{}: '{}' is not a number", where_, s);
    return value;
  }

 private:
  std::vector<std::string> fields_;
  std::string where_;
  size_t at_ = 0;
};

}  // namespace

std::string lowered(std::string s) {
  for (char& c : s) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return s;
}

std::string word_text(const std::string& word) {
  std::string s = word;
  std::ranges::replace(s, '_', ' ');
  return s;
}

Wordnet read_wordnet(const std::string& folder) {
  Wordnet wordnet;
  std::vector<std::vector<std::pair<std::string, std::string>>> pointers;
  const std::pair<const char*, char> files[] = {
      {"data.noun", 'n'}, {"data.verb", 'v'}, {"data.adj", 'a'}, {"data.adv", 'r'}};
  for (const auto& [name, pos] : files) {
    const std::string path = folder + "/" + name, content = read_file(path);
    int line_number = 0;
    for (const std::string& line : split(content, '\n')) {
      ++line_number;
      if (line.empty() || line.starts_with("  ")) continue;
      const std::string where = fmt::format("{}:{}", path, line_number);
      const size_t bar = line.find(" | ");
      if (bar == std::string::npos)
        throw FileError("{}: a synset without ' | ' and a gloss", where);
      Fields f(split(std::string_view(line).substr(0, bar), ' '), where);
      Synset s;
      s.pos = pos;
      s.key = pos + f.next();
      s.lex_file = f.number(10);
      f.next();
      for (int i = 0, n = f.number(16); i < n; ++i) {
        std::string word = f.next();
        for (std::string_view marker : {"(a)", "(p)", "(ip)"}) {
          if (word.ends_with(marker)) word.resize(word.size() - marker.size());
        }
        s.words.push_back(word);
        f.next();
      }
      pointers.emplace_back();
      for (int i = 0, n = f.number(10); i < n; ++i) {
        const std::string symbol = f.next(), offset = f.next();
        std::string target_pos = f.next();
        if (target_pos == "s") target_pos = "a";
        pointers.back().emplace_back(symbol, target_pos + offset);
        f.next();
      }
      read_gloss(s, std::string_view(line).substr(bar + 3));
      wordnet.by_key[s.key] = static_cast<int>(wordnet.synsets.size());
      wordnet.synsets.push_back(std::move(s));
    }
  }
  for (size_t i = 0; i < pointers.size(); ++i) {
    for (const auto& [symbol, key] : pointers[i]) {
      const auto it = wordnet.by_key.find(key);
      if (it == wordnet.by_key.end()) {
        throw FileError("{}: synset {} points to {}, which does not exist", folder,
                        wordnet.synsets[i].key, key);
      }
      wordnet.synsets[i].pointers.emplace_back(symbol, it->second);
    }
  }
  return wordnet;
}

}  // namespace graft
