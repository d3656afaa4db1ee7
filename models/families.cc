#include "models/families.h"

#include <array>

namespace graft {

std::span<const Family> families() {
  static const std::array all = {
      bert::kBert,         bert::kRoberta, bert::kDistilbert, llama::kLlama,
      llama::kMistral,     llama::kQwen2,  llama::kQwen3,     llama::kGemma,
      llama::kGemma2,      gpt2::kGpt2,    opt::kOpt,         gpt_neox::kGptNeox,
      deberta::kDebertaV2, t5::kT5,        t5::kMt5,          vit::kVit};
  return all;
}

}  // namespace graft
