// The architectures, a file each.
#pragma once

#include <span>

#include "models/family.h"

namespace graft {

std::span<const Family> families();

namespace bert {  // BERT (1810.04805), RoBERTa (1907.11692), DistilBERT (1910.01108)
extern const Family kBert, kRoberta, kDistilbert;
}
namespace llama {  // LLaMA (2302.13971) and those that follow its block
extern const Family kLlama, kMistral, kQwen2, kQwen3, kGemma, kGemma2;
}
namespace gpt2 {
extern const Family kGpt2;
}
namespace opt {
extern const Family kOpt;
}
namespace gpt_neox {
extern const Family kGptNeox;
}
namespace deberta {  // DeBERTa, versions 2 and 3 (2006.03654, 2111.09543)
extern const Family kDebertaV2;
}
namespace t5 {  // T5 (1910.10683) and mT5 (2010.11934)
extern const Family kT5, kMt5;
}
namespace vit {  // ViT (2010.11929)
extern const Family kVit;
}

}  // namespace graft
