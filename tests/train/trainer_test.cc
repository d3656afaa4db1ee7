// Training runs on a small model: resumed runs, batches in parts, the best evaluation, budgets.
#include "train/trainer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "autograd/evaluate.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/random.h"
#include "models/batch.h"
#include "models/model.h"
#include "peft/method.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

ModelConfig small_model() { return load_config(golden_dir() + "/models/bert_cls"); }

constexpr ModelConfig::Dropout kDropout = {
    .embedding = 0.2, .attention = 0.2, .hidden = 0.2, .classifier = 0.2};

// Rows of random tokens; the class is that of the first one.
Task small_task(const ModelConfig& model, int64_t classes = 3) {
  Task task;
  task.name = "small";
  task.kind = classes > 0 ? TaskKind::classification : TaskKind::regression;
  task.classes = classes;
  task.metric = classes > 0 ? "accuracy" : "spearman";
  const RandomStream numbers(5, 0);
  uint64_t at = 0;
  for (auto* part : {&task.train, &task.dev, &task.test}) {
    for (int i = 0; i < 30; ++i) {
      Example x;
      x.id = fmt::format("{}", at);
      const auto length = 2 + numbers.bits(at++) % 9;
      for (uint32_t k = 0; k < length; ++k) {
        x.ids.push_back(numbers.bits(at++) % static_cast<uint32_t>(model.vocab));
      }
      x.types.assign(x.ids.size(), 0);
      x.label = classes > 0 ? x.ids[0] % classes : 0;
      x.score = static_cast<double>(x.ids[0] % 7);
      x.target = x.score / 6;
      part->push_back(x);
    }
  }
  return task;
}

ModelConfig small_decoder() { return load_config(golden_dir() + "/models/llama_tied"); }

// Random tokens; some of each row are asked for.
Task small_language(const ModelConfig& model) {
  Task task;
  task.name = "tokens";
  task.kind = TaskKind::language;
  task.metric = "perplexity";
  const RandomStream numbers(6, 0);
  uint64_t at = 0;
  for (auto* part : {&task.train, &task.dev, &task.test}) {
    for (int i = 0; i < 30; ++i) {
      Example x;
      x.id = fmt::format("{}", at);
      const auto length = 2 + numbers.bits(at++) % 9;
      for (uint32_t k = 0; k <= length; ++k)
        x.ids.push_back(numbers.bits(at++) % static_cast<uint32_t>(model.vocab));
      const auto first = numbers.bits(at++) % length;
      for (uint32_t k = 0; k < length; ++k) x.next.push_back(k < first ? kNoLabel : x.ids[k + 1]);
      x.ids.pop_back();
      x.bytes = static_cast<int64_t>(length);
      part->push_back(x);
    }
  }
  return task;
}

std::string temporary(const std::string& name) {
  return std::filesystem::temp_directory_path() /
         fmt::format("graft-trainer-{}-{}", name, ::getpid());
}

TrainOptions options(int64_t steps) {
  TrainOptions o;
  o.steps = steps;
  o.batch = 7;
  o.lr = 1e-2;
  return o;
}

void expect_same_bits(const Trainer& a, ParamStore& x, ParamStore& y) {
  for (const Param& p : a.adapted().graph.params()) {
    const Tensor &s = x.get(p.name), &t = y.get(p.name);
    ASSERT_EQ(s.size_bytes(), t.size_bytes());
    EXPECT_EQ(std::memcmp(s.bytes(), t.bytes(), s.size_bytes()), 0) << p.name;
  }
}

// What differs between methods when a run stops: moments, random draws, masks, stages.
struct Resumed {
  const char* name;
  const char* method;
  Json set = Json::object();
  int64_t accumulate = 1, eval_every = 0;
  bool language = false, from_scratch = false, dropout = false;
};

class Resume : public ::testing::TestWithParam<Resumed> {};

TEST_P(Resume, EndsWithTheSameBits) {
  const Resumed& c = GetParam();
  ModelConfig model = c.language ? small_decoder() : small_model();
  if (c.dropout) model.dropout = kDropout;
  const Task task = c.language ? small_language(model) : small_task(model);
  const peft::Method& method = peft::find_method(c.method);
  TrainOptions o = options(12);
  o.from_scratch = c.from_scratch;
  o.dropout = c.dropout;
  o.accumulate = c.accumulate;
  o.eval_every = c.eval_every;
  Trainer whole(model, task, method, c.set, o);
  const TrainResult wanted = whole.train();

  o.checkpoint = temporary(c.name);
  for (int64_t stop : {5, 8}) {  // twice, so that a resumed run is resumed
    Trainer part(model, task, method, c.set, o);
    const TrainResult r =
        part.train([&](const StepReport& s) { return s.work != "training" || s.step < stop; });
    EXPECT_TRUE(r.interrupted);
    EXPECT_EQ(r.steps, stop);
    o.resume = true;
    // Another plan, and memory elsewhere, are no other run.
    o.memory.recompute = Recompute::none;
    o.offload = std::filesystem::temp_directory_path();
  }
  Trainer rest(model, task, method, c.set, o);
  const TrainResult got = rest.train();
  EXPECT_GT(got.offloaded_bytes, 0);
  EXPECT_LT(got.offloaded_bytes, got.planned_peak_bytes);
  expect_same_bits(whole, whole.params(), rest.params());
  ASSERT_EQ(got.curve.size(), wanted.curve.size());
  for (size_t i = 0; i < got.curve.size(); ++i) {
    EXPECT_EQ(got.curve[i].loss, wanted.curve[i].loss) << i;
    EXPECT_EQ(got.curve[i].grad_norm, wanted.curve[i].grad_norm) << i;
  }
  EXPECT_EQ(got.test, wanted.test);
  EXPECT_EQ(got.best_step, wanted.best_step);
  EXPECT_FALSE(std::filesystem::exists(o.checkpoint)) << "a finished run leaves none";
}

INSTANTIATE_TEST_SUITE_P(
    All, Resume,
    ::testing::Values(
        Resumed{"full", "full"}, Resumed{"lora", "lora", {{"lora_dropout", 0.2}}},
        Resumed{"parts", "lora", {{"lora_dropout", 0.2}}, 3},
        Resumed{"best", "bitfit", Json::object(), 1, 2},
        Resumed{"adalora", "adalora", {{"tinit", 2}, {"tfinal", 2}, {"deltaT", 2}}},
        Resumed{"diff_pruning", "diff_pruning", Json::object(), 1, 3},
        Resumed{"fish_mask", "fish_mask", {{"keep_ratio", 0.05}}},
        Resumed{"intrinsic", "intrinsic", {{"intrinsic_dim", 50}}},
        Resumed{"lst", "lst", {{"reduction_factor", 2}}},
        Resumed{"language", "full", Json::object(), 1, 3, true, true},
        Resumed{"language_parts", "lora", {{"lora_dropout", 0.2}}, 3, 2, true},
        Resumed{"dropout", "full", Json::object(), 1, 3, false, false, true},
        Resumed{"dropout_parts", "lora", {{"lora_dropout", 0.2}}, 3, 0, false, false, true}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Trainer, AnotherRunCannotBeResumed) {
  const ModelConfig model = small_model();
  const Task task = small_task(model);
  TrainOptions o = options(4);
  o.checkpoint = temporary("another");
  const peft::Method& lora = peft::find_method("lora");
  Trainer(model, task, lora, Json::object(), o).train([](const StepReport& s) {
    return s.step < 2;
  });
  o.resume = true;
  auto message = [&](const Json& set, const TrainOptions& changed) {
    return error_of<UsageError>([&] { Trainer(model, task, lora, set, changed).train(); });
  };
  TrainOptions changed = o;
  changed.seed = 9;
  EXPECT_NE(message(Json::object(), changed).find("had seed = 0, this one has 9"),
            std::string::npos);
  EXPECT_NE(message({{"r", 2}}, o).find("hyperparameters"), std::string::npos);
  const std::string bytes = read_file(o.checkpoint);
  write_file(o.checkpoint, bytes.substr(0, bytes.size() - 4));
  EXPECT_THROW(Trainer(model, task, lora, Json::object(), o).train(), FileError);
  std::filesystem::remove(o.checkpoint);
}

// The model's own dropout acts in training alone: other losses, and without a step the same
// predictions.
TEST(Trainer, DropoutIsForTraining) {
  ModelConfig model = small_model();
  model.dropout = kDropout;
  const Task task = small_task(model);
  TrainOptions o = options(3);
  const peft::Method& lora = peft::find_method("lora");
  Trainer plain(model, task, lora, Json::object(), o);
  o.dropout = true;
  Trainer dropping(model, task, lora, Json::object(), o), again(model, task, lora, {}, o);
  EXPECT_EQ(plain.evaluate(task.test), dropping.evaluate(task.test));
  const TrainResult a = plain.train(), b = dropping.train(), c = again.train();
  for (size_t i = 0; i < a.curve.size(); ++i) {
    EXPECT_NE(a.curve[i].loss, b.curve[i].loss) << i;
    EXPECT_EQ(b.curve[i].loss, c.curve[i].loss) << i;
  }
  EXPECT_EQ(b.planned_peak_bytes, b.peak_bytes);
}

// The parts of a batch add up to it, however unevenly it divides.
TEST(Trainer, PartsAddUpToTheBatch) {
  for (int64_t classes : {3, 0, -1}) {  // -1: language, with as many labels in a row as may be
    const ModelConfig model = classes < 0 ? small_decoder() : small_model();
    const Task task = classes < 0 ? small_language(model) : small_task(model, classes);
    TrainOptions o = options(3);
    Trainer whole(model, task, peft::find_method("full"), Json::object(), o);
    const TrainResult a = whole.train();
    o.accumulate = 3;
    Trainer parts(model, task, peft::find_method("full"), Json::object(), o);
    const TrainResult b = parts.train();
    for (size_t i = 0; i < a.curve.size(); ++i) {
      EXPECT_NEAR(a.curve[i].loss, b.curve[i].loss, 1e-4 * a.curve[i].loss) << i;
      EXPECT_NEAR(a.curve[i].grad_norm, b.curve[i].grad_norm, 1e-3 * a.curve[i].grad_norm) << i;
    }
    EXPECT_LT(b.planned_peak_bytes, a.planned_peak_bytes);
    EXPECT_EQ(b.planned_peak_bytes, b.peak_bytes);
  }
}

// The likelihood of rows, from the logits of the adapted graph alone.
TEST(Trainer, LanguageLossesAreThoseOfTheLogits) {
  const ModelConfig model = small_decoder();
  const Task task = small_language(model);
  for (const char* name : {"lora", "prompt_tuning", "prefix_tuning"}) {
    const peft::Method& method = peft::find_method(name);
    TrainOptions o = options(1);
    o.batch = static_cast<int64_t>(task.train.size());
    Trainer trainer(model, task, method, Json::object(), o);
    const std::vector<double> nats = trainer.predict(task.train).scores;
    const Json config = trainer.adapted().config;
    const int64_t virtual_tokens = peft::virtual_tokens(method, config);
    double sum = 0, labels = 0;
    for (size_t i = 0; i < task.train.size(); ++i) {
      const Example& x = task.train[i];
      const auto length = static_cast<int64_t>(x.ids.size());
      const Graph graph =
          peft::apply(
              build_model(model, {.length = length + virtual_tokens, .head = Head::causal_lm}),
              method, config)
              .graph;
      Inputs inputs;
      for (const std::string& input : graph.input_names())
        inputs[input] = Tensor(DType::i64, graph.type(graph.input(input)).shape);
      const TokenRow row{.ids = x.ids};
      fill_inputs(model, {&row, 1}, length, {virtual_tokens, peft::position_shift(method, config)},
                  [&](const std::string& input) {
                    const auto it = inputs.find(input);
                    return it == inputs.end() ? nullptr : &it->second;
                  });
      const Tensor logits = evaluate(graph, inputs, trainer.params()).outputs.at("logits");
      double row_nats = 0;
      for (int64_t t = 0; t < length; ++t) {
        const int64_t label = x.next[static_cast<size_t>(t)];
        if (label == kNoLabel) continue;
        const float* at = logits.data<float>() + (virtual_tokens + t) * model.vocab;
        double total = 0;
        for (int64_t k = 0; k < model.vocab; ++k) total += std::exp(static_cast<double>(at[k]));
        row_nats += std::log(total) - static_cast<double>(at[label]);
        ++labels;
      }
      EXPECT_NEAR(nats[i], row_nats, 1e-4 * row_nats) << name << ", row " << i;
      sum += row_nats;
    }
    // What training starts from is the mean over all labels.
    EXPECT_NEAR(trainer.train().curve[0].loss, sum / labels, 1e-4 * sum / labels) << name;
  }
}

TEST(Trainer, LowerPerplexityIsBetter) {
  const ModelConfig model = small_decoder();
  const Task task = small_language(model);
  TrainOptions o = options(8);
  o.lr = 0.05;
  o.eval_every = 1;
  Trainer trainer(model, task, peft::find_method("lora"), Json::object(), o);
  const TrainResult r = trainer.train();
  double best = std::numeric_limits<double>::infinity();
  int64_t step = 0;
  for (const CurvePoint& p : r.curve) {
    if (p.dev < best) best = p.dev, step = p.step;
  }
  EXPECT_EQ(r.dev.at("perplexity"), best);
  EXPECT_EQ(r.best_step, step);
}

TEST(Trainer, LanguageTasksThatDoNotFit) {
  const ModelConfig decoder = small_decoder();
  Task task = small_language(decoder);
  auto message = [&](const ModelConfig& model, const char* method, const Json& set) {
    return error_of<UsageError>(
        [&] { Trainer(model, task, peft::find_method(method), set, options(2)).train(); });
  };
  EXPECT_NE(message(small_model(), "lora", Json::object()).find("needs a decoder"),
            std::string::npos);
  EXPECT_NE(message(decoder, "head", Json::object()).find("nothing to train"), std::string::npos);
  task.dev.clear();
  TrainOptions looking = options(2);
  looking.eval_every = 1;
  EXPECT_NE(error_of<UsageError>([&] {
              Trainer(decoder, task, peft::find_method("lora"), Json::object(), looking).train();
            }).find("--dev"),
            std::string::npos);
  task.test[0].ids.assign(static_cast<size_t>(decoder.max_positions), 1);
  task.test[0].next.assign(task.test[0].ids.size(), 1);
  EXPECT_EQ(message(decoder, "lora", Json::object()), "");
  EXPECT_NE(message(decoder, "prompt_tuning", {{"num_virtual_tokens", 5}})
                .find(fmt::format("--max-length {}", decoder.max_positions - 5)),
            std::string::npos);
}

TEST(Trainer, KeepsTheBestEvaluation) {
  const ModelConfig model = small_model();
  const Task task = small_task(model);
  TrainOptions o = options(15);
  o.lr = 0.3;  // wild, so that the last is seldom the best
  o.eval_every = 1;
  Trainer trainer(model, task, peft::find_method("lora"), Json::object(), o);
  const TrainResult r = trainer.train();
  double best = -1;
  int64_t step = 0;
  for (const CurvePoint& p : r.curve) {
    ASSERT_FALSE(std::isnan(p.dev));
    if (p.dev > best) best = p.dev, step = p.step;
  }
  EXPECT_EQ(r.dev.at("accuracy"), best);
  EXPECT_EQ(r.best_step, step);
}

TEST(Trainer, BudgetsAreMetOrRefused) {
  const ModelConfig model = small_model();
  const Task task = small_task(model);
  TrainOptions o = options(2);
  Trainer free(model, task, peft::find_method("full"), Json::object(), o);
  const TrainResult r = free.train();
  o.memory.budget = r.planned_peak_bytes;
  EXPECT_NO_THROW(Trainer(model, task, peft::find_method("full"), Json::object(), o).train());
  o.memory.budget = r.planned_peak_bytes - 1;
  const std::string message = error_of<BudgetError>(
      [&] { Trainer(model, task, peft::find_method("full"), Json::object(), o).train(); });
  EXPECT_NE(message.find(fmt::format("the step needs {}", r.planned_peak_bytes)),
            std::string::npos);
  // The least that it can do with is met when asked for as it says.
  const size_t at = message.find("give at least ");
  ASSERT_NE(at, std::string::npos);
  o.memory = {.recompute = Recompute::automatic,
              .budget = std::stoul(message.substr(at + std::strlen("give at least ")))};
  EXPECT_NO_THROW(Trainer(model, task, peft::find_method("full"), Json::object(), o).train());
  EXPECT_NE(message.find("encoder.layer.0"), std::string::npos);
}

TEST(Trainer, TokensOfAnotherModelAreRefused) {
  const ModelConfig model = small_model();
  Task task = small_task(model);
  task.train[3].ids[0] = model.vocab;
  const std::string message = error_of<UsageError>([&] {
    Trainer(model, task, peft::find_method("lora"), Json::object(), options(30)).train();
  });
  EXPECT_NE(message.find(fmt::format("token id {}", model.vocab)), std::string::npos) << message;
}

TEST(Trainer, ADivergingRunSaysSo) {
  const ModelConfig model = small_model();
  const Task task = small_task(model);
  TrainOptions o = options(30);
  o.lr = 1e30;
  o.max_grad_norm = 0;
  Trainer trainer(model, task, peft::find_method("full"), Json::object(), o);
  const std::string message = error_of<Error>([&] { trainer.train(); });
  EXPECT_NE(message.find("a smaller --lr than 1e+30 may help"), std::string::npos) << message;
}

}  // namespace
}  // namespace graft::testing
