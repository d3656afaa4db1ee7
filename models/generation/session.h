// A batch of texts that grows token by token: the programs and the cache behind generation.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "autograd/executor.h"
#include "models/model.h"

namespace graft {

// What a session runs: a model, adapted or not.
struct DecodingModel {
  // The base model's graph for some options, which the session sets.
  std::function<Graph(const ModelOptions&)> build;
  // What an adapter makes of it; empty: nothing.
  std::function<Graph(const Graph&)> adapt = {};
  // Rows in front of every prompt. Where a text goes on they are in the cache, and the base model
  // is what runs.
  int64_t virtual_tokens = 0;
  // Added to every position: columns of keys that a prefix method has in front.
  int64_t first_position = 0;
};

// Two programs over one ParamStore: one fills the cache with the prompts, one extends it by a token
// per row. Both are compiled once per shape and kept.
class DecodingSession {
 public:
  // The store has the model's parameters and gets the cache's; it must outlive the session.
  DecodingSession(const ModelConfig& config, ParamStore& store, DecodingModel model);

  int64_t vocab() const { return config_.vocab; }
  int64_t rows() const { return rows_; }
  // What a text that grows begins with: the prompt, or a decoder's start token.
  std::vector<int64_t> beginning(const std::vector<int64_t>& prompt) const;

  // Begins anew with these prompts, room for `new_tokens` more each. Returns logits [rows, V] of
  // the next token, valid (and free to be changed) until the next call. Throws UsageError for an
  // empty prompt, or one that leaves no room in the model's positions.
  std::span<float> start(const std::vector<std::vector<int64_t>>& prompts, int64_t new_tokens);
  // Appends a token to each row.
  std::span<float> extend(std::span<const int64_t> tokens);
  // Row r goes on from what row from[r] holds.
  void reorder(std::span<const int64_t> from);
  // Gives back what the store holds of the texts.
  void forget();
  // What extend() runs, to be profiled; null before its first call.
  Executor* extender() const { return extend_.get(); }

 private:
  std::unique_ptr<Executor> program(CacheOptions::Use use, int64_t tokens);
  std::span<float> take_logits(Executor& executor);
  void prepare_cache(const Graph& graph);
  bool two_stacks() const;

  const ModelConfig& config_;
  ParamStore& store_;
  DecodingModel model_;
  int64_t rows_ = 0, capacity_ = 0, columns_ = 0;  // columns_: that hold a token
  std::unique_ptr<Executor> fill_, extend_;
  int64_t fill_columns_ = 0;         // of the prompts that fill_ is for
  std::vector<std::string> caches_;  // names of state parameters
  std::vector<int64_t> visible_;     // [rows, capacity]: what each row may see
  std::vector<int64_t> positions_;   // [rows]: of the next token
  Tensor encoder_mask_;              // [rows, length] of the prompts, where they have a stack
  std::vector<float> logits_;
};

}  // namespace graft
