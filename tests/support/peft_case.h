// What every test of a method on a model needs: its promises, settings for models of a few
// channels, parameters to begin with and others at which the adapter matters.
#pragma once

#include <map>
#include <string>

#include "autograd/param_store.h"
#include "peft/method.h"

namespace graft::testing {

struct Promise {
  bool identity;  // the adapted model begins as the base
  bool merges;
};
const std::map<std::string, Promise>& promises();

// Hyperparameters that a model of some 24 channels holds; empty where the defaults do.
Json small_settings(const std::string& method);

// The folder's weights and the method's start; where it chooses by information, by any.
void fill_store(const peft::Adapted& adapted, const std::string& folder, ParamStore& store);

// Moves what trains away from its start, where many an adapter does nothing.
void disturb(const Graph& graph, ParamStore& store, float by);

}  // namespace graft::testing
