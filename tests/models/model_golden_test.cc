// Whole models against transformers: logits, hidden states, loss and every gradient; MiniLM's
// sentence embeddings.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/planner.h"
#include "core/safetensors.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "tests/support/golden.h"
#include "tests/support/minilm.h"

namespace graft::testing {
namespace {

Tensor ids_like(const Shape& shape, int64_t value) {
  Tensor t(DType::i64, shape);
  std::fill_n(t.data<int64_t>(), t.elements(), value);
  return t;
}

// Padded positions are stored as 0.
Tensor masked(const Tensor& x, const Tensor& mask) {
  Tensor y = x.clone();
  if (x.shape().rank() < 2 || x.shape()[1] != mask.shape()[1] || x.shape().rank() == 2) return y;
  const int64_t inner = x.elements() / mask.elements();
  for (int64_t i = 0; i < mask.elements(); ++i) {
    if (mask.data<int64_t>()[i] == 0) std::fill_n(y.data<float>() + i * inner, inner, 0.0f);
  }
  return y;
}

// A causal model's loss compares each logit with the label after it. Logits of padding say nothing.
Tensor shifted(const Tensor& labels, const Tensor& mask) {
  Tensor next = ids_like(labels.shape(), -100);
  const int64_t T = labels.shape()[1];
  for (int64_t i = 0; i < labels.elements(); ++i) {
    if (i % T + 1 < T && mask.data<int64_t>()[i] != 0)
      next.data<int64_t>()[i] = labels.data<int64_t>()[i + 1];
  }
  return next;
}

// Mean cross entropy of stored logits [.., V].
Tensor loss_of(const Tensor& logits, const Tensor& labels) {
  const int64_t V = logits.shape()[-1];
  double sum = 0, count = 0;
  for (int64_t i = 0; i < labels.elements(); ++i) {
    const int64_t label = labels.data<int64_t>()[i];
    if (label < 0) continue;
    const auto row =
        logits.span<float>().subspan(static_cast<size_t>(i * V), static_cast<size_t>(V));
    double total = 0;
    for (const float x : row) total += std::exp(static_cast<double>(x));
    sum += std::log(total) - static_cast<double>(row[static_cast<size_t>(label)]);
    ++count;
  }
  Tensor loss(DType::f32, {});
  *loss.data<float>() = static_cast<float>(sum / count);
  return loss;
}

// 1 at the last visible token of each row.
Tensor last_visible(const Tensor& mask) {
  Tensor last = ids_like(mask.shape(), 0);
  const int64_t T = mask.shape()[1];
  for (int64_t r = 0; r < mask.shape()[0]; ++r) {
    int64_t at = T - 1;
    while (at > 0 && mask.data<int64_t>()[r * T + at] == 0) --at;
    last.data<int64_t>()[r * T + at] = 1;
  }
  return last;
}

// The tolerance of a key. Where the reference's float64 run met rows in which no key is visible it
// is NaN, and the file has a floor instead of a sample of rounding: then the least tolerance that
// the data's README gives to gradients, a share of the largest gradient of the case, holds.
double tolerance(const Json& c, const SafeTensors& data, const std::string& key) {
  const auto atol = c.at("atol").at(key).get<double>();
  if (atol > 1e-12 || !key.starts_with("grad/")) return atol;
  double largest = 0;
  for (const auto& [name, t] : data.tensors()) {
    if (!name.starts_with(c.at("name").get<std::string>() + "/grad/")) continue;
    for (const float x : t.span<float>())
      largest = std::max(largest, std::abs(static_cast<double>(x)));
  }
  return 1.9e-6 * largest;
}

void run_case(const std::string& folder, const ModelConfig& config, const Json& c,
              const SafeTensors& data) {
  const auto name = c.at("name").get<std::string>();
  SCOPED_TRACE(folder + " " + name);
  ModelOptions options{.head = head_of(config), .hidden_states = true};
  Inputs inputs;
  Tensor mask;  // of an image: none
  if (data.contains(name + "/in/pixel_values")) {
    inputs["pixel_values"] = data.tensor(name + "/in/pixel_values");
    options.batch = inputs["pixel_values"].shape()[0];
  } else {
    const Tensor& ids = data.tensor(name + "/in/input_ids");
    mask = data.tensor(name + "/in/attention_mask");
    options.batch = ids.shape()[0];
    options.length = ids.shape()[1];
    inputs["input_ids"] = ids;
    inputs["attention_mask"] = mask;
    inputs["position_ids"] =
        Tensor::from(ids.shape(), position_ids(config, ids.span<int64_t>(), mask.span<int64_t>(),
                                               options.batch, options.length));
    inputs["token_type_ids"] = data.contains(name + "/in/token_type_ids")
                                   ? data.tensor(name + "/in/token_type_ids")
                                   : ids_like(ids.shape(), 0);
    inputs["pool_mask"] = last_visible(mask);
  }
  if (options.head == Head::seq2seq_lm) {
    const Tensor& labels = data.tensor(name + "/labels");
    options.target_length = labels.shape()[1];
    inputs["decoder_input_ids"] = Tensor::from(
        labels.shape(),
        shifted_right(config, labels.span<int64_t>(), options.batch, options.target_length));
  }
  Builder b(build_model(config, options));
  const bool has_grads = !c.at("grads").empty();
  std::vector<Value> ys, gys;
  if (c.value("has_labels", false)) {
    Tensor labels = data.tensor(name + "/labels");
    if (head_of(config) == Head::causal_lm) labels = shifted(labels, mask);
    inputs["labels"] = labels;
    Value logits = b.graph().output("logits");
    const Shape s = b.shape(logits);
    logits = ops::reshape(b, logits, {s.product(0, s.rank() - 1), s[-1]});
    const Value loss = ops::cross_entropy(
        b, logits,
        ops::reshape(b, b.input("labels", DType::i64, labels.shape()), {labels.elements()}));
    b.output("loss", loss);
    ys.push_back(loss);
    gys.emplace_back();
  } else if (has_grads) {
    for (const char* out : {"last_hidden", "pooler"}) {
      const Tensor& g = data.tensor(name + "/gout/" + out);
      inputs[std::string("gout/") + out] = g;
      ys.push_back(b.graph().output(out));
      gys.push_back(b.input(std::string("gout/") + out, DType::f32, g.shape()));
    }
  }
  if (has_grads) {
    std::vector<Value> xs;
    std::vector<std::string> names;
    for (const Param& p : b.graph().params()) names.push_back(p.name);
    for (const std::string& n : names) xs.push_back(b.param_value(n));
    const std::vector<Value> grads = gradient(b, ys, gys, xs);
    for (size_t i = 0; i < names.size(); ++i) {
      if (grads[i].valid()) b.output("grad/" + names[i], grads[i]);
    }
  }
  const Graph graph = b.finish();
  ParamStore store;
  load_parameters(folder, graph, store);
  Executor executor(std::make_shared<const Program>(plan(graph)), store);
  executor.set_poison(true);
  for (const std::string& n : graph.input_names()) executor.set_input(n, inputs.at(n));
  executor.run();
  const double rtol = c.at("rtol").get<double>();
  for (const auto& item : c.at("atol").items()) {
    const std::string& key = item.key();
    const double atol = tolerance(c, data, key);
    if (key == "loss" && name == "left") {
      // The stored loss reads logits of the padding before a text, which the data leave
      // unspecified: eager attention spreads a query that sees no key over all of them. So the
      // loss is that of the stored logits of visible tokens.
      const Tensor want = loss_of(data.tensor(name + "/logits"), inputs.at("labels"));
      EXPECT_EQ(mismatch(executor.output(key), want, rtol, 0), "") << key;
      continue;
    }
    const std::string full = name + "/" + key;
    ASSERT_TRUE(data.contains(full)) << full;
    if (!graph.has_output(key)) {  // a parameter that the loss does not depend on
      EXPECT_EQ(
          mismatch(Tensor(DType::f32, data.tensor(full).shape()), data.tensor(full), rtol, atol),
          "")
          << key;
      continue;
    }
    // The decoder has no mask.
    const bool per_token =
        options.head == Head::seq2seq_lm
            ? key.starts_with("encoder_")
            : key == "logits" || key == "last_hidden" || key.starts_with("hidden/");
    const Tensor got =
        per_token && !mask.empty() ? masked(executor.output(key), mask) : executor.output(key);
    EXPECT_EQ(mismatch(got, data.tensor(full), rtol, atol), "") << key;
  }
}

TEST(GoldenModels, LogitsHiddenStatesLossGradients) {
  const std::string dir = golden_dir() + "/models/";
  size_t cases = 0;
  const Json index = parse_json_file(dir + "index.json");
  for (const Json& m : index.at("models")) {
    const std::string folder = dir + m.at("name").get<std::string>();
    const Json golden = parse_json_file(folder + "/golden.json");
    const ModelConfig config = load_config(folder);
    const SafeTensors data = SafeTensors::open(folder + "/golden.safetensors");
    for (const Json& c : golden.at("cases")) {
      run_case(folder, config, c, data);
      ++cases;
    }
  }
  EXPECT_GT(cases, 0u);
  std::printf("golden models: %zu cases, 0 not supported\n", cases);
}

TEST(GoldenMiniLm, SentenceEmbeddings) {
  const std::string dir = golden_dir() + "/minilm/";
  const Json golden = parse_json_file(dir + "minilm.json");
  const SafeTensors data = SafeTensors::open(dir + "minilm.safetensors");
  const ModelConfig config = load_config(minilm_folder());
  const Json& sentences = golden.at("ids");
  ParamStore store;
  size_t cases = 0;
  for (size_t s = 0; s < sentences.size(); ++s) {
    const auto ids = sentences[s].get<std::vector<int64_t>>();
    const auto n = static_cast<int64_t>(ids.size());
    Builder b(build_model(
        config,
        {.batch = 1, .length = n, .head = Head::mean_pooled, .labels = 2, .hidden_states = true}));
    const Value e = b.graph().output("embedding");
    b.output("normalized", ops::div(b, e, ops::l2_norm(b, {e})));
    const Graph graph = b.finish();
    load_parameters(minilm_folder(), graph, store);
    store.initialize(graph, 0);
    const Shape shape{1, n};
    const Tensor id_tensor = Tensor::from(shape, ids);
    const Evaluation got = evaluate(
        graph,
        {{"input_ids", id_tensor},
         {"attention_mask", ids_like(shape, 1)},
         {"pool_mask", ids_like(shape, 1)},
         {"token_type_ids", ids_like(shape, 0)},
         {"position_ids",
          Tensor::from(shape,
                       position_ids(config, ids, ids_like(shape, 1).span<int64_t>(), 1, n))}},
        store);
    const double rtol = golden.at("rtol").get<double>();
    const Tensor& want = data.tensor("embeddings");
    Tensor row(DType::f32, {1, want.shape()[1]});
    std::copy_n(want.data<float>() + static_cast<int64_t>(s) * want.shape()[1], want.shape()[1],
                row.data<float>());
    EXPECT_EQ(mismatch(got.outputs.at("normalized"), row, rtol,
                       golden.at("atol").at("embeddings").get<double>()),
              "")
        << "sentence " << s;
    for (const auto& [key, atol] : golden.at("atol").items()) {
      const std::string prefix = fmt::format("hidden/{}/", s);
      if (key.rfind(prefix, 0) != 0) continue;
      const Tensor& hidden = got.outputs.at("hidden/" + key.substr(prefix.size()));
      EXPECT_EQ(
          mismatch(hidden.reshaped({n, config.hidden}), data.tensor(key), rtol, atol.get<double>()),
          "")
          << key;
    }
    ++cases;
  }
  EXPECT_GT(cases, 0u);
  std::printf("golden minilm: %zu cases, 0 not supported\n", cases);
}

}  // namespace
}  // namespace graft::testing
