// Tokenizers in megabytes of text per second, on one thread and on all.
//
//   tokenizer_bench [--text FILE] FOLDER...
//
// Byte-level BPE with 32000 tokens trained on the text comes first, then the tokenizers of folders.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include "bench/main.h"
#include "bench/measure.h"
#include "core/atomic_file.h"
#include "core/parallel.h"
#include "models/tokenizer.h"
#include "models/tokenizer/bpe_train.h"

namespace graft {
namespace {

// English, one gloss a line: what is behind the bar in WordNet's files.
std::string wordnet_text(size_t least) {
  std::string all;
  for (const char* file : {"noun", "verb", "adj", "adv"}) {
    const std::string data = read_file(fmt::format("/usr/share/wordnet/data.{}", file));
    for (size_t at = 0; at < data.size();) {
      const size_t end = std::min(data.find('\n', at), data.size());
      const std::string_view line = std::string_view(data).substr(at, end - at);
      if (const size_t bar = line.find("| "); bar != std::string_view::npos) {
        all += line.substr(bar + 2);
        all += '\n';
      }
      at = end + 1;
    }
  }
  const std::string once = all;
  while (all.size() < least && !once.empty()) all += once;
  return all;
}

// Documents of some kilobytes, cut at line ends.
std::vector<std::string> documents(const std::string& text) {
  constexpr size_t kBytes = 8192;
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', std::min(at + kBytes, text.size())), text.size());
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

double seconds_of(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void measure(const std::string& name, const Tokenizer& tokenizer,
             const std::vector<std::string>& texts, size_t bytes) {
  const int all = num_threads();
  size_t tokens = 0;
  auto rate = [&](int threads) {
    set_num_threads(threads);
    // One thread by the processor time that it got, several by the wall (bench/README.md).
    const clockid_t clock = threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    std::vector<double> seconds;
    constexpr int kRounds = 3;
    for (int r = 0; r < kRounds; ++r) {
      const double start = seconds_of(clock);
      tokens = 0;
      for (const Encoding& e : tokenizer.encode_batch(texts)) tokens += e.ids.size();
      seconds.push_back(seconds_of(clock) - start);
    }
    set_num_threads(all);
    return static_cast<double>(bytes) / 1e6 / bench::median(seconds);
  };
  const double one = rate(1);
  fmt::print("{:<40} {:>8.1f} MB/s on 1 thread, {:>8.1f} on {}; {:.2f} bytes a token\n", name, one,
             rate(all), all, static_cast<double>(bytes) / static_cast<double>(tokens));
}

// The text of the file, or WordNet's glosses; a trained vocabulary and those of the folders.
void run(std::string text, const std::vector<std::string>& folders) {
  constexpr size_t kLeast = 12'000'000;
  if (text.empty()) text = wordnet_text(kLeast);
  const std::vector<std::string> texts = documents(text);
  fmt::print("{}; {:.1f} MB in {} texts\n", bench::machine(),
             static_cast<double>(text.size()) / 1e6, texts.size());
  BpeTrainer trainer;
  const double start = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  for (const std::string& t : texts) trainer.add(t);
  const Json trained = trainer.train();
  const std::string name = fmt::format("byte-level BPE (trained in {:.1f} s)",
                                       seconds_of(CLOCK_PROCESS_CPUTIME_ID) - start);
  measure(name, *parse_tokenizer_json(json_text(trained), "trained"), texts, text.size());
  for (const std::string& folder : folders)
    measure(folder, *load_tokenizer(folder), texts, text.size());
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  graft::bench::Command command;
  struct {
    std::string file;
    std::vector<std::string> folders;
  } o;
  command.add_option("--text", o.file, "a text file; without it WordNet's glosses");
  command.add_option("folders", o.folders, "whose tokenizers take part");
  return command.main(
      argc, argv, [&] { graft::run(o.file.empty() ? "" : graft::read_file(o.file), o.folders); });
}
