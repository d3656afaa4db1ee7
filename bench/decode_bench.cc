// A language model that writes: one token at a time through its cache, against the time in which
// this machine reads the model's weights once.
//   decode_bench [--threads N] [--rounds N] [--steps N] [--profile]
// Without --threads: 1 and all cores.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "autograd/param_store.h"
#include "bench/main.h"
#include "bench/measure.h"
#include "core/error.h"
#include "core/parallel.h"
#include "kernels/ceiling.h"
#include "models/config.h"
#include "models/fresh_weights.h"
#include "models/generation/session.h"
#include "models/model.h"

namespace graft::bench {
namespace {

struct Options {
  std::vector<int> threads = num_threads() > 1 ? std::vector{1, num_threads()} : std::vector{1};
  int rounds = 15;
  int64_t steps = 8;  // tokens in a round
  bool profile = false;
};

// 110 million parameters, the table of tokens being the head's weight, too.
constexpr const char* kConfig = R"({
  "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
  "num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 2048,
  "num_attention_heads": 12, "num_key_value_heads": 12, "vocab_size": 32000,
  "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
  "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2})";

constexpr int64_t kContexts[] = {64, 512};

// The model with its weights in one type.
class Model {
 public:
  Model(const ModelConfig& config, DType dtype) : config_(config), dtype_(dtype) {
    const Graph graph =
        with_fresh_weights(build_model(config, {.length = 1, .head = Head::causal_lm}), config);
    store_.initialize(graph, 1);
    for (const Param& p : graph.params()) {
      const Tensor weight = std::as_const(store_).get(p.name).cast(dtype);
      store_.set(p.name, weight, DType::f32);
      parameters_ += weight.elements();
      bytes_ += weight.size_bytes();
    }
  }

  DType dtype() const { return dtype_; }
  int64_t parameters() const { return parameters_; }
  // Of weights that a token needs: all, once. An untied table of tokens would not count.
  size_t bytes() const { return bytes_; }
  const ModelConfig& config() const { return config_; }
  const ParamStore& store() const { return store_; }

 private:
  const ModelConfig& config_;
  DType dtype_;
  ParamStore store_;
  int64_t parameters_ = 0;
  size_t bytes_ = 0;
};

// A text of `context` tokens that a round makes longer.
class Text {
 public:
  Text(const Model& model, int64_t context, int64_t steps)
      : model_(model), context_(context), steps_(steps) {
    for (const std::string& name : model.store().names()) store_.share(name, model.store());
    session_.emplace(model.config(), store_, DecodingModel{.build = [&](const ModelOptions& o) {
                       return build_model(model.config(), o);
                     }});
    round();  // compiles its programs, for all threads
  }

  // Seconds per token, at about `context` tokens.
  double round() {
    begin();
    const int64_t token[] = {5};
    session_->extend(token);  // the first step reads what the prompt's program has pushed out
    const double start = now(num_threads());
    for (int64_t i = 0; i < steps_; ++i) session_->extend(token);
    return (now(num_threads()) - start) / static_cast<double>(steps_);
  }
  const Model& model() const { return model_; }
  DecodingSession& session() { return *session_; }
  int64_t context() const { return context_; }

 private:
  void begin() {
    std::vector<int64_t> prompt;
    for (int64_t i = 0; i < context_; ++i) prompt.push_back(i * 7919 % 32000);
    session_->start({prompt}, steps_ + 1);
  }

  const Model& model_;
  ParamStore store_;  // the weights are the model's, the cache is this text's
  std::optional<DecodingSession> session_;
  int64_t context_, steps_;
};

struct Line {
  std::vector<double> seconds, bandwidth, share;
};

// Rounds in which each text grows a little, right after the memory was read.
void compare(std::deque<Text>& texts, const Tensor& memory, int threads, const Options& o) {
  set_num_threads(threads);
  constexpr int kReads = 3;
  std::vector<Line> lines(texts.size());
  float sum = 0;
  for (int round = 0; round <= o.rounds; ++round) {
    for (size_t i = 0; i < texts.size(); ++i) {
      const size_t bytes = texts[i].model().bytes();
      const auto part = memory.span<float>().subspan(0, bytes / sizeof(float));
      sum += read_once(part, threads);
      const double start = now(num_threads());
      for (int k = 0; k < kReads; ++k) sum += read_once(part, threads);
      const double rate = kReads * static_cast<double>(bytes) / (now(num_threads()) - start);
      const double each = texts[i].round();
      if (round == 0) continue;  // warms up
      lines[i].seconds.push_back(each);
      lines[i].bandwidth.push_back(rate);
      lines[i].share.push_back(static_cast<double>(bytes) / each / rate);
    }
  }
  if (sum != 0) throw Error("memory that was filled with zeros holds something else");
  for (size_t i = 0; i < texts.size(); ++i) {
    const double bytes = static_cast<double>(texts[i].model().bytes()),
                 s = median(lines[i].seconds);
    fmt::print(
        "{:4} {} threads, context {:3}: {:6.1f} tokens/s ({:6.2f} ms), {:5.1f} MB a token, {:4.1f} "
        "of "
        "{:4.1f} GB/s: {:.2f} of the bound (best {:.2f})\n",
        name_of(texts[i].model().dtype()), threads, texts[i].context(), 1 / s, 1e3 * s, bytes / 1e6,
        bytes / s / 1e9, median(lines[i].bandwidth) / 1e9, median(lines[i].share),
        std::ranges::max(lines[i].share));
  }
}

void print_profile(Text& text, const Options& o) {
  text.round();
  Executor& e = *text.session().extender();
  e.set_profile(true);
  double seconds = 0;
  for (int i = 0; i < o.rounds; ++i) seconds += text.round();
  const auto runs = static_cast<double>(o.rounds * (o.steps + 1));
  double inside = 0;
  fmt::print("\n{}, context {}\n{:20} {:>5} {:>8}\n", name_of(text.model().dtype()), text.context(),
             "op", "calls", "ms/token");
  for (const OpTime& t : e.profile()) {
    inside += t.seconds / runs;
    fmt::print("{:20} {:5.0f} {:8.3f}\n", t.op, static_cast<double>(t.calls) / runs,
               1e3 * t.seconds / runs);
  }
  fmt::print("{:20} {:14.3f}\n", "outside of ops", 1e3 * (seconds / o.rounds - inside));
  e.set_profile(false);
}

void run(const Options& o) {
  const ModelConfig config = parse_config(kConfig, "the benchmark's model");
  std::deque<Model> models;  // texts point into them, sessions into texts
  std::deque<Text> texts;
  size_t most = 0;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Model& model = models.emplace_back(config, dtype);
    most = std::max(most, model.bytes());
    for (const int64_t context : kContexts) texts.emplace_back(model, context, o.steps);
  }
  fmt::print("{}\n{:.1f} million parameters\n", machine(),
             static_cast<double>(models[0].parameters()) / 1e6);
  Tensor memory(DType::f32, {static_cast<int64_t>(most / sizeof(float))});
  std::ranges::fill(memory.span<float>(), 0.0f);  // pages that nobody wrote to are all one page
  for (const int threads : o.threads) {
    compare(texts, memory, threads, o);
    if (!o.profile) continue;
    for (Text& text : texts) print_profile(text, o);
  }
}

}  // namespace
}  // namespace graft::bench

int main(int argc, char** argv) {
  graft::bench::Command command;
  graft::bench::Options o;
  command.add_option("--threads", o.threads);
  command.add_option("--rounds", o.rounds);
  command.add_option("--steps", o.steps, "tokens in a round");
  command.add_flag("--profile", o.profile);
  return command.main(argc, argv, [&] { graft::bench::run(o); });
}
