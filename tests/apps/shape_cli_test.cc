// What the command line says from shapes alone: plans and benches of every kind of model and task.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/apps/program.h"
#include "tests/support/schedule_checker.h"

namespace graft::testing {
namespace {

TEST(ShapeCli, EveryMethodIsPlannedAndDrawnFromShapes) {
  const TemporaryFolder dir;
  const std::string model = " --model " + minilm_folder() + "/config.json --batch 2 --length 8";
  const Json methods = graft("methods --json", Streams::out).json().at("methods");
  for (const Json& m : methods) {
    const auto name = m.at("name").get<std::string>();
    const Result plan = graft("plan --json --method " + name + model);
    EXPECT_EQ(plan.status, 0) << name << plan.output;
    const Result drawn =
        graft("graph --json --backward --output " + (dir / "g.dot") + " --method " + name + model);
    ASSERT_EQ(drawn.status, 0) << name << drawn.output;
    EXPECT_GT(drawn.json().at("backward").get<int64_t>(), 0) << name;
  }
}

TEST(ShapeCli, PlanCountsWithoutWeights) {
  const Json j =
      graft("plan --json --set r=4 --model " + minilm_folder() + "/config.json", Streams::out)
          .json();
  EXPECT_EQ(j.at("trainable_parameters"), 6 * 2 * 4 * (384 + 384));
  size_t sum = 0;
  for (const auto& [name, bytes] : j.at("parts").items()) sum += bytes.get<size_t>();
  EXPECT_EQ(sum, j.at("peak_bytes").get<size_t>());
  EXPECT_LE(j.at("minimum_budget_bytes").get<size_t>(), j.at("peak_bytes").get<size_t>());
  EXPECT_GT(j.at("flops_per_step").get<double>(), 8e10);
}

// All gradients wait for their common norm, or none does.
TEST(ShapeCli, WithoutClippingGradientsComeAndGo) {
  const auto plan = [](const char* options) {
    return graft("plan --json --method full --batch 1 --length 8 --model " + minilm_folder() +
                     "/config.json " + options,
                 Streams::out)
        .json();
  };
  const Json clipped = plan(""), updated = plan("--max-grad-norm 0");
  const size_t weights = clipped.at("parts").at("weights").get<size_t>();
  EXPECT_GT(clipped.at("parts").at("gradients").get<size_t>(), 0.99 * static_cast<double>(weights));
  // The table of tokens is half of the model, and its gradient the last.
  EXPECT_LT(updated.at("peak_bytes").get<double>(),
            clipped.at("peak_bytes").get<double>() - 0.4 * static_cast<double>(weights));
  EXPECT_EQ(clipped.at("max_grad_norm"), 1);
  EXPECT_EQ(updated.at("max_grad_norm"), 0);
}

// Half of the model are tables of embeddings, whose moments stay floats.
TEST(ShapeCli, MomentsInEightBits) {
  const auto parts = [](const char* options) {
    return graft("plan --json --method full --batch 1 --length 8 --model " + minilm_folder() +
                     "/config.json " + options,
                 Streams::out)
        .json()
        .at("parts");
  };
  const Json floats = parts(""), codes = parts("--optim adamw_8bit");
  const double tables = 8.0 * 384 * (30522 + 512 + 2),
               others = floats.at("optimizer").get<double>() - tables;
  EXPECT_NEAR(codes.at("optimizer").get<double>(), tables + others * (2 + 8.0 / 256) / 8,
              0.01 * others);
  EXPECT_EQ(codes.at("weights"), floats.at("weights"));
  EXPECT_EQ(graft("plan --optim adam9 --method full --model " + minilm_folder()).status, 2);
}

TEST(ShapeCli, BenchRunsAsPlanned) {
  const std::string step =
      "--json --method houlsby --batch 4 --length 16 --model " + minilm_folder() + "/config.json";
  for (const std::string option : {"", " --dropout"}) {
    const Json j = graft("bench --steps 2 " + step + option, Streams::out).json();
    EXPECT_EQ(j.at("peak_bytes"), j.at("planned_peak_bytes"));
    EXPECT_LE(j.at("seconds_per_step_min").get<double>(), j.at("seconds_per_step").get<double>());
    EXPECT_EQ(graft("plan " + step + option, Streams::out).json().at("peak_bytes"),
              j.at("peak_bytes"));
  }
}

// Configurations of 24 channels, 96 tokens and 3 classes.
const std::map<std::string, Json>& models() {
  static const Json text = {{"hidden_size", 24},      {"intermediate_size", 48},
                            {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                            {"vocab_size", 96},       {"max_position_embeddings", 64},
                            {"type_vocab_size", 2},   {"num_labels", 3}};
  auto with = [](Json j, const Json& more) {
    j.update(more);
    return j;
  };
  static const std::map<std::string, Json> all = {
      {"encoder", with(text, {{"model_type", "bert"}})},
      {"decoder", with(text, {{"model_type", "llama"}})},
      {"classifying decoder", with(text, {{"model_type", "llama"},
                                          {"architectures", {"LlamaForSequenceClassification"}}})},
      {"encoder-decoder", with(text, {{"model_type", "t5"}, {"d_kv", 6}, {"d_ff", 48}})},
      {"encoder of two",
       with(text, {{"model_type", "t5"}, {"d_ff", 48}, {"architectures", {"T5EncoderModel"}}})},
      {"picture", with(text, {{"model_type", "vit"}, {"image_size", 16}, {"patch_size", 4}})},
  };
  return all;
}

// Which head a model is trained under, by default and where another is asked for.
struct Head {
  const char *model, *options, *kind;
  int64_t length, target_length;
  int64_t trained;  // numbers of the head, where it is new to the model
};

TEST(ShapeCli, EveryKindOfModelIsPlannedAndTimedUnderItsHead) {
  const Head heads[] = {
      {"encoder", "", "classification", 64, 0, 3 * 25},
      {"encoder", "--labels 5 --length 7", "classification", 7, 0, 5 * 25},
      {"encoder", "--task-kind regression", "regression", 64, 0, 25},
      {"decoder", "--length 9", "language", 9, 0, 0},
      {"decoder", "--task-kind classification --labels 2", "classification", 64, 0, 2 * 24},
      {"classifying decoder", "", "classification", 64, 0, 3 * 24},
      {"classifying decoder", "--task-kind language", "language", 64, 0, 0},
      {"encoder-decoder", "--length 9", "language", 9, 9, 0},
      {"encoder-decoder", "--length 9 --target-length 3", "language", 9, 3, 0},
      {"encoder-decoder", "--task-kind regression", "regression", 64, 0, 25},
      {"encoder of two", "", "classification", 64, 0, 3 * 25},
      {"picture", "", "classification", 17, 0, 3 * 25},
      {"picture", "--task-kind regression", "regression", 17, 0, 25},
  };
  const TemporaryFolder dir;
  for (const Head& h : heads) {
    SCOPED_TRACE(fmt::format("{} {}", h.model, h.options));
    write_json_file(dir / "config.json", models().at(h.model));
    const std::string options =
        fmt::format(" --json --batch 2 {} --model {}/config.json", h.options, dir.path());
    if (h.trained > 0) {
      const Json plan = graft("plan --method head" + options, Streams::out).json();
      EXPECT_EQ(plan.at("adapter_bytes"), 4 * h.trained);
      EXPECT_EQ(plan.at("trainable_parameters"), 0);
    }
    const Result timed = graft("bench --steps 2 --method lora" + options, Streams::out);
    ASSERT_EQ(timed.status, 0) << timed.output;
    const Json j = timed.json();
    EXPECT_EQ(j.at("task_kind"), h.kind);
    EXPECT_EQ(j.at("length"), h.length);
    EXPECT_EQ(j.at("target_length"), h.target_length);
    EXPECT_EQ(j.at("peak_bytes"), j.at("planned_peak_bytes"));
    const Result drawn = graft("graph --json --backward --method lora --output " + (dir / "g.txt") +
                               " --task-kind " + h.kind + " --model " + (dir / "config.json"));
    EXPECT_EQ(drawn.status, 0) << drawn.output;
  }
}

// Totals that are known, and a plan that takes no more than the shapes do.
TEST(ShapeCli, LargeModelsAreCountedWithoutWeights) {
  const Json llama = {
      {"model_type", "llama"},          {"vocab_size", 32000},     {"hidden_size", 4096},
      {"intermediate_size", 11008},     {"num_hidden_layers", 32}, {"num_attention_heads", 32},
      {"max_position_embeddings", 4096}};
  Json larger = llama;
  larger.update({{"hidden_size", 8192},
                 {"intermediate_size", 28672},
                 {"num_hidden_layers", 80},
                 {"num_attention_heads", 64},
                 {"num_key_value_heads", 8}});
  const struct {
    Json config;
    int64_t total, trainable;  // LoRA of rank 8 on queries and values
  } models[] = {
      {llama, 6738415616, 32 * 2 * 8 * 2 * 4096},
      {larger, 68976648192, 80 * 8 * (2 * 8192 + 8192 + 1024)},
      {{{"model_type", "t5"},
        {"vocab_size", 32128},
        {"d_model", 1024},
        {"d_kv", 128},
        {"d_ff", 65536},
        {"num_layers", 24},
        {"num_heads", 128}},
       11307321344,
       20054016},
      {{{"model_type", "gpt2"},
        {"vocab_size", 50257},
        {"n_embd", 768},
        {"n_layer", 12},
        {"n_head", 12},
        {"n_positions", 1024}},
       124439808,
       12 * 8 * (768 + 3 * 768)},
  };
  const TemporaryFolder dir;
  for (const auto& m : models) {
    write_json_file(dir / "config.json", m.config);
    const Json j =
        graft("plan --json --batch 4 --length 128 --model " + (dir / "config.json"), Streams::out)
            .json();
    EXPECT_EQ(j.at("total_parameters"), m.total);
    EXPECT_EQ(j.at("trainable_parameters"), m.trainable);
    EXPECT_EQ(j.at("parts").at("weights"), 4 * m.total);
  }
}

// A vocabulary's logits are never held whole: more tokens in it cost no activations.
TEST(ShapeCli, TheLanguageHeadIsPlannedInChunks) {
  const TemporaryFolder dir;
  auto beside_weights = [&](int64_t vocabulary) {
    Json config = models().at("decoder");
    config["vocab_size"] = vocabulary;
    write_json_file(dir / "config.json", config);
    const Json parts =
        graft("plan --json --model " + (dir / "config.json"), Streams::out).json().at("parts");
    int64_t beside = 0;
    for (const char* part : {"kept_activations", "recomputed", "transient", "workspace"})
      beside += parts.at(part).get<int64_t>();
    return beside;
  };
  const int64_t logits = int64_t{4} * 32 * 64 * 50000;
  EXPECT_LT(beside_weights(100000) - beside_weights(50000), logits / 100);
}

// The schedule is the plan: the same bytes, and nothing else runs again than what is said.
TEST(ShapeCli, PlanWritesTheWholeSchedule) {
  const TemporaryFolder dir;
  for (const char* recompute : {"none", "cheap"}) {
    const std::string file = dir / (std::string(recompute) + ".json");
    const Result r = graft(
        fmt::format("plan --json --recompute {} --schedule {}", recompute, file) + minilm_option(),
        Streams::out);
    ASSERT_EQ(r.status, 0) << r.output;
    const Json plan = r.json(), schedule = parse_json_file(file);
    EXPECT_EQ(violation_of(schedule), "");
    EXPECT_EQ(schedule.at("peak_bytes"), plan.at("peak_bytes"));
    EXPECT_EQ(schedule.at("recompute_flops"), plan.at("recompute_flops_per_step"));
    EXPECT_EQ(schedule.at("recompute"), recompute);
    EXPECT_EQ(schedule.at("method"), "lora");
  }
  const auto bytes = [&](const char* name) {
    return parse_json_file(dir / name).at("peak_bytes").get<size_t>();
  };
  EXPECT_LT(bytes("cheap.json"), bytes("none.json"));
}

// What is alive from run to run, and what recomputation is worth, as numbers and as pictures.
TEST(ShapeCli, PlanShowsMemory) {
  const TemporaryFolder dir;
  write_json_file(dir / "config.json", models().at("encoder-decoder"));
  const std::string command = fmt::format("plan --json --model {}/config.json", dir.path());
  const Result numbers = graft(
      command + " --timeline " + (dir / "t.json") + " --curve " + (dir / "c.json"), Streams::out);
  ASSERT_EQ(numbers.status, 0) << numbers.output;
  const Json plan = numbers.json(), timeline = parse_json_file(dir / "t.json"),
             points = parse_json_file(dir / "c.json").at("points");
  size_t highest = 0;
  std::string phases;
  std::set<int> blocks;
  for (const Json& run : timeline.at("runs")) {
    highest = std::max(highest, run.at("bytes").get<size_t>());
    const auto phase = run.at("phase").get<std::string>();
    if (!phases.ends_with(phase)) phases += " " + phase;
    if (!run.at("layer").is_null()) blocks.insert(run.at("layer").get<int>());
  }
  EXPECT_EQ(phases, " forward backward update");
  EXPECT_EQ(blocks, (std::set<int>{0, 1}));
  EXPECT_EQ(highest + plan.at("parts").at("gaps").get<size_t>(), plan.at("peak_bytes"));
  EXPECT_EQ(timeline.at("peak_bytes"), plan.at("peak_bytes"));

  std::map<std::string, Json> named;
  for (size_t i = 0; i < points.size(); ++i) {
    named[points[i].at("recompute").get<std::string>()] = points[i];
    EXPECT_GE(points[i].at("peak_bytes"), points[i == 0 ? 0 : i - 1].at("peak_bytes"));
  }
  EXPECT_EQ(named.at("none").at("share_of_forward"), 0);
  EXPECT_EQ(named.at("cheap").at("peak_bytes"), plan.at("peak_bytes"));
  EXPECT_EQ(named.at("least").at("peak_bytes"), plan.at("minimum_budget_bytes"));
  EXPECT_EQ(points[0].at("peak_bytes"), plan.at("minimum_budget_bytes"));

  const Result drawn = graft(
      command + " --timeline " + (dir / "t.svg") + " --curve " + (dir / "c.svg"), Streams::out);
  ASSERT_EQ(drawn.status, 0) << drawn.output;
  const std::string t = read_file(dir / "t.svg"), c = read_file(dir / "c.svg");
  for (const char* text : {"forward", "backward", "update", ">e0<", ">d1<", "kept_activations"})
    EXPECT_NE(t.find(text), std::string::npos) << text;
  for (const char* text : {"none", "cheap", "least"})
    EXPECT_NE(c.find(text), std::string::npos) << text;
  EXPECT_EQ(graft(command + " --curve " + (dir / "c.png")).status, 2);
}

// Too small a budget is refused with the smallest that is met, and that one is met.
TEST(ShapeCli, TheSmallestBudgetIsNamed) {
  const TemporaryFolder dir;
  write_json_file(dir / "config.json", models().at("decoder"));
  const std::string command = fmt::format("plan --batch 64 --model {}/config.json", dir.path());
  const Json plan = graft(command + " --json", Streams::out).json();
  const auto least = plan.at("minimum_budget_bytes").get<size_t>(),
             usual = plan.at("peak_bytes").get<size_t>();
  ASSERT_LT(least, usual);
  const Result met = graft(fmt::format("{} --budget {}", command, least));
  EXPECT_EQ(met.status, 0) << met.output;
  const struct {
    std::string options;
    std::vector<std::string> says;
  } refusals[] = {
      {fmt::format("--budget {}", least - 1),
       {fmt::format("the step needs {}", least), fmt::format("give at least {}, or", least),
        "recomputed", "of layer", "@ model.layers.", "weights"}},
      {fmt::format("--recompute cheap --budget {}", least),
       {fmt::format("the step needs {}", usual),
        fmt::format("give at least {} and --recompute auto", least), "kept_activations",
        "mlp.gate of layers 0 to 1"}},
  };
  for (const auto& r : refusals) {
    const Result refused = graft(command + " " + r.options);
    EXPECT_EQ(refused.status, 4) << refused.output;
    for (const std::string& text : r.says)
      EXPECT_NE(refused.output.find(text), std::string::npos) << text << "\n" << refused.output;
  }
}

}  // namespace
}  // namespace graft::testing
