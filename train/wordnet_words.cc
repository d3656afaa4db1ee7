#include "train/wordnet_words.h"

#include <array>

#include "core/atomic_file.h"
#include "core/error.h"
#include "train/wordnet_data.h"

namespace graft {

std::vector<std::string> wordnet_class_names(std::string_view task) {
  if (task == "nli") return {"hyponym", "hypernym", "neither"};
  if (task == "gloss") return {"false", "true"};
  if (task != "supersense") return {};
  return {"noun.act",           "noun.animal",      "noun.artifact",      "noun.attribute",
          "noun.body",          "noun.cognition",   "noun.communication", "noun.event",
          "noun.feeling",       "noun.food",        "noun.group",         "noun.location",
          "noun.motive",        "noun.object",      "noun.person",        "noun.phenomenon",
          "noun.plant",         "noun.possession",  "noun.process",       "noun.quantity",
          "noun.relation",      "noun.shape",       "noun.state",         "noun.substance",
          "noun.time",          "verb.body",        "verb.change",        "verb.cognition",
          "verb.communication", "verb.competition", "verb.consumption",   "verb.contact",
          "verb.creation",      "verb.emotion",     "verb.motion",        "verb.perception",
          "verb.possession",    "verb.social",      "verb.stative",       "verb.weather"};
}

std::vector<std::string> write_wordnet_glosses(const std::string& folder,
                                               const std::string& wordnet_folder) {
  std::array<std::string, 3> texts;
  for (const Synset& s : read_wordnet(wordnet_folder).synsets)
    texts[split_of(s.key)] += fmt::format("{}: {}\n", word_text(s.words.at(0)), s.gloss);
  make_folders(folder);
  std::vector<std::string> paths;
  for (const auto& [part, name] : {std::pair{kTrain, "train"}, {kDev, "dev"}, {kTest, "test"}}) {
    paths.push_back(fmt::format("{}/glosses.{}.txt", folder, name));
    write_file(paths.back(), texts[part]);
  }
  return paths;
}

}  // namespace graft
