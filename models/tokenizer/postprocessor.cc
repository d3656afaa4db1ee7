#include "models/tokenizer/postprocessor.h"

#include <algorithm>

#include "core/error.h"
#include "models/tokenizer/fields.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

// Of a template: an id, or all that a name there stands for.
std::vector<TemplatePiece> template_pieces(const Json& item, const Json* specials,
                                           const std::string& source,
                                           const Vocabulary& vocabulary) {
  const bool is_text = item.contains("Sequence");
  if (!is_text && !item.contains("SpecialToken")) {
    throw FileError("{}: a template has the part {}; expected Sequence or SpecialToken", source,
                    shown(item));
  }
  const Json& part = item.at(is_text ? "Sequence" : "SpecialToken");
  const auto name = json_field<std::string>(part, "id", source);
  const auto type = json_field<int64_t>(part, "type_id", source);
  if (is_text) {
    if (name != "A" && name != "B")
      throw FileError("{}: a template names the text '{}'; expected A or B", source, name);
    return {{name == "B", 0, type}};
  }
  if (specials == nullptr || !specials->is_object() || !specials->contains(name))
    return {{-1, vocabulary.required(name, source), type}};
  std::vector<TemplatePiece> pieces;
  for (const auto id : json_field<std::vector<int64_t>>(specials->at(name), "ids", source)) {
    if (id < 0 || id >= vocabulary.size()) {
      throw FileError("{}: the special token '{}' has the id {}; expected 0 to {}", source, name,
                      id, vocabulary.size() - 1);
    }
    pieces.push_back({-1, id, type});
  }
  return pieces;
}

std::vector<TemplatePiece> read_template(const Json& j, const char* key, const std::string& source,
                                         const Vocabulary& vocabulary) {
  const auto it = j.find(key);
  if (it == j.end() || !it->is_array())
    throw FileError("{}: the template '{}' is missing or not a list", source, key);
  constexpr size_t kMostPieces = 1000;
  std::vector<TemplatePiece> pieces;
  for (const Json& item : *it) {
    const auto more = template_pieces(item, json_optional(j, "special_tokens"), source, vocabulary);
    pieces.insert(pieces.end(), more.begin(), more.end());
  }
  if (pieces.size() > kMostPieces) {
    throw FileError("{}: the template '{}' has {} parts; expected at most {}", source, key,
                    pieces.size(), kMostPieces);
  }
  return pieces;
}

// ["[SEP]", 102]
int64_t token_and_id(const Json& j, const char* key, const std::string& source,
                     const Vocabulary& vocabulary) {
  const auto pair = json_field<Json>(j, key, source);
  if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() ||
      !detail::json_fits<int64_t>(pair[1]))
    throw FileError("{}: the field '{}' should be a token and its id", source, key);
  const auto token = pair[0].get<std::string>();
  const int64_t id = vocabulary.required(token, source);
  if (pair[1].get<int64_t>() != id) {
    throw FileError("{}: the field '{}' gives '{}' the id {}; in the vocabulary it has {}", source,
                    key, token, pair[1].get<int64_t>(), id);
  }
  return id;
}

void read_into(PostProcessor& p, const Json& j, const std::string& source,
               const Vocabulary& vocabulary, bool& has_template) {
  const auto type = json_field<std::string>(j, "type", source);
  if (type == "Sequence") {
    for (const Json& part : json_list(j, "processors", source))
      read_into(p, part, source, vocabulary, has_template);
    return;
  }
  if (type == "ByteLevel" || type == "RobertaProcessing") {
    if (json_field<bool>(j, "trim_offsets", source, true)) {
      p.trims_offsets = true;
      p.prefix_space = json_field<bool>(j, "add_prefix_space", source, true);
    }
    if (type == "ByteLevel") return;
  }
  if (std::exchange(has_template, true)) {
    throw FileError("{}: two post-processors put tokens around a text; expected at most one",
                    source);
  }
  if (type == "TemplateProcessing") {
    p.single = read_template(j, "single", source, vocabulary);
    p.pair = read_template(j, "pair", source, vocabulary);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    const int64_t cls = token_and_id(j, "cls", source, vocabulary);
    const int64_t sep = token_and_id(j, "sep", source, vocabulary);
    (type == "BertProcessing" ? set_bert_template : set_roberta_template)(p, cls, sep);
  } else {
    throw UsageError(
        "{}: '{}' is not known; known: BertProcessing, ByteLevel, RobertaProcessing, Sequence, "
        "TemplateProcessing",
        source, type);
  }
}

}  // namespace

int64_t PostProcessor::specials(const std::vector<TemplatePiece>& pieces) {
  return std::ranges::count_if(pieces, [](const TemplatePiece& p) { return p.sequence < 0; });
}

void PostProcessor::trim(Encoding& e) const {
  if (!trims_offsets) return;
  constexpr char32_t kSpace = 0x120;  // how byte-level tokens write it
  const auto is_space = [](char32_t c) { return c == kSpace || is_whitespace(c); };
  for (size_t k = 0; k < e.ids.size(); ++k) {
    const std::string_view token = e.tokens[k];
    auto& [begin, end] = e.offsets[k];
    int64_t leading = 0, trailing = 0;
    for (size_t i = 0; i < token.size(); ++leading) {
      const CodePoint c = code_point(token, i);
      if (!is_space(c.code)) break;
      i += c.bytes;
    }
    for (size_t i = token.size(); i > 0; ++trailing) {
      const CodePoint c = code_point_before(token, i);
      if (!is_space(c.code)) break;
      i -= c.bytes;
    }
    if (leading == 1 && prefix_space && (k == 0 || begin == 0)) leading = 0;
    begin = std::min(begin + leading, end);
    if (trailing > 0 && end >= trailing) end = std::max(end - trailing, begin);
  }
}

Encoding PostProcessor::assemble(const std::vector<TemplatePiece>& pieces, Encoding&& a,
                                 const Encoding* b, const Vocabulary& vocabulary) const {
  if (pieces.size() == 1 && pieces[0].sequence == 0) {
    a.type_ids.assign(a.ids.size(), pieces[0].type);
    return std::move(a);
  }
  Encoding out;
  size_t size = 0;
  for (const TemplatePiece& p : pieces) {
    size += p.sequence < 0 ? 1 : p.sequence == 0 ? a.ids.size() : b == nullptr ? 0 : b->ids.size();
  }
  out.ids.reserve(size);
  out.tokens.reserve(size);
  out.offsets.reserve(size);
  out.special.reserve(size);
  out.type_ids.reserve(size);
  const auto times =
      std::ranges::count_if(pieces, [](const TemplatePiece& p) { return p.sequence == 0; });
  for (const TemplatePiece& p : pieces) {
    if (p.sequence < 0) {
      out.ids.push_back(p.id);
      out.tokens.push_back(vocabulary.token(p.id));
      out.offsets.emplace_back(0, 0);
      out.special.push_back(1);
    } else if (p.sequence == 0 || b != nullptr) {
      const Encoding& e = p.sequence == 0 ? a : *b;
      out.ids.insert(out.ids.end(), e.ids.begin(), e.ids.end());
      if (p.sequence == 0 && times == 1) {
        std::ranges::move(a.tokens, std::back_inserter(out.tokens));
      } else {
        out.tokens.insert(out.tokens.end(), e.tokens.begin(), e.tokens.end());
      }
      out.offsets.insert(out.offsets.end(), e.offsets.begin(), e.offsets.end());
      out.special.insert(out.special.end(), e.special.begin(), e.special.end());
    }
    out.type_ids.resize(out.ids.size(), p.type);
  }
  return out;
}

void set_bert_template(PostProcessor& p, int64_t cls, int64_t sep) {
  p.single = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}};
  p.pair = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}, {1, 0, 1}, {-1, sep, 1}};
}

void set_roberta_template(PostProcessor& p, int64_t cls, int64_t sep) {
  p.single = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}};
  p.pair = {{-1, cls, 0}, {0, 0, 0}, {-1, sep, 0}, {-1, sep, 0}, {1, 0, 0}, {-1, sep, 0}};
}

PostProcessor read_postprocessor(const Json& j, const std::string& source,
                                 const Vocabulary& vocabulary) {
  PostProcessor p;
  bool has_template = false;
  read_into(p, j, source, vocabulary, has_template);
  return p;
}

void truncate(Encoding& e, int64_t size, Side side) {
  const auto keep = static_cast<size_t>(size);
  if (e.ids.size() <= keep) return;
  const auto cut = [&](auto& v) {
    if (side == Side::left) v.erase(v.begin(), v.end() - static_cast<std::ptrdiff_t>(keep));
    v.resize(keep);
  };
  cut(e.ids);
  cut(e.tokens);
  cut(e.offsets);
  cut(e.type_ids);
  cut(e.special);
}

void truncate(Encoding& a, Encoding& b, int64_t room, const Truncation& truncation) {
  auto na = static_cast<int64_t>(a.ids.size()), nb = static_cast<int64_t>(b.ids.size());
  const int64_t excess = na + nb - room;
  if (excess <= 0) return;
  if (truncation.strategy == TruncationStrategy::longest_first) {
    const bool swap = na > nb;  // the reference halves the room where neither text is short
    if (swap) std::swap(na, nb);
    nb = na > room ? na : std::max(na, room - na);
    if (na + nb > room) {
      na = room / 2;
      nb = na + room % 2;
    }
    if (swap) std::swap(na, nb);
  } else {
    const bool first = truncation.strategy == TruncationStrategy::only_first;
    int64_t& n = first ? na : nb;
    if (n < excess) {
      throw UsageError(
          "a pair has {} tokens more than fit, but the text that the tokenizer's truncation "
          "strategy ({}) shortens has only {}; allow more tokens, or pass a shorter {} text",
          excess, first ? "only_first" : "only_second", n, first ? "second" : "first");
    }
    n -= excess;
  }
  truncate(a, na, truncation.side);
  truncate(b, nb, truncation.side);
}

}  // namespace graft
