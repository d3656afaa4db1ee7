#include "train/wordnet.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <set>
#include <unordered_set>

#include "core/atomic_file.h"
#include "core/error.h"
#include "train/wordnet_data.h"

namespace graft {

uint64_t task_hash(std::string_view s) {
  uint64_t x = 14695981039346656037u;
  for (char c : s) x = (x ^ static_cast<unsigned char>(c)) * 1099511628211u;
  uint64_t z = x + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

Split split_of(const std::string& unit) {
  const uint64_t b = task_hash("split:" + unit) % 100;
  return b < 75 ? kTrain : b < 85 ? kDev : kTest;
}

namespace {

constexpr std::array<size_t, 3> kSizes = {8000, 1000, 2000};
using Splits = std::array<std::vector<TaskRow>, 3>;

// By hash of task and id, then by id.
void rank(const std::string& task, std::vector<TaskRow>& rows) {
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < rows.size(); ++i)
    order.emplace_back(task_hash(task + ":" + rows[i].id), i);
  std::ranges::sort(order, [&](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : rows[a.second].id < rows[b.second].id;
  });
  std::vector<TaskRow> sorted;
  for (const auto& [hash, i] : order) sorted.push_back(std::move(rows[i]));
  rows = std::move(sorted);
}

void keep_first(std::vector<TaskRow>& rows, size_t n) {
  if (rows.size() > n) rows.resize(n);
}

// Ranks each group, keeps the same number of each (the smallest cap that gives n rows in all),
// ranks what is kept.
std::vector<TaskRow> balanced(const std::string& task, std::map<int, std::vector<TaskRow>>&& groups,
                              size_t n) {
  size_t most = 0;
  for (auto& [label, rows] : groups) {
    rank(task, rows);
    most = std::max(most, rows.size());
  }
  size_t cap = 1;
  for (; cap < most; ++cap) {
    size_t sum = 0;
    for (const auto& [label, rows] : groups) sum += std::min(cap, rows.size());
    if (sum >= n) break;
  }
  std::vector<TaskRow> kept;
  for (auto& [label, rows] : groups) {
    keep_first(rows, cap);
    kept.insert(kept.end(), rows.begin(), rows.end());
  }
  rank(task, kept);
  keep_first(kept, n);
  return kept;
}

bool fit(const Synset& s, size_t most = 80) {
  return s.gloss.size() >= 12 && s.gloss.size() <= most;
}
std::string described(const Synset& s) { return word_text(s.words.at(0)) + ": " + s.gloss; }
const Synset& at(const Wordnet& w, int k) { return w.synsets[static_cast<size_t>(k)]; }

Splits supersense(const Wordnet& w) {
  std::array<std::map<int, std::vector<TaskRow>>, 3> groups;
  for (const Synset& s : w.synsets) {
    if (s.lex_file < 4 || s.lex_file > 43 || !fit(s, 120)) continue;
    groups[split_of(s.key)][s.lex_file - 4].push_back(
        {s.key, std::to_string(s.lex_file - 4), s.gloss, ""});
  }
  Splits out;
  for (size_t i = 0; i < 3; ++i) out[i] = balanced("supersense", std::move(groups[i]), kSizes[i]);
  return out;
}

// Links of the noun graph, by synset index.
struct Links {
  std::vector<std::vector<int>> parents, children;

  Links(const Wordnet& w, bool as_tree) : parents(w.synsets.size()), children(w.synsets.size()) {
    for (size_t i = 0; i < w.synsets.size(); ++i) {
      if (w.synsets[i].pos != 'n') continue;
      for (const auto& [symbol, target] : w.synsets[i].pointers) {
        if (symbol == "@" || (as_tree && symbol == "@i")) parents[i].push_back(target);
      }
      if (as_tree && parents[i].size() > 1) parents[i].resize(1);
      for (int p : parents[i]) children[static_cast<size_t>(p)].push_back(static_cast<int>(i));
    }
  }
  const std::vector<int>& up(int i) const { return parents[static_cast<size_t>(i)]; }
  const std::vector<int>& down(int i) const { return children[static_cast<size_t>(i)]; }

  bool is_ancestor(int above, int below) const {
    std::vector<int> stack = up(below);
    std::unordered_set<int> seen;
    while (!stack.empty()) {
      const int k = stack.back();
      stack.pop_back();
      if (k == above) return true;
      if (seen.insert(k).second) stack.insert(stack.end(), up(k).begin(), up(k).end());
    }
    return false;
  }
};

// A relative of k that is neither its ancestor nor its descendant: a sibling (role 4) or a cousin
// (role 5); -1: none.
int unrelated(const Wordnet& w, const Links& links, int k, int p, uint64_t role) {
  std::vector<int> pool;
  if (role == 4) {
    pool = links.down(p);
  } else if (!links.up(p).empty()) {
    pool = links.down(links.up(p)[0]);
    std::erase(pool, p);
  }
  int o = -1;
  std::pair<uint64_t, std::string> best;
  for (int x : pool) {
    const Synset& c = at(w, x);
    const bool other_split = role == 4 && split_of(c.key) != split_of(at(w, k).key);
    if (x == k || !fit(c) || other_split) continue;
    std::pair<uint64_t, std::string> candidate{task_hash("nli-pick:" + at(w, k).key + ":" + c.key),
                                               c.key};
    if (o < 0 || candidate < best) {
      best = std::move(candidate);
      o = x;
    }
  }
  return o < 0 || links.is_ancestor(o, k) || links.is_ancestor(k, o) ? -1 : o;
}

Splits nli(const Wordnet& w) {
  const Links links(w, false);
  std::set<std::pair<int, int>> seen;
  std::array<std::array<std::vector<TaskRow>, 3>, 3> by_label;
  for (int k = 0; k < static_cast<int>(w.synsets.size()); ++k) {
    const Synset& s = at(w, k);
    if (s.pos != 'n' || !fit(s) || links.up(k).empty()) continue;
    const int p = links.up(k)[0];
    const uint64_t role = task_hash("nli-role:" + s.key) % 6;
    int o = -1, label = 2;
    if (role < 4) {
      o = role % 2 == 1 && !links.up(p).empty() ? links.up(p)[0] : p;
      if (!fit(at(w, o))) continue;
      label = role < 2 ? 0 : 1;
    } else {
      o = unrelated(w, links, k, p, role);
      if (o < 0) continue;
    }
    if (!seen.insert({std::min(k, o), std::max(k, o)}).second) continue;
    const bool swap = label == 1 || (label == 2 && task_hash("nli-swap:" + s.key) % 2 == 1);
    const Synset &a = at(w, swap ? o : k), &b = at(w, swap ? k : o);
    by_label[split_of(s.key)][static_cast<size_t>(label)].push_back(
        {a.key + ":" + b.key, std::to_string(label), described(a), described(b)});
  }
  Splits out;
  for (size_t i = 0; i < 3; ++i) {
    for (size_t y = 0; y < 3; ++y) {
      rank("nli", by_label[i][y]);
      keep_first(by_label[i][y], (kSizes[i] + 2 - y) / 3);
      out[i].insert(out[i].end(), by_label[i][y].begin(), by_label[i][y].end());
    }
    rank("nli", out[i]);
  }
  return out;
}

bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// Whether a lower-cased example contains a form of the word, not as part of a longer one.
bool shows(const std::string& example, const std::string& word, char pos) {
  std::vector<std::string> forms{word};
  const std::string stem = word.substr(0, word.empty() ? 0 : word.size() - 1);
  if (pos == 'n' || pos == 'v') {
    forms.insert(forms.end(), {word + "s", word + "es"});
    if (word.ends_with('y')) forms.push_back(stem + "ies");
  }
  if (pos == 'v') {
    forms.insert(forms.end(), {word + "ed", word + "d", word + "ing"});
    if (word.ends_with('e')) forms.push_back(stem + "ing");
    if (word.ends_with('y')) forms.push_back(stem + "ied");
  }
  for (const std::string& form : forms) {
    for (size_t i = example.find(form); i != std::string::npos; i = example.find(form, i + 1)) {
      const size_t end = i + form.size();
      if ((i == 0 || !is_alphanumeric(example[i - 1])) &&
          (end == example.size() || !is_alphanumeric(example[end])))
        return true;
    }
  }
  return false;
}

// The synsets that show a lemma, with the examples that do; in order of first use.
struct Usage {
  char pos;
  std::string lemma;
  std::vector<std::pair<int, std::vector<std::string>>> keys;
};

std::vector<Usage> find_usages(const Wordnet& w) {
  std::vector<Usage> usages;
  std::map<std::pair<char, std::string>, size_t> index;
  for (int k = 0; k < static_cast<int>(w.synsets.size()); ++k) {
    const Synset& s = at(w, k);
    std::set<std::string> done;
    for (const std::string& word : s.words) {
      const std::string lemma = lowered(word);
      if (s.examples.empty() || !done.insert(lemma).second) continue;
      std::vector<std::string> found;
      for (const std::string& e : s.examples) {
        if (e.size() >= 12 && e.size() <= 90 && shows(lowered(e), word_text(lemma), s.pos))
          found.push_back(e);
      }
      if (found.empty()) continue;
      const auto [it, fresh] = index.try_emplace({s.pos, lemma}, usages.size());
      if (fresh) usages.push_back({s.pos, lemma, {}});
      usages[it->second].keys.emplace_back(k, std::move(found));
    }
  }
  return usages;
}

Splits gloss(const Wordnet& w) {
  const std::vector<Usage> usages = find_usages(w);
  std::vector<bool> shown(w.synsets.size(), false);
  for (const Usage& u : usages) {
    for (const auto& [k, examples] : u.keys) shown[static_cast<size_t>(k)] = true;
  }
  std::map<int, std::vector<int>> pools;
  std::vector<int64_t> place(w.synsets.size(), -1);
  for (int k = 0; k < static_cast<int>(w.synsets.size()); ++k) {
    if (!shown[static_cast<size_t>(k)] || !fit(at(w, k))) continue;
    std::vector<int>& pool = pools[at(w, k).lex_file];
    place[static_cast<size_t>(k)] = static_cast<int64_t>(pool.size());
    pool.push_back(k);
  }
  std::array<std::array<std::vector<TaskRow>, 2>, 3> by_label;
  for (const Usage& u : usages) {
    const Split part = split_of(std::string(1, u.pos) + ":" + u.lemma);
    for (const auto& [k, examples] : u.keys) {
      const int64_t mine = place[static_cast<size_t>(k)];
      if (mine < 0) continue;
      const Synset& s = at(w, k);
      const std::vector<int>& pool = pools.at(s.lex_file);
      const auto size = static_cast<int64_t>(pool.size());
      for (size_t i = 0; i < examples.size(); ++i) {
        const std::string r = u.lemma + ":" + s.key + "." + std::to_string(i);
        const uint64_t x = task_hash("gloss-role:" + r);
        const auto d = static_cast<int64_t>(4 + (x >> 8) % 16);
        const int64_t near = (x & 2) != 0 ? (mine + d) % size : (mine + 20 * size - d) % size;
        const Synset& other = x % 2 == 1 ? s : at(w, pool[static_cast<size_t>(near)]);
        if (x % 2 == 0) {
          const bool same_word = std::ranges::any_of(
              other.words, [&](const std::string& word) { return lowered(word) == u.lemma; });
          if (same_word || other.gloss == s.gloss ||
              std::ranges::find(other.examples, examples[i]) != other.examples.end())
            continue;
        }
        by_label[part][x % 2].push_back({r + ":" + other.key, x % 2 == 1 ? "1" : "0", examples[i],
                                         word_text(u.lemma) + ": " + other.gloss});
      }
    }
  }
  Splits out;
  for (size_t i = 0; i < 3; ++i) {
    for (auto& rows : by_label[i]) {
      rank("gloss", rows);
      keep_first(rows, kSizes[i] / 2);
      out[i].insert(out[i].end(), rows.begin(), rows.end());
    }
    rank("gloss", out[i]);
  }
  return out;
}

Splits sim(const Wordnet& w) {
  const Links links(w, true);
  auto chain = [&](int k) {
    std::vector<int> c{k};
    while (!links.up(c.back()).empty()) c.push_back(links.up(c.back())[0]);
    return c;
  };
  auto contains = [](const std::vector<int>& c, int k) {
    return std::ranges::find(c, k) != c.end();
  };
  std::array<std::map<int, std::vector<TaskRow>>, 3> buckets;
  std::array<std::unordered_set<std::string>, 3> ids;
  for (int k = 0; k < static_cast<int>(w.synsets.size()); ++k) {
    const Synset& s = at(w, k);
    if (s.pos != 'n' || !fit(s)) continue;
    const std::vector<int> own = chain(k);
    const Split part = split_of(s.key);
    for (int j = 0; j < 6; ++j) {
      const std::string t = "sim:" + s.key + ":" + std::to_string(j);
      const uint64_t r = task_hash(t), up = 1 + r % 9, down = (r >> 32) % 5;
      if (up >= own.size()) continue;
      int o = own[up];
      for (uint64_t d = 0; d < down; ++d) {
        std::vector<int> pool = links.down(o);
        std::erase_if(pool, [&](int c) { return contains(own, c); });
        if (pool.empty()) break;
        o = pool[task_hash(t + ":" + std::to_string(d) + ":" + at(w, o).key) % pool.size()];
      }
      const Synset& other = at(w, o);
      if (o == k || !fit(other) || split_of(other.key) != part) continue;
      const std::vector<int> theirs = chain(o);
      const auto common = std::ranges::find_if(own, [&](int c) { return contains(theirs, c); });
      const auto da = static_cast<int64_t>(own.size()), db = static_cast<int64_t>(theirs.size());
      const auto dl = static_cast<int64_t>(own.end() - common);
      const int64_t q = (10000 * dl + (da + db) / 2) / (da + db);
      const bool first = ((r >> 40) & 1) != 0;
      const Synset &a = first ? s : other, &b = first ? other : s;
      const std::string id = a.key + ":" + b.key;
      if (!ids[part].insert(id).second) continue;
      buckets[part][static_cast<int>(std::min<int64_t>(9, q / 500))].push_back(
          {id, fmt::format("{}.{:03}", q / 1000, q % 1000), described(a), described(b)});
    }
  }
  Splits out;
  for (size_t i = 0; i < 3; ++i) out[i] = balanced("sim", std::move(buckets[i]), kSizes[i]);
  return out;
}

const std::map<std::string, std::function<Splits(const Wordnet&)>>& tasks() {
  static const std::map<std::string, std::function<Splits(const Wordnet&)>> table = {
      {"supersense", supersense}, {"nli", nli}, {"gloss", gloss}, {"sim", sim}};
  return table;
}

std::string tsv(const std::vector<TaskRow>& rows, size_t most = SIZE_MAX) {
  std::string text = "id\tlabel\ttext_a\ttext_b\n";
  for (size_t i = 0; i < std::min(most, rows.size()); ++i) {
    text +=
        fmt::format("{}\t{}\t{}\t{}\n", rows[i].id, rows[i].label, rows[i].text_a, rows[i].text_b);
  }
  return text;
}

}  // namespace

std::vector<std::string> wordnet_task_names() { return {"supersense", "nli", "gloss", "sim"}; }

WordnetTask build_wordnet_task(const std::string& name, const std::string& wordnet_folder) {
  const auto it = tasks().find(name);
  if (it == tasks().end())
    throw UsageError("there is no WordNet task '{}'; known: supersense, nli, gloss, sim", name);
  Splits s = it->second(read_wordnet(wordnet_folder));
  return {name, std::move(s[kTrain]), std::move(s[kDev]), std::move(s[kTest])};
}

std::vector<std::string> write_wordnet_task(const WordnetTask& task, const std::string& folder) {
  make_folders(folder);
  const std::pair<const char*, std::string> files[] = {{"train", tsv(task.train)},
                                                       {"dev", tsv(task.dev)},
                                                       {"test", tsv(task.test)},
                                                       {"train256", tsv(task.train, 256)}};
  std::vector<std::string> paths;
  for (const auto& [part, text] : files) {
    paths.push_back(fmt::format("{}/{}.{}.tsv", folder, task.name, part));
    write_file(paths.back(), text);
  }
  return paths;
}

}  // namespace graft
