#include "models/generation/generate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace graft {
namespace {

using Tokens = std::vector<int64_t>;

bool ends(const GenerationOptions& o, int64_t token) {
  return std::ranges::find(o.eos_ids, token) != o.eos_ids.end();
}

std::span<float> row_of(std::span<float> logits, int64_t vocab, int64_t row) {
  return logits.subspan(static_cast<size_t>(row * vocab), static_cast<size_t>(vocab));
}

std::vector<Tokens> token_by_token(DecodingSession& session, const std::vector<Tokens>& prompts,
                                   const GenerationOptions& o, const TokenListener& listener) {
  Sampler sampler(o.sampling);
  const size_t rows = prompts.size();
  std::vector<Tokens> texts, fresh(rows);
  for (const Tokens& prompt : prompts) texts.push_back(session.beginning(prompt));
  std::vector<bool> done(rows, false);
  Tokens next(rows);
  std::span<float> logits = session.start(prompts, o.max_new_tokens);
  for (int64_t step = 0; step < o.max_new_tokens; ++step) {
    for (size_t r = 0; r < rows; ++r) {
      if (done[r]) continue;  // keeps its last token, which no one reads
      const auto row = static_cast<int64_t>(r);
      next[r] = sampler.next(row_of(logits, session.vocab(), row), texts[r], row, step);
      texts[r].push_back(next[r]);
      fresh[r].push_back(next[r]);
      const bool wanted = listener == nullptr || listener(row, next[r]);
      done[r] = !wanted || ends(o, next[r]);
    }
    if (step + 1 == o.max_new_tokens || std::ranges::find(done, false) == done.end()) break;
    logits = session.extend(next);
  }
  return fresh;
}

// ---- beam search, as transformers does it without early stopping

struct Beam {
  Tokens text;       // from its beginning on
  double score = 0;  // sum of log probabilities
};

class BeamSearch {
 public:
  BeamSearch(DecodingSession& session, const GenerationOptions& o,
             const std::vector<Tokens>& prompts)
      : session_(session), o_(o), prompts_(prompts), groups_(prompts.size()) {
    for (const Tokens& prompt : prompts) begun_.push_back(session.beginning(prompt));
  }

  std::vector<Tokens> run() {
    std::vector<Tokens> repeated;
    for (size_t p = 0; p < prompts_.size(); ++p) {
      for (int64_t b = 0; b < o_.beams; ++b) repeated.push_back(prompts_[p]);
      groups_[p].running.push_back({begun_[p], 0});
    }
    std::span<float> logits = session_.start(repeated, o_.max_new_tokens);
    for (int64_t step = 0; step < o_.max_new_tokens; ++step) {
      Tokens next, from;
      bool all_done = true;
      for (size_t p = 0; p < groups_.size(); ++p) {
        advance(p, logits, next, from);
        all_done = all_done && groups_[p].done;
      }
      if (all_done || step + 1 == o_.max_new_tokens) break;
      session_.reorder(from);
      logits = session_.extend(next);
    }
    std::vector<Tokens> best;
    for (size_t p = 0; p < groups_.size(); ++p) best.push_back(best_of(p));
    return best;
  }

 private:
  struct Group {  // of one prompt
    std::vector<Beam> running, finished;
    bool done = false;
  };

  double normalized(double score, size_t length) const {
    return score / std::pow(static_cast<double>(length), o_.length_penalty);
  }

  // One token more for every running beam of prompt p; appends to `next` and `from` for each of its
  // rows.
  void advance(size_t p, std::span<float> logits, Tokens& next, Tokens& from) {
    Group& group = groups_[p];
    const auto first = static_cast<int64_t>(p) * o_.beams;
    std::vector<Beam> running;
    Tokens tokens, sources;
    if (!group.done) {
      for (const Candidate& c : best_candidates(group, first, logits)) {
        const Beam& parent = group.running[c.beam];
        Beam beam{parent.text, c.score};
        beam.text.push_back(c.token);
        // Among the best `beams` alone an end counts; below, it leaves its place to a running beam.
        if (ends(o_, c.token)) {
          if (c.rank < o_.beams) finish(p, std::move(beam));
        } else if (static_cast<int64_t>(running.size()) < o_.beams) {
          tokens.push_back(c.token);
          sources.push_back(first + static_cast<int64_t>(c.beam));
          running.push_back(std::move(beam));
        }
      }
      group.running = std::move(running);
      const size_t length = group.running[0].text.size() - begun_[p].size();
      group.done = static_cast<int64_t>(group.finished.size()) == o_.beams &&
                   worst(group, p) >= normalized(group.running[0].score, length);
    }
    // Rows that no beam holds go on as any other.
    while (static_cast<int64_t>(tokens.size()) < o_.beams) {
      tokens.push_back(tokens.empty() ? 0 : tokens.back());
      sources.push_back(sources.empty() ? first : sources.back());
    }
    next.insert(next.end(), tokens.begin(), tokens.end());
    from.insert(from.end(), sources.begin(), sources.end());
  }

  struct Candidate {
    double score;
    size_t beam;
    int64_t token, rank;
  };

  // The best continuations over all running beams, enough for `beams` that do not end.
  std::vector<Candidate> best_candidates(const Group& group, int64_t first,
                                         std::span<float> logits) const {
    const int64_t V = session_.vocab();
    std::vector<Candidate> all;
    for (size_t b = 0; b < group.running.size(); ++b) {
      const std::span<float> row = row_of(logits, V, first + static_cast<int64_t>(b));
      double sum = 0;
      const auto most = static_cast<double>(row[static_cast<size_t>(argmax(row))]);
      for (const float x : row) sum += std::exp(static_cast<double>(x) - most);
      const double log_sum = most + std::log(sum);
      // The penalty is on log probabilities here, as in the reference.
      for (float& x : row) x = static_cast<float>(static_cast<double>(x) - log_sum);
      penalize_repetition(row, group.running[b].text, o_.sampling.repetition_penalty);
      for (int64_t id = 0; id < V; ++id) {
        all.push_back(
            {group.running[b].score + static_cast<double>(row[static_cast<size_t>(id)]), b, id, 0});
      }
    }
    const auto wanted = std::min<size_t>(
        all.size(), static_cast<size_t>(o_.beams) * std::max<size_t>(2, 1 + o_.eos_ids.size()));
    std::partial_sort(all.begin(), all.begin() + static_cast<int64_t>(wanted), all.end(),
                      [](const Candidate& a, const Candidate& b) {
                        if (a.score != b.score) return a.score > b.score;
                        return a.beam != b.beam ? a.beam < b.beam : a.token < b.token;
                      });
    all.resize(wanted);
    for (size_t i = 0; i < all.size(); ++i) all[i].rank = static_cast<int64_t>(i);
    return all;
  }

  double score_of(const Beam& beam, size_t p) const {
    return normalized(beam.score, beam.text.size() - begun_[p].size());
  }
  double worst(const Group& group, size_t p) const {
    double least = score_of(group.finished[0], p);
    for (const Beam& beam : group.finished) least = std::min(least, score_of(beam, p));
    return least;
  }

  // Keeps the best `beams` finished ones.
  void finish(size_t p, Beam beam) {
    std::vector<Beam>& finished = groups_[p].finished;
    finished.push_back(std::move(beam));
    std::ranges::stable_sort(
        finished, [&](const Beam& a, const Beam& b) { return score_of(a, p) > score_of(b, p); });
    if (static_cast<int64_t>(finished.size()) > o_.beams) finished.pop_back();
  }

  Tokens best_of(size_t p) {
    Group& group = groups_[p];
    if (!group.done) {
      const std::vector<Beam> running = std::move(group.running);
      for (const Beam& beam : running) finish(p, beam);
    }
    const Tokens& text = group.finished[0].text;
    return {text.begin() + static_cast<int64_t>(begun_[p].size()), text.end()};
  }

  DecodingSession& session_;
  const GenerationOptions& o_;
  const std::vector<Tokens>& prompts_;
  std::vector<Tokens> begun_;  // what the texts begin with
  std::vector<Group> groups_;
};

}  // namespace

std::vector<std::vector<int64_t>> generate(DecodingSession& session,
                                           const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerationOptions& options,
                                           const TokenListener& listener) {
  options.sampling.check();
  if (options.max_new_tokens < 1)
    throw UsageError("the number of new tokens should be 1 or more but is {}",
                     options.max_new_tokens);
  if (options.beams < 1)
    throw UsageError("the number of beams should be 1 or more but is {}", options.beams);
  if (prompts.empty()) return {};
  if (options.beams == 1) return token_by_token(session, prompts, options, listener);
  if (options.sampling.temperature != 0)
    throw UsageError("beam search does not sample; use a temperature of 0 or one beam");
  return BeamSearch(session, options, prompts).run();
}

}  // namespace graft
