// Damaged model folders: each message says what was expected, what came, and where.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "models/batch.h"
#include "models/config.h"
#include "models/model.h"
#include "models/tokenizer.h"
#include "models/weights.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

void expect_parts(const std::string& error, const std::vector<const char*>& parts) {
  for (const char* part : parts) {
    EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
  }
}

std::string bert_folder() { return golden_dir() + "/models/bert_cls"; }

// ---- config.json

struct Change {
  const char *field, *value;  // a JSON value; null: the field is taken out
  std::vector<const char*> message;
};

std::string changed(const std::string& text, const char* field, const char* value) {
  Json j = parse_json(text, "base");
  if (value == nullptr) {
    j.erase(field);
  } else {
    j[field] = parse_json(value, "value");
  }
  return json_text(j);
}

TEST(ConfigFile, EachWrongFieldIsNamed) {
  const std::string good = read_file(bert_folder() + "/config.json");
  EXPECT_EQ(parse_config(good, "F").hidden % parse_config(good, "F").heads, 0);
  const Change cases[] = {
      {"model_type", nullptr, {"'model_type' is missing", "a string"}},
      {"model_type", "\"mamba\"", {"'mamba' is not known", "bert, roberta, distilbert"}},
      {"model_type", "7", {"'model_type' should be a string but is 7"}},
      {"architectures", "\"BertModel\"", {"'architectures' should be a list"}},
      {"architectures", "[1]", {"'architectures' should be a list"}},
      {"hidden_size", nullptr, {"'hidden_size' is missing", "an integer"}},
      {"hidden_size", "null", {"'hidden_size' should be an integer", "null"}},
      {"hidden_size", "\"32\"", {"'hidden_size' should be an integer", "\"32\""}},
      {"hidden_size", "32.5", {"'hidden_size' should be an integer", "32.5"}},
      {"hidden_size", "0", {"'hidden_size' should be 1 to 16777216 but is 0"}},
      {"hidden_size", "-32", {"'hidden_size' should be 1 to 16777216 but is -32"}},
      {"hidden_size", "9223372036854775807", {"'hidden_size' should be 1 to 16777216"}},
      {"hidden_size", "9223372036854775808", {"'hidden_size' should be an integer of 64 bits"}},
      {"hidden_size", "33", {"hidden_size 33 cannot be split over num_attention_heads 4"}},
      {"num_attention_heads", "0", {"'num_attention_heads' should be 1 to"}},
      {"num_hidden_layers", "1000000", {"'num_hidden_layers' should be 1 to 10000 but is 1000000"}},
      {"intermediate_size", "false", {"'intermediate_size' should be an integer", "false"}},
      {"vocab_size", "1e30", {"'vocab_size' should be an integer", "1e+30"}},
      {"max_position_embeddings", "-1", {"'max_position_embeddings' should be 1 to"}},
      {"type_vocab_size", "0", {"'type_vocab_size' should be 1 to"}},
      {"pad_token_id", "97", {"'pad_token_id' should be 0 to 96 but is 97"}},
      {"layer_norm_eps", "0", {"'layer_norm_eps' should be between 0 and 1 but is 0"}},
      {"layer_norm_eps", "\"tiny\"", {"'layer_norm_eps' should be a number"}},
      {"position_embedding_type",
       "\"relative_key\"",
       {"should be \"absolute\" but is \"relative_key\""}},
      {"is_decoder", "true", {"'is_decoder' should be false but is true"}},
      {"id2label", R"({"0": "a", "2": "b"})", {"id2label has the entry '2'", "each of 0 to 1"}},
      {"id2label", R"({"0": "a", "00": "b"})", {"id2label has the entry '00'"}},
      {"id2label", R"({"-1": "a"})", {"id2label has the entry '-1'"}},
      {"id2label", R"({"0": 7})", {"id2label has the entry '0'"}},
      {"num_labels", "5", {"num_labels is 5, but id2label names 3"}},
  };
  for (const Change& c : cases) {
    const std::string text = changed(good, c.field, c.value);
    const std::string error = error_of<Error>([&] { parse_config(text, "DIR/config.json"); });
    EXPECT_TRUE(error.starts_with("DIR/config.json: ")) << c.field << ": " << error;
    expect_parts(error, c.message);
  }
  for (const char* text : {"", "[]", "7", "{\"a\": 1, \"a\": 2}", "{"}) {
    EXPECT_NE(error_of([&] { parse_config(text, "F"); }), "") << text;
  }
  EXPECT_NE(error_of<UsageError>([&] {
              build_model(parse_config(changed(good, "hidden_act", "\"sin\""), "F"), {});
            }).find("there is no activation 'sin'"),
            std::string::npos);
  EXPECT_EQ(parse_config(changed(good, "a_field_of_tomorrow", "[1]"), "F").layers,
            parse_config(good, "F").layers);
}

TEST(ConfigFile, EachFamilyNamesItsOwnFields) {
  const std::pair<const char*, std::vector<Change>> cases[] = {
      {"gpt2",
       {{"n_embd", "25", {"n_embd 25 cannot be split over n_head 4"}},
        {"n_head", "0", {"'n_head' should be 1 to"}},
        {"n_inner", "-1", {"'n_inner' should be 1 to"}},
        {"n_positions", "0", {"'n_positions' should be 1 to"}},
        {"layer_norm_epsilon", "0", {"'layer_norm_epsilon' should be between 0 and 1"}},
        {"scale_attn_weights", "1", {"'scale_attn_weights' should be true or false but is 1"}},
        {"scale_attn_by_inverse_layer_idx", "\"no\"", {"should be true or false but is \"no\""}},
        {"add_cross_attention", "true", {"'add_cross_attention' should be false but is true"}},
        {"pruned_heads", "{\"0\": [1]}", {"'pruned_heads' should be {}"}}}},
      {"opt",
       {{"ffn_dim", "0", {"'ffn_dim' should be 1 to"}},
        {"num_attention_heads", "5", {"cannot be split over num_attention_heads 5"}},
        {"word_embed_proj_dim", "0", {"'word_embed_proj_dim' should be 1 to"}},
        {"word_embed_proj_dim", "\"wide\"", {"'word_embed_proj_dim' should be an integer"}},
        {"do_layer_norm_before", "0", {"'do_layer_norm_before' should be true or false"}},
        {"enable_bias", "[]", {"'enable_bias' should be true or false"}},
        {"_remove_final_layer_norm", "1", {"'_remove_final_layer_norm' should be true or false"}},
        {"layer_norm_elementwise_affine", "1", {"should be true or false but is 1"}}}},
      {"gpt_neox",
       {{"rotary_pct", "1.5", {"'rotary_pct' should be above 0 and at most 1 but is 1.5"}},
        {"rotary_pct", "0", {"'rotary_pct' should be above 0 and at most 1 but is 0"}},
        {"rotary_pct", "\"half\"", {"'rotary_pct' should be a number"}},
        {"rotary_emb_base", "-1", {"'rotary_emb_base' should be between 0 and"}},
        {"rope_scaling",
         R"({"type": "yarn", "factor": 2})",
         {"rope_scaling: the field 'type' should be default, linear or llama3 but is \"yarn\""}},
        {"rope_scaling", R"({"type": "linear"})", {"rope_scaling: the field 'factor' is missing"}},
        {"use_parallel_residual", "3", {"'use_parallel_residual' should be true or false"}},
        {"attention_bias", "\"\"", {"'attention_bias' should be true or false"}}}},
      {"llama",
       {{"head_dim", "7", {"7 of a head's 7 channels cannot be rotated in pairs"}},
        {"num_key_value_heads", "3", {"'num_key_value_heads' should be a divisor of"}},
        {"num_key_value_heads", "0", {"'num_key_value_heads' should be 1 to"}},
        {"rope_theta", "0", {"'rope_theta' should be between 0 and"}},
        {"rope_scaling", "2", {"'rope_scaling' should be an object but is 2"}},
        {"rope_scaling", "{}", {"rope_scaling: the field 'rope_type' is missing"}},
        {"rope_scaling",
         R"({"rope_type": "dynamic", "factor": 2})",
         {"'rope_type' should be default, linear or llama3 but is \"dynamic\""}},
        {"rope_scaling",
         R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1})",
         {"rope_scaling: the field 'high_freq_factor' should be between 4 and"}},
        {"rope_parameters",
         R"({"rope_type": "yarn", "rope_theta": 10000})",
         {"rope_parameters: the field 'rope_type' should be default, linear or llama3"}},
        {"rms_norm_eps", "1", {"'rms_norm_eps' should be between 0 and 1 but is 1"}},
        {"attention_bias", "0", {"'attention_bias' should be true or false"}}}},
      {"mistral", {{"sliding_window", "0", {"'sliding_window' should be 1 to"}}}},
      {"qwen2",
       {{"layer_types", R"(["full_attention"])", {"'layer_types' should be 2 entries"}},
        {"layer_types", R"(["full_attention", "linear_attention"])", {"sliding_attention or full"}},
        {"layer_types", "\"full_attention\"", {"'layer_types' should be a list"}}}},
      {"gemma",
       {{"use_bidirectional_attention", "true", {"should be false but is true"}},
        {"head_dim", "0", {"'head_dim' should be 1 to"}}}},
      {"gemma2",
       {{"query_pre_attn_scalar", "0", {"'query_pre_attn_scalar' should be between 0 and"}},
        {"attn_logit_softcapping", "-1", {"'attn_logit_softcapping' should be between 0 and"}},
        {"layer_types", R"(["sliding_attention"])", {"'layer_types' should be 2 entries"}}}},
      {"t5",
       {{"d_model", nullptr, {"'hidden_size' is missing"}},
        {"d_kv", "0", {"'d_kv' should be 1 to"}},
        {"d_ff", "\"wide\"", {"'d_ff' should be an integer"}},
        {"num_decoder_layers", "0", {"'num_decoder_layers' should be 1 to 10000"}},
        {"relative_attention_num_buckets", "3", {"should be 4 to"}},
        {"relative_attention_max_distance", "4", {"should be 5 to"}},
        {"feed_forward_proj", "\"gated-\"", {"should be an activation, or gated-"}},
        {"feed_forward_proj", "\"gated-gelu-new\"", {"should be an activation, or gated-"}},
        {"feed_forward_proj", "7", {"'feed_forward_proj' should be a string"}},
        {"decoder_start_token_id", "97", {"should be 0 to 96 but is 97"}},
        {"layer_norm_epsilon", "0", {"'layer_norm_epsilon' should be between 0 and 1"}},
        {"is_decoder", "true", {"'is_decoder' should be false but is true"}}}},
      {"deberta_v2_cls",
       {{"pos_att_type", "\"p2c|c2c\"", {"'pos_att_type' should be of c2p and p2c"}},
        {"pos_att_type", "[\"p2p\"]", {"'pos_att_type' should be of c2p and p2c"}},
        {"pos_att_type", "1", {"'pos_att_type' should be a list"}},
        {"norm_rel_ebd", "\"batch_norm\"", {"should be \"layer_norm\" but is \"batch_norm\""}},
        {"position_buckets", "1", {"'position_buckets' should be at least 2"}},
        {"position_buckets", "1000", {"should be less than twice"}},
        {"max_relative_positions", "\"far\"", {"'max_relative_positions' should be an integer"}},
        {"conv_kernel_size", "3", {"'conv_kernel_size' should be 0 but is 3"}},
        {"embedding_size", "12", {"'embedding_size' should be 24 but is 12"}},
        {"attention_head_size", "5", {"'attention_head_size' should be 6 but is 5"}},
        {"pooler_hidden_size", "5", {"'pooler_hidden_size' should be 24 but is 5"}},
        {"relative_attention", "1", {"'relative_attention' should be true or false"}},
        {"share_att_key", "0", {"'share_att_key' should be true or false"}}}},
      {"vit_cls",
       {{"image_size", "0", {"'image_size' should be 1 to"}},
        {"image_size", "[16, 16]", {"'image_size' should be an integer"}},
        {"patch_size", "5", {"'patch_size' should be a divisor of image_size 16 but is 5"}},
        {"num_channels", "-3", {"'num_channels' should be 1 to"}},
        {"qkv_bias", "\"yes\"", {"'qkv_bias' should be true or false"}},
        {"pooler_act", "\"gelu\"", {"'pooler_act' should be \"tanh\""}},
        {"pooler_output_size", "7", {"'pooler_output_size' should be 24"}}}},
  };
  for (const auto& [model, changes] : cases) {
    const std::string good = read_file(golden_dir() + "/models/" + model + "/config.json");
    EXPECT_EQ(parse_config(good, "F").unknown, std::vector<std::string>{}) << model;
    for (const Change& c : changes) {
      SCOPED_TRACE(std::string(model) + ": " + c.field);
      const std::string text = changed(good, c.field, c.value);
      expect_parts(error_of<FileError>([&] { parse_config(text, "DIR/config.json"); }), c.message);
    }
  }
  // Null is not set.
  const std::string deberta = read_file(golden_dir() + "/models/deberta_v2_cls/config.json");
  for (const char* field : {"norm_rel_ebd", "share_att_key", "pooler_hidden_act", "pos_att_type",
                            "position_buckets", "relative_attention"}) {
    const ModelConfig config = parse_config(changed(deberta, field, "null"), "F");
    EXPECT_GT(build_model(config, {.head = Head::classification}).nodes().size(), 0u) << field;
  }
  const std::string llama = read_file(golden_dir() + "/models/llama/config.json");
  for (const char* field : {"attention_bias", "mlp_bias", "rope_scaling", "rope_parameters"}) {
    const ModelConfig config = parse_config(changed(llama, field, "null"), "F");
    EXPECT_GT(build_model(config, {}).nodes().size(), 0u) << field;
  }
}

TEST(ConfigFile, RopeParametersHoldWhatTwoFieldsHeld) {
  const std::string llama = read_file(golden_dir() + "/models/llama/config.json");
  Json older = parse_json(llama, "F"), newer = older;
  older["rope_theta"] = 500;
  older["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 4}};
  newer.erase("rope_theta");
  newer["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 500}};
  const auto frequencies = [](const Json& j) {
    return parse_config(json_text(j), "F").rope_frequencies;
  };
  EXPECT_EQ(frequencies(newer), frequencies(older));
  EXPECT_EQ(frequencies(newer).at(0), 0.25);
}

TEST(ConfigFile, AMissingFileIsNamed) {
  const TemporaryFolder folder;
  expect_parts(error_of([&] { load_config(folder.path()); }),
               {(folder / "config.json").c_str(), "No such file"});
}

// ---- model.safetensors

TEST(ModelFile, WrongTensorsAreNamedWithBothShapes) {
  const TemporaryFolder folder;
  const ModelConfig config = load_config(bert_folder());
  const Graph graph = build_model(config, {.head = Head::classification});
  std::map<std::string, Tensor> good;
  const SafeTensors file = SafeTensors::open(bert_folder() + "/model.safetensors");
  for (const auto& [name, t] : file.tensors()) good[name] = t;
  const std::string query = "bert.encoder.layer.0.attention.self.query.weight";
  const Tensor& weight = good.at(query);
  const int64_t n = weight.shape()[0];

  const std::string expected = fmt::format("f32[{}, {}]", n, n);
  const struct {
    Tensor replacement;  // empty: the tensor is taken out
    std::vector<std::string> message;
  } cases[] = {
      {{}, {"there is no tensor '" + query + "'", expected}},
      {Tensor(DType::f32, {n, n + 1}), {query, expected, fmt::format("is f32[{}, {}]", n, n + 1)}},
      {Tensor(DType::f32, {n * n}), {query, expected, fmt::format("is f32[{}]", n * n)}},
      {Tensor(DType::i64, {n, n}), {query, expected, fmt::format("is i64[{}, {}]", n, n)}},
  };
  for (const auto& c : cases) {
    auto tensors = good;
    tensors.erase(query);
    if (!c.replacement.empty()) tensors[query] = c.replacement;
    save_safetensors(folder / "model.safetensors", tensors);
    ParamStore store;
    const std::string error = error_of([&] { load_parameters(folder.path(), graph, store); });
    EXPECT_TRUE(error.starts_with(folder / "model.safetensors: ")) << error;
    for (const std::string& part : c.message) expect_parts(error, {part.c_str()});
  }
  std::filesystem::remove(folder / "model.safetensors");
  ParamStore store;
  expect_parts(error_of([&] { load_parameters(folder.path(), graph, store); }),
               {(folder / "model.safetensors").c_str(), "No such file"});
}

// A folder of the shards a and b with a tensor of 4 bytes each, x and y, and an index.
TEST(ShardIndexFile, EachDamageIsNamed) {
  const struct {
    const char *index, *message;
  } cases[] = {
      {R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})", ""},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": 4.0}})", ""},
      {R"({"weight_map": {"x": "a.safetensors", "y": "c.safetensors"}})",
       "the shard 'c.safetensors' with 1 tensors ('y', ...) is not in the folder"},
      {R"({"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}})",
       "tensor 'y' should be in 'a.safetensors', which does not hold it"},
      {R"({"weight_map": {"x": "a.safetensors", "z": "b.safetensors"}})",
       "tensor 'z' should be in 'b.safetensors', which does not hold it"},
      {R"({"weight_map": {"x": "cut.safetensors"}})", "cut.safetensors: 5 bytes are too few"},
      {R"({"weight_map": {"x": "../a.safetensors"}})", "is in \"../a.safetensors\""},
      {R"({"weight_map": {"x": "/etc/a.safetensors"}})", "is in \"/etc/a.safetensors\""},
      {R"({"weight_map": {"x": "sub\\a.safetensors"}})", "of the same folder"},
      {R"({"weight_map": {"x": "a\u0000.safetensors"}})", "of the same folder"},
      {R"({"weight_map": {"x": ""}})", "is in \"\""},
      {R"({"weight_map": {"x": ".."}})", "is in \"..\""},
      {R"({"weight_map": {"x": "pytorch_model.bin"}})", "should be in a .safetensors file"},
      {R"({"weight_map": {"x": 7}})", "is in 7"},
      {R"({"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}})",
       "the key 'x' stands twice"},
      {R"({"weight_map": {}})", "'weight_map' is missing"},
      {R"({"weight_map": ["a.safetensors"]})", "'weight_map' is missing or not an object"},
      {R"([])", "'weight_map' is missing"},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": 7})", "'metadata' is not an object"},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": "4"}})",
       "'total_size' should be a number of bytes but is \"4\""},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": -4}})", "but is -4"},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": 4000}})",
       "total_size is 4000, but the tensors take 4 bytes"},
  };
  const TemporaryFolder folder;
  save_safetensors(folder / "a.safetensors", {{"x", Tensor(DType::f32, {1})}});
  save_safetensors(folder / "b.safetensors", {{"y", Tensor(DType::f32, {1})}});
  write_file(folder / "cut.safetensors", "\x10 {\"x");
  for (const auto& c : cases) {
    write_file(folder / std::string(kShardIndexFile), c.index);
    const std::string error = error_of([&] { open_weights(folder.path()); });
    EXPECT_EQ(error.empty(), *c.message == '\0') << c.index << ": " << error;
    EXPECT_TRUE(error.empty() || error.starts_with(folder.path())) << error;
    expect_parts(error, {c.message});
  }
}

TEST(ModelFile, PickledWeightsAreNotRead) {
  const TemporaryFolder folder;
  write_file(folder / "pytorch_model.bin", "");
  expect_parts(error_of([&] { open_weights(folder.path()); }),
               {"pytorch_model.bin", "safe_serialization"});
}

TEST(ModelFile, TokensBeyondTheModelsTablesAreRefused) {
  const ModelConfig config = load_config(bert_folder());
  std::map<std::string, Tensor> inputs;
  auto input = [&](const std::string& name) {
    return &inputs.try_emplace(name, DType::i64, Shape{1, 2}).first->second;
  };
  auto error = [&](std::vector<int64_t> ids, std::vector<int64_t> types) {
    const TokenRow row{ids, types};
    return error_of<UsageError>([&] { fill_inputs(config, std::span(&row, 1), 2, {}, input); });
  };
  EXPECT_EQ(error({1, 2}, {0, 1}), "");
  expect_parts(error({1, 97}, {0, 1}), {"token id 97", "vocab_size of 97", "belong together"});
  expect_parts(error({1, -1}, {0, 1}), {"token id -1"});
  expect_parts(error({1, 2}, {0, 2}), {"token type 2", "type_vocab_size of 2"});
}

// ---- tokenizer.json and vocab.txt

constexpr const char* kTokenizer = R"({
  "added_tokens": [{"id": 1, "content": "[CLS]", "special": true},
                   {"id": 2, "content": "[SEP]", "special": true}],
  "normalizer": {"type": "BertNormalizer"},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
               {"Sequence": {"id": "A", "type_id": 0}},
               {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]},
  "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4}}
})";

// The value at a JSON pointer replaced; null: taken out.
std::string patched(const char* pointer, const char* value) {
  Json j = parse_json(kTokenizer, "base");
  const Json::json_pointer at(pointer);
  if (value == nullptr) {
    j.at(at.parent_pointer()).erase(at.back());
  } else {
    j[at] = parse_json(value, "value");
  }
  return json_text(j);
}

TEST(TokenizerFile, EachDamageIsNamed) {
  EXPECT_EQ(parse_tokenizer_json(kTokenizer, "F")->encode("ab x").ids,
            (std::vector<int64_t>{1, 3, 4, 0, 2}));
  const Change cases[] = {
      {"/model", nullptr, {"'model' is missing"}},
      {"/model", "[]", {"'model' is missing or not an object"}},
      {"/model/type", "\"GPT\"", {"'GPT' is not known", "WordPiece"}},
      {"/model/vocab", nullptr, {"'vocab' is missing"}},
      {"/model/vocab", "[\"a\"]", {"'vocab' is missing or not an object"}},
      {"/model/vocab/a", "\"3\"", {"the id of 'a' is not an integer"}},
      {"/model/vocab/a", "18446744073709551615", {"the id of 'a' is not an integer"}},
      {"/model/vocab/a", "-3", {"'a' has the id -3"}},
      {"/model/vocab/a", "9000000", {"'a' has the id 9000000", "5 tokens", "expected 0 to"}},
      {"/model/vocab/a", "4", {"the id 4 belongs to both 'a' and '##b'"}},
      {"/model/vocab/[UNK]", nullptr, {"the vocabulary has no token '[UNK]'"}},
      {"/model/unk_token", "\"<unk>\"", {"the vocabulary has no token '<unk>'"}},
      {"/model/max_input_chars_per_word", "0", {"should be 1 to 1000 but is 0"}},
      {"/model/max_input_chars_per_word", "1000000000", {"should be 1 to 1000"}},
      {"/normalizer/type", "\"NFX\"", {"normalizer: 'NFX' is not known", "NFKC"}},
      {"/normalizer/lowercase", "1", {"'lowercase' should be true or false but is 1"}},
      {"/added_tokens/0/id", "7.5", {"'id' should be an integer"}},
      {"/added_tokens/0/id", "9", {"token '[CLS]' has two ids, 1 and 9"}},
      {"/added_tokens/0/id", "2", {"the id 2 belongs to both '[SEP]' and '[CLS]'"}},
      {"/added_tokens/0/content", "\"\"", {"an added token has no content"}},
      {"/added_tokens/0", "7", {"'content' is missing"}},
      {"/post_processor/type", "\"Roberta\"", {"post_processor: 'Roberta' is not known"}},
      {"/post_processor/single", nullptr, {"the template 'single' is missing"}},
      {"/post_processor/pair", "7", {"the template 'pair' is missing or not a list"}},
      {"/post_processor/single/0", "7", {"a template has the part 7"}},
      {"/post_processor/single/0/SpecialToken/id", "\"[BOS]\"", {"no token '[BOS]'"}},
      {"/post_processor/single/1/Sequence/id", "\"C\"", {"names the text 'C'; expected A or B"}},
      {"/post_processor/single/1/Sequence/type_id", "\"0\"", {"'type_id' should be an integer"}},
      {"/post_processor",
       R"({"type": "BertProcessing", "cls": "[CLS]", "sep": ["[SEP]", 2]})",
       {"'cls' should be a token and its id"}},
      {"/post_processor",
       R"({"type": "BertProcessing", "cls": ["[BOS]", 1], "sep": ["[SEP]", 2]})",
       {"no token '[BOS]'"}},
  };
  for (const Change& c : cases) {
    const std::string error =
        error_of<Error>([&] { parse_tokenizer_json(patched(c.field, c.value), "T.json"); });
    EXPECT_TRUE(error.starts_with("T.json: ")) << c.field << ": " << error;
    expect_parts(error, c.message);
  }
  EXPECT_NE(error_of([] {
              parse_tokenizer_json(R"({"model": {"vocab": {"[UNK]": 0, "a": 1, "a": 2}}})", "F");
            }).find("the key 'a' stands twice"),
            std::string::npos);
}

// Other stages, put in the place of the field that the pointer names.
TEST(TokenizerFile, EachStageNamesItsFieldAndWhatIsWrong) {
  const Change cases[] = {
      {"/model", R"({"type": "BPE", "vocab": {"a": 0}})", {"model", "'merges' is missing"}},
      {"/model",
       R"({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b c"]})",
       {"merge 0 should be two tokens", "a b c"}},
      {"/model",
       R"({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]})",
       {"merge 0 is of 'a' and 'b'", "no token 'ab'"}},
      {"/model",
       R"({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "?"})",
       {"no token '?'"}},
      {"/model", R"({"type": "Unigram", "vocab": [["a", "b"]]})", {"entry 0 of 'vocab'"}},
      {"/model",
       R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1})",
       {"'unk_id'", "0 to 0"}},
      {"/model", R"({"type": "WordLevel", "vocab": {"a": 0}})", {"no token '[UNK]'"}},
      {"/normalizer", R"({"type": "Sequence"})", {"'normalizers' is missing or not a list"}},
      {"/normalizer",
       R"({"type": "Replace", "pattern": {"Regex": "a("}, "content": ""})",
       {"normalizer: pattern", "'a(' is not a regular expression", "parenthesis"}},
      {"/normalizer",
       R"({"type": "Replace", "pattern": "a", "content": ""})",
       {"'pattern' should be"}},
      {"/normalizer",
       R"({"type": "Precompiled", "precompiled_charsmap": "a*"})",
       {"'precompiled_charsmap' is not text in base 64"}},
      {"/normalizer",
       R"({"type": "Precompiled", "precompiled_charsmap": "/////w=="})",
       {"the character map has 4 bytes", "it is damaged"}},
      {"/pre_tokenizer", R"({"type": "Spaces"})", {"pre_tokenizer: 'Spaces' is not known"}},
      {"/pre_tokenizer",
       R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Dropped"})",
       {"'behavior' should be Removed", "'Dropped'"}},
      {"/pre_tokenizer",
       R"({"type": "Metaspace", "replacement": "__"})",
       {"'replacement' should be one character but is '__'"}},
      {"/pre_tokenizer",
       R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
       {"'prepend_scheme' should be always, first or never"}},
      {"/decoder", R"({"type": "CTC"})", {"decoder: 'CTC' is not known"}},
      {"/post_processor",
       R"({"type": "RobertaProcessing", "cls": ["[CLS]", 7], "sep": ["[SEP]", 2]})",
       {"'cls' gives '[CLS]' the id 7; in the vocabulary it has 1"}},
      {"/post_processor",
       R"({"type": "Sequence", "processors": [
            {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
            {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}]})",
       {"two post-processors"}},
      {"/post_processor/special_tokens",
       R"({"[CLS]": {"id": "[CLS]", "ids": [99], "tokens": ["[CLS]"]}})",
       {"'[CLS]' has the id 99"}},
      {"/truncation", R"({"max_length": -1})", {"truncation", "'max_length' should be 0 to"}},
      {"/truncation", R"({"strategy": "None"})", {"'strategy' should be LongestFirst"}},
      {"/padding", R"({"direction": "up"})", {"padding", "'direction' should be left or right"}},
  };
  for (const Change& c : cases) {
    const std::string error =
        error_of<Error>([&] { parse_tokenizer_json(patched(c.field, c.value), "T.json"); });
    EXPECT_TRUE(error.starts_with("T.json: ")) << c.value << ": " << error;
    expect_parts(error, c.message);
  }
}

// Files that read well and would take all time or memory there is.
TEST(TokenizerFile, WhatNoTextShouldCostIsRefused) {
  const std::string letters(60, 'a');
  std::string doubling = R"({"type": "Sequence", "normalizers": [)";
  for (int k = 0; k < 40; ++k) {
    doubling += k > 0 ? "," : "";
    doubling += R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  }
  doubling += "]}";
  std::string bytes = R"({"type": "Sequence", "pretokenizers": [)";
  for (int k = 0; k < 60; ++k) bytes += std::string(k > 0 ? "," : "") + R"({"type": "ByteLevel"})";
  bytes += "]}";
  const Change cases[] = {
      {"/pre_tokenizer",
       R"re({"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated"})re",
       {"T.json: pre_tokenizer: pattern", "'(a|aa)+$' cannot be run", "limit"}},
      {"/normalizer", doubling.c_str(), {"T.json: normalizer", "lengthen a text"}},
      {"/pre_tokenizer", bytes.c_str(), {"T.json: pre_tokenizer", "lengthen a text"}},
      {"/model", R"({"type": "Unigram", "vocab": [["b", 0]]})", {"no token for", "'unk_id'"}},
  };
  for (const Change& c : cases) {
    const auto t = parse_tokenizer_json(patched(c.field, c.value), "T.json");
    const std::string text = letters + "\u00E9!";
    expect_parts(error_of([&] { t->encode(text); }), c.message);
    expect_parts(error_of([&] { t->encode_batch(std::vector<std::string>(40, text)); }), c.message);
    EXPECT_NO_THROW(t->encode(""));
  }
  Json j = parse_json(kTokenizer, "base");
  j["added_tokens"].push_back({{"id", 5}, {"content", std::string(1001, 'x')}});
  expect_parts(error_of([&] { parse_tokenizer_json(json_text(j), "F"); }),
               {"an added token has 1001 bytes"});
  j = parse_json(kTokenizer, "base");
  j["normalizer"] = {{"type", "Replace"},
                     {"pattern", {{"Regex", std::string(300, '(') + std::string(300, ')')}}},
                     {"content", ""}};
  expect_parts(error_of([&] { parse_tokenizer_json(json_text(j), "F"); }),
               {"is not a regular expression", "depth"});
}

TEST(TokenizerFile, WithoutPostProcessorNothingStandsAroundAText) {
  const auto t = parse_tokenizer_json(patched("/post_processor", "null"), "F");
  EXPECT_EQ(t->encode("a").ids, (std::vector<int64_t>{3}));
  EXPECT_EQ(t->encode_pair("a", "a").type_ids, (std::vector<int64_t>{0, 1}));
  const auto bert = parse_tokenizer_json(
      patched("/post_processor",
              R"({"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]})"),
      "F");
  EXPECT_EQ(bert->encode_pair("a", "a").ids, (std::vector<int64_t>{1, 3, 2, 3, 2}));
}

TEST(VocabularyFile, SpecialTokensStandOnce) {
  const std::pair<const char*, std::vector<const char*>> cases[] = {
      {"", {"V: the vocabulary has no token '[CLS]'"}},
      {"[UNK]\n[SEP]\na\n", {"V: the vocabulary has no token '[CLS]'"}},
      {"[UNK]\n[CLS]\na\n", {"V: the vocabulary has no token '[SEP]'"}},
      {"[CLS]\n[SEP]\na\n", {"V: the vocabulary has no token '[UNK]'"}},
      {"[UNK]\n[CLS]\n[SEP]\n[CLS]\n", {"V:4: the special token '[CLS]' stands twice"}},
  };
  for (const auto& [text, message] : cases)
    expect_parts(error_of([&text = text] { parse_vocabulary(text, "V"); }), message);
  const auto t = parse_vocabulary("[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\nb\r\na", "V");
  EXPECT_EQ(t->encode("a B").ids, (std::vector<int64_t>{1, 5, 4, 2}));
  EXPECT_EQ(parse_vocabulary("[UNK]\n[CLS]\n[SEP]\nb\n", "V", false)->encode("B").ids,
            (std::vector<int64_t>{1, 0, 2}));
}

TEST(TokenizerFile, AFolderWithoutOneSaysSo) {
  const TemporaryFolder folder;
  expect_parts(error_of([&] { load_tokenizer(folder.path()); }),
               {folder.path().c_str(), "neither tokenizer.json nor vocab.txt"});
  write_file(folder / "vocab.txt", "[UNK]\n[CLS]\n[SEP]\n");
  write_file(folder / "tokenizer_config.json", R"({"do_lower_case": "yes"})");
  expect_parts(error_of([&] { load_tokenizer(folder.path()); }),
               {"tokenizer_config.json", "'do_lower_case' should be true or false"});
}

}  // namespace
}  // namespace graft::testing
