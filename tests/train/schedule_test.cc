// Schedules as files: what the planner writes is replayed by a checker that does not know it, and
// the checker sees what is wrong.
#include <gtest/gtest.h>

#include "autograd/compile.h"
#include "autograd/plan/schedule_file.h"
#include "models/model.h"
#include "peft/method.h"
#include "tests/support/golden.h"
#include "tests/support/schedule_checker.h"
#include "train/step.h"

namespace graft::testing {
namespace {

// Two micro-batches under dropout, so that parts, random masks and gradients that add up are there.
Json schedule_of(const std::string& folder, const std::string& method_name,
                 const PlanOptions& options) {
  const ModelConfig model = load_config(golden_dir() + "/models/" + folder);
  const peft::Method& method = peft::find_method(method_name);
  const TaskKind kind = usual_task(model);
  Json given = Json::object();
  if (method.defaults().contains("lora_dropout")) given["lora_dropout"] = 0.1;
  if (method.defaults().contains("num_virtual_tokens")) given["num_virtual_tokens"] = 2;
  const Json config = training_config(model, method, given, 10, kind);
  const Graph base = build_model(
      model, {.batch = 2, .length = 12, .head = training_head(model, kind), .labels = 3});
  const MicroBatch half{peft::apply(base, method, config, {.training = true}), 0.5};
  const std::vector<MicroBatch> parts{half, half};
  return schedule_json(*compile(training_step(parts, kind, {}, 1e-3), options));
}

TEST(Schedules, AreReplayed) {
  for (const char* model : {"llama", "gpt2", "t5", "bert_cls", "gemma2"}) {
    for (const char* method : {"full", "lora", "dora", "ia3", "houlsby", "prefix_tuning",
                               "ln_tuning", "adalora", "diff_pruning"}) {
      SCOPED_TRACE(fmt::format("{} {}", model, method));
      Json none, cheap;
      ASSERT_NO_THROW(none = schedule_of(model, method, {.recompute = Recompute::none}));
      EXPECT_EQ(violation_of(none), "");
      EXPECT_EQ(none.at("recompute_flops"), 0);
      ASSERT_NO_THROW(cheap = schedule_of(model, method, {.recompute = Recompute::cheap}));
      EXPECT_EQ(violation_of(cheap), "");
    }
  }
}

TEST(Schedules, UnderABudgetAreReplayed) {
  for (const char* model : {"llama", "t5"}) {
    for (const char* method : {"full", "lora", "prefix_tuning"}) {
      SCOPED_TRACE(fmt::format("{} {}", model, method));
      Json cheap, least;
      ASSERT_NO_THROW(cheap = schedule_of(model, method, {.recompute = Recompute::cheap}));
      ASSERT_NO_THROW(
          least = schedule_of(model, method, {.recompute = Recompute::automatic, .budget = 1}));
      EXPECT_EQ(violation_of(least), "");
      const size_t low = least.at("peak_bytes"), high = cheap.at("peak_bytes");
      EXPECT_LE(low, high);
      const PlanOptions between{.recompute = Recompute::automatic,
                                .budget = low + (high - low) / 2};
      Json middle;
      ASSERT_NO_THROW(middle = schedule_of(model, method, between));
      EXPECT_EQ(violation_of(middle), "");
      EXPECT_LE(middle.at("peak_bytes"), between.budget);
    }
  }
}

TEST(Schedules, TheCheckerSeesWhatIsWrong) {
  const Json good = schedule_of("llama", "lora", {.recompute = Recompute::cheap});
  ASSERT_EQ(violation_of(good), "");
  struct Damage {
    std::string found;
    std::function<void(Json&)> make;
  };
  const auto first_step = [](Json& j, const char* key) {
    for (size_t s = 0;; ++s) {
      if (j["steps"][s].contains(key)) return s;
    }
  };
  const Damage damages[] = {
      {"peak_bytes is", [](Json& j) { j["peak_bytes"] = j["peak_bytes"].get<size_t>() - 64; }},
      {"recompute_flops is", [](Json& j) { j["recompute_flops"] = 0; }},
      {"persistent_bytes is",
       [](Json& j) { j["persistent_bytes"] = j["persistent_bytes"].get<size_t>() + 1; }},
      {"behind the arena", [](Json& j) { j["arena_bytes"] = j["arena_bytes"].get<size_t>() - 64; }},
      {"overlap",
       [](Json& j) {
         for (Json& b : j["buffers"]) b["offset"] = 0;
       }},
      {"which is in no buffer",
       [&](Json& j) {  // freed as soon as it is written
         for (size_t s = 0; s < j["steps"].size(); ++s) {
           if (!j["steps"][s].contains("run")) continue;
           const Json& out = j["nodes"][j["steps"][s]["run"].get<size_t>()]["outputs"][0];
           if (j["buffers"][out["buffer"].get<size_t>()]["kind"] != "arena") continue;
           j["steps"].insert(j["steps"].begin() + static_cast<std::ptrdiff_t>(s) + 1,
                             Json{{"free", out["buffer"]}});
           return;
         }
       }},
      {"freed but not alive",
       [&](Json& j) { j["steps"].push_back(j["steps"][first_step(j, "free")]); }},
      {"never runs",
       [](Json& j) { j["nodes"].push_back(j["nodes"][0]), j["nodes"].back()["id"] = 1 << 20; }},
      {"runs 2 times",
       [](Json& j) {
         for (size_t s = 0; s < j["steps"].size(); ++s) {
           const Json step = j["steps"][s];
           if (!step.contains("run") || j["nodes"][step["run"].get<size_t>()]["op"] != "l2_norm")
             continue;
           j["steps"].insert(j["steps"].begin() + static_cast<std::ptrdiff_t>(s) + 1, step);
           return;
         }
       }},
      {"does not fit", [](Json& j) { j["values"].back()["bytes"] = size_t{1} << 40; }},
  };
  for (const Damage& d : damages) {
    Json bad = good;
    d.make(bad);
    EXPECT_NE(violation_of(bad).find(d.found), std::string::npos)
        << d.found << ": " << violation_of(bad);
  }
}

}  // namespace
}  // namespace graft::testing
