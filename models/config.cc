#include "models/config.h"

#include <charconv>
#include <filesystem>
#include <optional>

#include "core/atomic_file.h"
#include "core/error.h"
#include "models/family.h"

namespace graft {
namespace {

constexpr int64_t kMostLayers = 10000, kMostLabels = 1'000'000;

// {"0": "NEGATIVE", "1": "POSITIVE"}
std::vector<std::string> labels_by_id(const Json& names, const std::string& file) {
  std::vector<std::optional<std::string>> found(names.size());
  for (const auto& [key, value] : names.items()) {
    size_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id >= found.size() || found[id] ||
        !value.is_string()) {
      throw FileError("{}: id2label has the entry '{}'; expected one name for each of 0 to {}",
                      file, key, found.size() - 1);
    }
    found[id] = value.get<std::string>();
  }
  std::vector<std::string> labels;
  for (auto& label : found) labels.push_back(std::move(*label));
  return labels;
}

std::vector<std::string> labels_of(ConfigReader& r) {
  std::vector<std::string> labels;
  r.ignore({"label2id"});
  if (r.has("id2label") && r.raw("id2label").is_object()) {
    labels = labels_by_id(r.raw("id2label"), r.file());
    const auto n = r.integer("num_labels", 0, kMostLabels, static_cast<int64_t>(labels.size()));
    if (n != static_cast<int64_t>(labels.size())) {
      throw FileError("{}: num_labels is {}, but id2label names {}", r.file(), n, labels.size());
    }
    return labels;
  }
  for (int64_t i = 0, n = r.integer("num_labels", 0, kMostLabels, 2); i < n; ++i) {
    labels.push_back(fmt::format("LABEL_{}", i));
  }
  return labels;
}

// The first of some names that a file uses; what is missing is missed under the first.
const char* spelled(const ConfigReader& r, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (r.has(name)) return name;
  }
  return *names.begin();
}

// What every family has, under the names that are in use.
void read_common(ConfigReader& r, ModelConfig& c) {
  const char* const hidden = spelled(r, {"hidden_size", "dim", "n_embd", "d_model"});
  const char* const heads = spelled(r, {"num_attention_heads", "n_heads", "n_head", "num_heads"});
  c.hidden = r.size(hidden);
  c.layers = r.integer(spelled(r, {"num_hidden_layers", "n_layers", "n_layer", "num_layers"}), 1,
                       kMostLayers);
  c.heads = r.size(heads);
  if (const char* size = spelled(r, {"head_dim", "d_kv"}); r.has(size)) {
    c.head_size = r.size(size);
  } else if (c.hidden % c.heads != 0) {
    throw FileError("{}: {} {} cannot be split over {} {}", r.file(), hidden, c.hidden, heads,
                    c.heads);
  } else {
    c.head_size = c.hidden / c.heads;
  }
  c.kv_heads = r.size("num_key_value_heads", c.heads);
  if (c.heads % c.kv_heads != 0)
    r.fail("num_key_value_heads", fmt::format("a divisor of {} {}", heads, c.heads));
  const char* const inner =
      spelled(r, {"intermediate_size", "hidden_dim", "n_inner", "ffn_dim", "d_ff"});
  const bool has_default = c.model_type == "gpt2";  // which writes null for it
  c.intermediate = has_default ? r.size(inner, 4 * c.hidden) : r.size(inner);
  if (c.family->kind == Family::Kind::image) return;
  c.vocab = r.size("vocab_size");
  c.pad_id = r.token("pad_token_id", c.vocab);
  c.bos_id = r.token("bos_token_id", c.vocab);
  c.eos_ids = r.tokens("eos_token_id", c.vocab);
  c.decoder_start_id = r.token("decoder_start_token_id", c.vocab);
}

// Of training, generation and other programs: nothing that a graph depends on.
void ignore_common(ConfigReader& r) {
  r.ignore({"_name_or_path",
            "transformers_version",
            "torch_dtype",
            "dtype",
            "use_cache",
            "output_attentions",
            "output_hidden_states",
            "return_dict",
            "is_encoder_decoder",
            "tokenizer_class",
            "problem_type",
            "initializer_range",
            "gradient_checkpointing",
            "attn_implementation",
            "_attn_implementation_autoset",
            "task_specific_params",
            "finetuning_task",
            "torchscript",
            "auto_map",
            "custom_pipelines",
            "keys_to_ignore_at_inference",
            "model_max_length",
            "n_ctx",
            "num_labels",
            "is_decoder",
            "cross_attention_hidden_size",
            "tie_encoder_decoder",
            "chunk_size_feed_forward",
            "use_bfloat16",
            "tf_legacy_loss"});
  // Older files hold generation's settings, too.
  r.ignore({"bad_words_ids",
            "begin_suppress_tokens",
            "diversity_penalty",
            "do_sample",
            "early_stopping",
            "encoder_no_repeat_ngram_size",
            "exponential_decay_length_penalty",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "length_penalty",
            "max_length",
            "max_new_tokens",
            "min_length",
            "no_repeat_ngram_size",
            "num_beam_groups",
            "num_beams",
            "num_return_sequences",
            "output_scores",
            "prefix",
            "remove_invalid_values",
            "repetition_penalty",
            "return_dict_in_generate",
            "sep_token_id",
            "suppress_tokens",
            "temperature",
            "top_k",
            "top_p",
            "typical_p"});
  r.only("add_cross_attention", false);
  r.only("pruned_heads", Json::object());
}

}  // namespace

ModelConfig parse_config(std::string_view text, const std::string& file) {
  ModelConfig c;
  c.raw = parse_json(text, file);
  ConfigReader r(c.raw, file);
  c.model_type = r.text("model_type");
  if (const auto classes = r.texts("architectures"); !classes.empty()) c.architecture = classes[0];
  c.family = &find_family(c.model_type, file);
  read_common(r, c);
  c.family->read(r, c);
  c.labels = labels_of(r);
  ignore_common(r);
  c.unknown = r.unread();
  return c;
}

ModelConfig load_config(const std::string& path) {
  std::error_code none;
  const bool folder = std::filesystem::is_directory(path, none);
  const std::string file = folder ? path + "/config.json" : path;
  ModelConfig c = parse_config(read_file(file), file);
  if (folder) c.folder = path;
  return c;
}

}  // namespace graft
