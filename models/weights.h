// The weights of Hugging Face model folders.
#pragma once

#include <string>

#include "autograd/param_store.h"

namespace graft {

// Fills the store with the parameters of a graph from model.safetensors of a folder. 16-bit floats
// are widened. Tensors named as in a bare encoder or below a class prefix both match. Parameters of
// a head may be absent or made for other labels: they keep their initializer. Throws FileError.
void load_parameters(const std::string& folder, const Graph& graph, ParamStore& store);

}  // namespace graft
