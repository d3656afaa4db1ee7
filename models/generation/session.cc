#include "models/generation/session.h"

#include <algorithm>
#include <cstring>

#include "autograd/compile.h"
#include "core/error.h"
#include "models/batch.h"
#include "models/family.h"

namespace graft {
namespace {

// Caches of nearly the same length share a program.
constexpr int64_t kCapacityStep = 64;

int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace

DecodingSession::DecodingSession(const ModelConfig& config, ParamStore& store, DecodingModel model)
    : config_(config), store_(store), model_(std::move(model)) {}

// The state parameters of a graph, in the store at their shapes. One block holds them all: on pages
// of 4 KB, one for nearly every key, a step would wait for as many misses of the TLB as for memory.
void DecodingSession::prepare_cache(const Graph& graph) {
  if (!caches_.empty()) return;
  constexpr size_t kLine = 64;
  const auto room = [](const Param& p) { return (p.type.bytes() + kLine - 1) / kLine * kLine; };
  size_t bytes = 0;
  for (const Param& p : graph.params()) bytes += p.kind == Param::Kind::state ? room(p) : 0;
  const std::shared_ptr<void> block = allocate_aligned(bytes);
  auto* at = static_cast<std::byte*>(block.get());
  for (const Param& p : graph.params()) {
    if (p.kind != Param::Kind::state) continue;
    store_.set(p.name, Tensor(p.type.dtype, p.type.shape, at, block));
    caches_.push_back(p.name);
    at += room(p);
  }
}

bool DecodingSession::two_stacks() const { return config_.family->decode != nullptr; }

std::vector<int64_t> DecodingSession::beginning(const std::vector<int64_t>& prompt) const {
  if (!two_stacks()) return prompt;
  return {std::max<int64_t>(config_.decoder_start_id, 0)};
}

std::unique_ptr<Executor> DecodingSession::program(CacheOptions::Use use, int64_t tokens) {
  ModelOptions options = {.batch = rows_, .length = tokens, .head = Head::causal_lm};
  if (two_stacks()) {
    if (use == CacheOptions::Use::extend) options.length = fill_columns_;
    options.target_length = 1;
    options.head = Head::seq2seq_lm;
  }
  options.cache = {use, capacity_};
  options.last_logits = true;
  const bool begun = use == CacheOptions::Use::extend;
  if (!begun) options.length += model_.virtual_tokens;
  Graph graph = model_.build(options);
  if (model_.adapt && !(begun && model_.virtual_tokens > 0)) graph = model_.adapt(graph);
  prepare_cache(graph);
  return std::make_unique<Executor>(compile(graph, store_), store_);
}

std::span<float> DecodingSession::take_logits(Executor& executor) {
  const Tensor logits = executor.output("logits");
  logits_.assign(logits.data<float>(), logits.data<float>() + logits.elements());
  return logits_;
}

std::span<float> DecodingSession::start(const std::vector<std::vector<int64_t>>& prompts,
                                        int64_t new_tokens) {
  std::vector<TokenRow> texts;
  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) throw UsageError("a prompt has no tokens; give it at least one");
    texts.push_back({prompt, {}});
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  const int64_t v = model_.virtual_tokens, T = longest + v;
  const int64_t begun = two_stacks() ? 1 : T;  // columns of the decoder
  if (const int64_t most = longest_row(config_); T + model_.first_position + new_tokens > most) {
    throw UsageError(
        "a prompt of {} tokens and {} new ones do not fit into the model's {} positions; shorten "
        "the prompt or ask for fewer",
        T + model_.first_position, new_tokens, most);
  }
  const auto rows = static_cast<int64_t>(prompts.size());
  if (const int64_t capacity = rounded_up(begun + new_tokens, kCapacityStep);
      rows != rows_ || capacity != capacity_) {
    rows_ = rows;
    capacity_ = capacity;
    caches_.clear();
    fill_.reset();
    extend_.reset();
  }
  if (fill_ == nullptr || fill_columns_ != T) {
    fill_columns_ = T;
    // What is kept of an encoder has the length of its text.
    if (two_stacks()) {
      caches_.clear();
      extend_.reset();
    }
    fill_ = program(CacheOptions::Use::fill, longest);
  }
  Executor& fill = *fill_;
  fill_inputs(
      config_, texts, longest, {v, model_.first_position},
      [&](const std::string& name) { return fill.has_input(name) ? &fill.input(name) : nullptr; },
      two_stacks() ? Side::right : Side::left);
  const Tensor& mask = fill.input("attention_mask");
  visible_.assign(static_cast<size_t>(rows_ * capacity_), 0);
  positions_.assign(static_cast<size_t>(rows_), 0);
  for (int64_t r = 0; r < rows_; ++r) {
    for (int64_t t = 0; t < begun; ++t) {
      const int64_t shown = two_stacks() ? 1 : mask.data<int64_t>()[r * T + t];
      visible_[static_cast<size_t>(r * capacity_ + t)] = shown;
      positions_[static_cast<size_t>(r)] += shown;
    }
  }
  if (two_stacks()) {
    encoder_mask_ = mask.clone();
    std::ranges::fill(fill.input("decoder_input_ids").span<int64_t>(), beginning(prompts[0])[0]);
  }
  columns_ = begun;
  fill.run();
  return take_logits(fill);
}

std::span<float> DecodingSession::extend(std::span<const int64_t> tokens) {
  GRAFT_DCHECK(static_cast<int64_t>(tokens.size()) == rows_ && columns_ < capacity_);
  if (extend_ == nullptr) extend_ = program(CacheOptions::Use::extend, 1);
  Executor& step = *extend_;
  std::ranges::copy(tokens,
                    step.input(two_stacks() ? "decoder_input_ids" : "input_ids").data<int64_t>());
  if (two_stacks()) step.set_input("attention_mask", encoder_mask_);
  step.input("cache_column").data<int64_t>()[0] = columns_;
  for (int64_t r = 0; r < rows_; ++r) {
    visible_[static_cast<size_t>(r * capacity_ + columns_)] = 1;
    int64_t& position = positions_[static_cast<size_t>(r)];
    if (step.has_input("position_ids")) {
      step.input("position_ids").data<int64_t>()[r] =
          config_.first_position + model_.first_position + position;
    }
    ++position;
  }
  if (step.has_input("cache_mask"))
    std::ranges::copy(visible_, step.input("cache_mask").data<int64_t>());
  if (step.has_input("cache_window_mask")) {
    int64_t* const seen = step.input("cache_window_mask").data<int64_t>();
    const int64_t window = std::ranges::max(config_.windows);
    for (int64_t i = 0; i < rows_ * capacity_; ++i)
      seen[i] = i % capacity_ > columns_ - window ? visible_[static_cast<size_t>(i)] : 0;
  }
  ++columns_;
  step.run();
  return take_logits(step);
}

void DecodingSession::forget() {
  fill_.reset();
  extend_.reset();
  for (const std::string& name : caches_) store_.erase(name);
  caches_.clear();
  rows_ = 0;
}

void DecodingSession::reorder(std::span<const int64_t> from) {
  const auto permute = [&](std::byte* data, size_t row_bytes) {
    std::vector<std::byte> old(data, data + static_cast<size_t>(rows_) * row_bytes);
    for (size_t r = 0; r < from.size(); ++r) {
      if (from[r] != static_cast<int64_t>(r))
        std::memcpy(data + r * row_bytes, old.data() + static_cast<size_t>(from[r]) * row_bytes,
                    row_bytes);
    }
  };
  for (const std::string& name : caches_) {
    Tensor& cache = store_.get(name);
    permute(static_cast<std::byte*>(cache.bytes()),
            cache.size_bytes() / static_cast<size_t>(rows_));
  }
  permute(reinterpret_cast<std::byte*>(visible_.data()),
          static_cast<size_t>(capacity_) * sizeof(int64_t));
  permute(reinterpret_cast<std::byte*>(positions_.data()), sizeof(int64_t));
}

}  // namespace graft
