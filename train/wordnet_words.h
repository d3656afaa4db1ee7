// WordNet for models that learn words: what the classes of its tasks are called, and its glosses as
// running text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "train/wordnet.h"

namespace graft {

// supersense: names of the lexicographer files; nli: what the first text is to the second; gloss:
// whether it is that of the word as used. Empty for a task without classes.
std::vector<std::string> wordnet_class_names(std::string_view task);

// glosses.train.txt, glosses.dev.txt and glosses.test.txt: "lemma: gloss", one synset a line,
// parted as the tasks are, so that text of the first holds no gloss that supersense tests. Returns
// their paths.
std::vector<std::string> write_wordnet_glosses(const std::string& folder,
                                               const std::string& wordnet_folder = kWordnetFolder);

}  // namespace graft
