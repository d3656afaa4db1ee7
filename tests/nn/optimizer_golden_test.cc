// Optimizers, clipping and schedules against torch.optim and transformers, step by step on both
// backends.
#include <gtest/gtest.h>

#include <cstdio>

#include "autograd/evaluate.h"
#include "autograd/ops.h"
#include "core/safetensors.h"
#include "nn/optimizer.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

double number(const Json& a, const char* key, double fallback) {
  return a.contains(key) && a.at(key).is_number() ? a.at(key).get<double>() : fallback;
}
bool flag(const Json& a, const char* key) { return a.contains(key) && a.at(key).get<bool>(); }

OptimizerConfig config_of(const Json& o) {
  static const std::map<std::string, std::string> kinds = {{"SGD", "sgd"},
                                                           {"Adam", "adam"},
                                                           {"AdamW", "adamw"},
                                                           {"Lion", "lion"},
                                                           {"RMSprop", "rmsprop"},
                                                           {"Adagrad", "adagrad"},
                                                           {"torch_Adafactor", "torch_adafactor"},
                                                           {"hf_Adafactor", "adafactor"}};
  const Json& a = o.at("attrs");
  OptimizerConfig c;
  c.kind = kinds.at(o.at("kind").get<std::string>());
  if (a.contains("betas")) {
    c.beta1 = a.at("betas")[0].get<double>();
    c.beta2 = a.at("betas")[1].get<double>();
  }
  if (a.contains("eps") && a.at("eps").is_number()) c.eps = a.at("eps").get<double>();
  c.amsgrad = flag(a, "amsgrad");
  c.nesterov = flag(a, "nesterov");
  c.momentum = number(a, "momentum", 0);
  c.dampening = number(a, "dampening", 0);
  c.alpha = number(a, "alpha", 0.99);
  if (a.contains("eps") && a.at("eps").is_array()) {
    // torch's first eps defaults to the machine epsilon of the parameter's type.
    c.adafactor.eps1 =
        a.at("eps")[0].is_null() ? 1.1920928955078125e-07 : a.at("eps")[0].get<double>();
    c.adafactor.eps2 = a.at("eps")[1].get<double>();
    c.adafactor.clip_threshold = number(a, "d", number(a, "clip_threshold", 1));
    c.adafactor.decay_rate = number(a, "beta2_decay", number(a, "decay_rate", -0.8));
    c.adafactor.beta1 = number(a, "beta1", -1);
    c.adafactor.scale_parameter = flag(a, "scale_parameter");
    c.adafactor.relative_step = flag(a, "relative_step");
    c.adafactor.warmup_init = flag(a, "warmup_init");
  }
  return c;
}

TEST(GoldenOptim, OptimizersClippingSchedules) {
  const std::string dir = golden_dir() + "/optim/";
  const Json file = parse_json_file(dir + "optim.json");
  const SafeTensors data = SafeTensors::open(dir + "optim.safetensors");
  const size_t count = file.at("parameters").size();
  size_t cases = 0;
  for (const Json& o : file.at("optimizers")) {
    const auto name = o.at("name").get<std::string>();
    const double wd = number(o.at("attrs"), "weight_decay", 0), lr = number(o.at("attrs"), "lr", 0);
    for (Backend backend : {Backend::ref, Backend::cpu}) {
      Builder b;
      std::map<std::string, Value> grads;
      ParamGroup group{{}, {.lr = lr}, wd};
      ParamStore store;
      for (size_t i = 0; i < count; ++i) {
        const std::string key = std::to_string(i);
        const Tensor& start = data.tensor("start/" + key);
        b.param({.name = key, .type = {DType::f32, start.shape()}, .trainable = true});
        grads[key] = b.input("grad/" + key, DType::f32, start.shape());
        group.params.push_back(key);
        store.set(key, start.clone());
      }
      add_optimizer(b, grads, config_of(o), {group}, 0);
      const Graph graph = b.finish();
      store.initialize(graph, 0);
      for (int step = 1; step <= o.at("steps").get<int>(); ++step) {
        Inputs inputs;
        const int first = data.contains("grad/0/0") ? 0 : 1;
        for (size_t i = 0; i < count; ++i) {
          inputs["grad/" + std::to_string(i)] =
              data.tensor(fmt::format("grad/{}/{}", step - 1 + first, i));
        }
        const Evaluation e = evaluate(graph, inputs, store, backend);
        for (const auto& [param, value] : e.assigned)
          store.set(param, value.cast(graph.param(param).type.dtype));
        for (size_t i = 0; i < count; ++i) {
          const std::string key = fmt::format("{}/{}/{}", name, step - 1 + first, i);
          EXPECT_EQ(mismatch(store.get(std::to_string(i)), data.tensor(key),
                             o.at("rtol").get<double>(), o.at("atol").get<double>()),
                    "")
              << key << " " << name_of(backend);
        }
      }
    }
    ++cases;
  }
  for (const Json& c : file.at("clip_grad_norm")) {
    Builder b;
    Inputs inputs;
    std::vector<Value> grads;
    for (size_t i = 0; i < count; ++i) {
      const std::string key = fmt::format("grad/1/{}", i);
      inputs[key] = data.tensor(key);
      grads.push_back(b.input(key, DType::f32, inputs[key].shape()));
    }
    const double max_norm = c.at("max_norm").get<double>();
    const Value norm = ops::l2_norm(b, grads);
    const Value scale = b.node("clip_coefficient", {norm}, Attrs::of(ScalarAttrs{max_norm}));
    b.output("norm", norm);
    for (size_t i = 0; i < count; ++i) b.output(std::to_string(i), ops::mul(b, grads[i], scale));
    const Evaluation e = evaluate(b.finish(), inputs, {});
    EXPECT_NEAR(e.outputs.at("norm").data<float>()[0], c.at("total_norm").get<double>(), 4e-6);
    for (size_t i = 0; i < count; ++i) {
      std::string key = fmt::format("clip/{}/{}", c.at("max_norm").dump(), i);
      EXPECT_EQ(mismatch(e.outputs.at(std::to_string(i)), data.tensor(key), 1e-6, 1e-7), "") << key;
    }
    ++cases;
  }
  for (const Json& s : file.at("schedules")) {
    const auto name = s.at("name").get<std::string>();
    ScheduleAttrs a{.kind = name,
                    .lr = s.at("base_lr").get<double>(),
                    .warmup = s.at("warmup").get<int64_t>(),
                    .total = s.at("total").get<int64_t>()};
    if (name == "cosine_1.5_cycles") a.kind = "cosine", a.cycles = 1.5;
    if (name == "cosine_with_restarts") a.cycles = 3;
    if (name == "inverse_sqrt_timescale") a.kind = "inverse_sqrt", a.timescale = 7;
    if (name == "polynomial") a.power = 2, a.lr_end = 1e-4;
    if (name == "linear_no_warmup") a.kind = "linear";
    Builder b;
    b.output("lr", b.node("lr_schedule", {b.input("step", DType::i64, {})}, Attrs::of(a)));
    const Graph graph = b.finish();
    for (size_t i = 0; i < s.at("lr").size(); ++i) {
      const int64_t step = static_cast<int64_t>(i);
      const Evaluation e = evaluate(
          graph, {{"step", Tensor::from<int64_t>({}, std::span(&step, 1))}}, {}, Backend::ref);
      EXPECT_NEAR(e.outputs.at("lr").data<double>()[0], s.at("lr")[i].get<double>(), 1e-6 * a.lr)
          << name << " step " << i;
    }
    ++cases;
  }
  EXPECT_GT(cases, 0u);
  std::printf("golden optim: %zu cases, 0 not supported\n", cases);
}

}  // namespace
}  // namespace graft::testing
