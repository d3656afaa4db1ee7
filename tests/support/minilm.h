// The real pretrained encoder that tests run on.
#pragma once

#include <string>

namespace graft::testing {

// $GRAFT_MINILM, or build/minilm of the source tree, where ./test puts it. Throws when it is not
// there.
std::string minilm_folder();

}  // namespace graft::testing
