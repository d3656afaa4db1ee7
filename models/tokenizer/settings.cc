#include "models/tokenizer/settings.h"

#include <filesystem>

#include "core/error.h"
#include "models/tokenizer/fields.h"

namespace graft {
namespace {

Side read_side(const Json& j, const char* key, const std::string& source, Side fallback) {
  if (json_optional(j, key) == nullptr) return fallback;
  const auto side = json_field<std::string>(j, key, source);
  if (side == "right" || side == "Right") return Side::right;
  if (side == "left" || side == "Left") return Side::left;
  throw FileError("{}: the field '{}' should be left or right but is '{}'", source, key, side);
}

int64_t read_length(const Json& j, const char* key, const std::string& source) {
  const auto n = json_field<int64_t>(j, key, source, 0);
  constexpr int64_t kMost = 1 << 30;
  if (n < 0 || n > kMost) {
    throw FileError("{}: the field '{}' should be 0 to {} but is {}", source, key, kMost, n);
  }
  return n;
}

Truncation read_truncation(const Json& j, const std::string& source) {
  Truncation t;
  t.max_length = read_length(j, "max_length", source);
  t.side = read_side(j, "direction", source, t.side);
  const auto strategy = json_field<std::string>(j, "strategy", source, "LongestFirst");
  if (strategy == "OnlyFirst")
    t.strategy = TruncationStrategy::only_first;
  else if (strategy == "OnlySecond")
    t.strategy = TruncationStrategy::only_second;
  else if (strategy != "LongestFirst") {
    throw FileError(
        "{}: the field 'strategy' should be LongestFirst, OnlyFirst or OnlySecond but is '{}'",
        source, strategy);
  }
  return t;
}

Padding read_padding(const Json& j, const std::string& source) {
  Padding p;
  if (const Json* strategy = json_optional(j, "strategy"); strategy != nullptr) {
    if (strategy->is_object())
      p.length = read_length(*strategy, "Fixed", source);
    else if (*strategy != "BatchLongest")
      throw FileError("{}: the field 'strategy' should be BatchLongest or Fixed but is {}", source,
                      shown(*strategy));
  }
  p.side = read_side(j, "direction", source, p.side);
  p.multiple_of = read_length(j, "pad_to_multiple_of", source);
  p.id = json_field<int64_t>(j, "pad_id", source, p.id);
  p.type_id = json_field<int64_t>(j, "pad_type_id", source, p.type_id);
  p.token = json_field<std::string>(j, "pad_token", source, p.token);
  return p;
}

void set_padding_token(Stages& s) {
  const int64_t id = s.settings.special.pad;
  if (id < 0) return;
  s.settings.padding.id = id;
  s.settings.padding.token = s.vocabulary.token(id);
}

}  // namespace

const std::vector<Role>& roles() {
  static const std::vector<Role> list = {
      {"pad_token", &SpecialTokens::pad, {"[PAD]", "<pad>"}},
      {"bos_token", &SpecialTokens::bos, {"<s>", "<|begin_of_text|>", "<|endoftext|>"}},
      {"eos_token", &SpecialTokens::eos, {"</s>", "<|end_of_text|>", "<|endoftext|>"}},
      {"unk_token", &SpecialTokens::unk, {"[UNK]", "<unk>"}},
      {"cls_token", &SpecialTokens::cls, {"[CLS]"}},
      {"sep_token", &SpecialTokens::sep, {"[SEP]"}},
      {"mask_token", &SpecialTokens::mask, {"[MASK]", "<mask>"}}};
  return list;
}

AddedToken special_token_field(const Json& j, const char* key, const std::string& source) {
  AddedToken t;
  t.special = true;
  const Json* value = json_optional(j, key);
  if (value == nullptr) return t;
  if (!value->is_object()) {
    t.content = json_field<std::string>(j, key, source);
    return t;
  }
  t.content = json_field<std::string>(*value, "content", source);
  t.normalized = json_field<bool>(*value, "normalized", source, false);
  t.left_strip = json_field<bool>(*value, "lstrip", source, false);
  t.right_strip = json_field<bool>(*value, "rstrip", source, false);
  t.single_word = json_field<bool>(*value, "single_word", source, false);
  return t;
}

void read_settings(const Json& j, const std::string& source, Stages& s) {
  for (const Role& role : roles()) {
    for (auto name = role.usual.rbegin(); name != role.usual.rend(); ++name) {
      if (const int32_t id = s.vocabulary.id_of(*name); id >= 0) s.settings.special.*role.id = id;
    }
  }
  set_padding_token(s);
  if (const Json* t = json_optional(j, "truncation"))
    s.settings.truncation = read_truncation(*t, source + ": truncation");
  if (const Json* p = json_optional(j, "padding"))
    s.settings.padding = read_padding(*p, source + ": padding");
}

void read_folder_settings(const std::string& folder, Stages& s) {
  for (const char* name : {"/special_tokens_map.json", "/tokenizer_config.json"}) {
    const std::string file = folder + name;
    std::error_code none;
    if (!std::filesystem::exists(file, none)) continue;
    const Json j = parse_json_file(file);
    for (const Role& role : roles()) {
      const AddedToken t = special_token_field(j, role.key, file);
      if (const int32_t id = s.vocabulary.id_of(t.content); !t.content.empty() && id >= 0)
        s.settings.special.*role.id = id;
    }
    if (json_optional(j, "pad_token") != nullptr) set_padding_token(s);
    s.settings.truncation.side = read_side(j, "truncation_side", file, s.settings.truncation.side);
    s.settings.padding.side = read_side(j, "padding_side", file, s.settings.padding.side);
    // Where a model has no limit, the field is 10^30.
    constexpr double kNoLimit = 1e9;
    const auto most = json_field<double>(j, "model_max_length", file, 0.0);
    if (most >= 1 && most < kNoLimit) s.settings.model_max_length = static_cast<int64_t>(most);
  }
}

}  // namespace graft
