// Wrong fields of a model's config.json.
#include "core/atomic_file.h"
#include "models/config.h"
#include "models/model.h"
#include "tests/support/hostile.h"

namespace graft::testing {
namespace {

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

}  // namespace
}  // namespace graft::testing
