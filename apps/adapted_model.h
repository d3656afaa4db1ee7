// A model folder with an adapter on it, or none.
#pragma once

#include <string>

#include "autograd/param_store.h"
#include "models/batch.h"
#include "models/generation/session.h"
#include "models/model.h"
#include "peft/adapter_files.h"

namespace graft {

class AdaptedModel {
 public:
  // `adapter` empty: the model as it is. Reads all parameters.
  AdaptedModel(const std::string& model, const std::string& adapter, Head head);

  // The graphs for texts of options.length tokens, behind the method's virtual ones; head and
  // labels are the model's.
  Graph base(ModelOptions options) const;
  peft::Adapted build(const ModelOptions& options) const;
  // What text is generated with; the model must outlive it.
  DecodingModel decoding() const;

  // Longest text that fits beside the virtual tokens.
  int64_t max_length() const { return longest_row(config_, front_); }
  const InFront& in_front() const { return front_; }  // of every text
  int64_t labels() const { return labels_; }          // of the adapter's head; 0: it has none
  const ModelConfig& config() const { return config_; }
  ParamStore& params() { return store_; }

 private:
  peft::Adapted adapted(const Graph& base) const;

  ModelConfig config_;
  Head head_;
  peft::AdapterConfig adapter_;
  int64_t labels_ = 0;
  InFront front_;
  ParamStore store_;
};

}  // namespace graft
