#include "models/tokenizer/decoder.h"

#include "core/error.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/fields.h"
#include "models/tokenizer/regex.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  size_t at = text.find(from);
  if (at == std::string::npos) return;
  std::string out;
  size_t copied = 0;
  for (; at != std::string::npos; at = text.find(from, copied)) {
    out.append(text, copied, at - copied);
    out += to;
    copied = at + from.size();
  }
  out.append(text, copied);
  text = std::move(out);
}

// A file may ask for ever longer texts here as before the model.
void check_growth(size_t before, size_t after, const std::string& source) {
  constexpr size_t kFactor = 64, kAlways = 4096;
  if (after <= kFactor * before + kAlways) return;
  throw FileError("{}: {} bytes of tokens become {} bytes of text; the file is damaged", source,
                  before, after);
}

size_t total(const std::vector<std::string>& tokens) {
  size_t n = 0;
  for (const std::string& t : tokens) n += t.size();
  return n;
}

// Decoders that change each piece for itself: f(piece, its index).
template <typename F>
class Each : public Decoder {
 public:
  explicit Each(F f) : f_(std::move(f)) {}
  void run(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) f_(tokens[i], i);
  }

 private:
  F f_;
};

template <typename F>
std::unique_ptr<Decoder> each(F f) {
  return std::make_unique<Each<F>>(std::move(f));
}

class Fuse : public Decoder {
 public:
  void run(std::vector<std::string>& tokens) const override {
    std::string all;
    for (const std::string& t : tokens) all += t;
    tokens.clear();
    tokens.push_back(std::move(all));
  }
};

// All at once, for one token may end in the middle of a character.
class ByteLevel : public Decoder {
 public:
  void run(std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const std::string& t : tokens) {
      const size_t before = bytes.size();
      for (size_t i = 0; i < t.size();) {
        const CodePoint c = code_point(t, i);
        const int b = byte_level_byte(c.code);
        if (b < 0) {  // not of the alphabet: the token stands for itself
          bytes.resize(before);
          bytes += t;
          break;
        }
        bytes.push_back(static_cast<char>(b));
        i += c.bytes;
      }
    }
    tokens.assign(1, lossy_utf8(bytes));
  }
};

// <0xE2>: a byte; runs of them are characters, or as many U+FFFD where they are not UTF-8.
class ByteFallback : public Decoder {
 public:
  void run(std::vector<std::string>& tokens) const override {
    std::vector<std::string> out;
    std::string bytes;
    auto flush = [&] {
      if (bytes.empty()) return;
      if (is_utf8(bytes))
        out.push_back(bytes);
      else
        out.insert(out.end(), bytes.size(), "\uFFFD");
      bytes.clear();
    };
    for (std::string& t : tokens) {
      if (const int b = byte_of(t); b >= 0) {
        bytes.push_back(static_cast<char>(b));
      } else {
        flush();
        out.push_back(std::move(t));
      }
    }
    flush();
    tokens.swap(out);
  }

 private:
  static int byte_of(const std::string& t) {
    if (t.size() != 6 || !t.starts_with("<0x") || t.back() != '>') return -1;
    const int high = hex(t[3]), low = hex(t[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
  }
  static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  }
};

// The end of a word is marked; the last word has no space behind it.
class BpeDecoder : public Decoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  void run(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }

 private:
  std::string suffix_;
};

class Sequence : public Decoder {
 public:
  Sequence(std::vector<std::unique_ptr<Decoder>> parts, std::string source)
      : parts_(std::move(parts)), source_(std::move(source)) {}
  void run(std::vector<std::string>& tokens) const override {
    const size_t before = total(tokens);
    for (const auto& part : parts_) {
      part->run(tokens);
      check_growth(before, total(tokens), source_);
    }
  }

 private:
  std::vector<std::unique_ptr<Decoder>> parts_;
  std::string source_;
};

void clean_up(std::string& text) {
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

// At most `start` and `stop` times a character, off the ends.
void strip(std::string& text, const std::string& character, int64_t start, int64_t stop) {
  size_t begin = 0, end = text.size();
  const std::string_view all = text;
  for (; start > 0 && all.substr(begin).starts_with(character); --start) begin += character.size();
  for (; stop > 0 && all.substr(begin, end - begin).ends_with(character); --stop)
    end -= character.size();
  text = text.substr(begin, end - begin);
}

std::unique_ptr<Decoder> read_replace(const Json& j, const std::string& source) {
  return each([source, pattern = std::shared_ptr<Pattern>(read_pattern(j, source)),
               content = json_field<std::string>(j, "content", source)](std::string& t, size_t) {
    std::vector<Match> matches;
    pattern->find(t, matches);
    std::string out;
    check_growth(t.size(), content.size() * matches.size(), source);
    for (const Match& m : matches)
      out += m.is_match ? content : t.substr(m.range.begin, m.range.end - m.range.begin);
    t = std::move(out);
  });
}

std::unique_ptr<Decoder> read_metaspace(const Json& j, const std::string& source) {
  const bool prefix = json_field<bool>(j, "add_prefix_space", source, true);
  const auto scheme =
      json_field<std::string>(j, "prepend_scheme", source, prefix ? "always" : "never");
  return each(
      [mark = json_character(j, "replacement", source, "\u2581"), drops = scheme != "never"](
          std::string& t, size_t i) { replace_all(t, mark, i == 0 && drops ? "" : " "); });
}

}  // namespace

std::unique_ptr<Decoder> make_wordpiece_decoder(std::string prefix, bool cleanup) {
  return each([prefix = std::move(prefix), cleanup](std::string& t, size_t i) {
    if (i > 0) {
      if (t.starts_with(prefix))
        t.erase(0, prefix.size());
      else
        t.insert(0, 1, ' ');
    }
    if (cleanup) clean_up(t);
  });
}

std::unique_ptr<Decoder> make_byte_level_decoder() { return std::make_unique<ByteLevel>(); }

std::unique_ptr<Decoder> read_decoder(const Json& j, const std::string& source) {
  const auto type = json_field<std::string>(j, "type", source);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Decoder>> parts;
    for (const Json& part : json_list(j, "decoders", source))
      parts.push_back(read_decoder(part, source));
    return std::make_unique<Sequence>(std::move(parts), source);
  }
  if (type == "ByteLevel") return make_byte_level_decoder();
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Fuse") return std::make_unique<Fuse>();
  if (type == "Metaspace") return read_metaspace(j, source);
  if (type == "Replace") return read_replace(j, source);
  if (type == "WordPiece") {
    return make_wordpiece_decoder(json_field<std::string>(j, "prefix", source, "##"),
                                  json_field<bool>(j, "cleanup", source, true));
  }
  if (type == "BPEDecoder")
    return std::make_unique<BpeDecoder>(json_field<std::string>(j, "suffix", source, "</w>"));
  if (type == "Strip") {
    return each([character = json_character(j, "content", source, " "),
                 start = json_field<int64_t>(j, "start", source, 0),
                 stop = json_field<int64_t>(j, "stop", source, 0)](std::string& t, size_t) {
      strip(t, character, start, stop);
    });
  }
  throw UsageError(
      "{}: '{}' is not known; known: BPEDecoder, ByteFallback, ByteLevel, Fuse, Metaspace, "
      "Replace, "
      "Sequence, Strip, WordPiece",
      source, type);
}

}  // namespace graft
