// WordNet's data files: synsets with words, pointers, glosses and usage examples.
#pragma once

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace graft {

struct Synset {
  std::string key;  // pos letter and offset: "n00001740"
  char pos = 'n';
  int lex_file = 0;
  std::vector<std::string> words;                     // with _ and without adjective markers
  std::vector<std::pair<std::string, int>> pointers;  // symbol and index of the target
  std::string gloss;
  std::vector<std::string> examples;
};

struct Wordnet {
  std::vector<Synset> synsets;  // in file order
  std::unordered_map<std::string, int> by_key;
};

Wordnet read_wordnet(const std::string& folder);  // throws FileError

enum Split : size_t { kTrain, kDev, kTest };
Split split_of(const std::string& unit);  // a key, or what else stays together (train/wordnet.cc)

std::string lowered(std::string s);              // ASCII
std::string word_text(const std::string& word);  // _ becomes a space

}  // namespace graft
