#include "autograd/plan/budget.h"

#include <algorithm>
#include <cmath>

#include "autograd/plan/sequence.h"

namespace graft {

BudgetPlanner::BudgetPlanner(const Graph& graph, const std::vector<int32_t>& order,
                             Segmentation segments)
    : graph_(graph), order_(order), cut_(std::move(segments)) {
  std::vector<ChainLink> links;
  std::vector<int64_t> widest, peak;  // of each kind
  for (const Segment& segment : cut_.kinds) {
    options_.push_back(options_of(segment));
    ChainLink& link = links.emplace_back(link_of(segment));
    int64_t kept = 0, most = 0;
    for (const SegmentOption& o : options_.back()) {
      link.options.push_back(o.option);
      kept = std::max(kept, o.option.kept);
      most = std::max({most, o.option.forward_peak, o.option.backward_peak});
    }
    widest.push_back(kept + std::max<int64_t>(link.left, 0));
    peak.push_back(std::max({most, link.forward_peak, link.from_input.backward_peak}));
  }
  for (const Section& section : cut_.sections) {
    std::vector<int32_t> kinds;
    for (const Section::Piece& piece : section.pieces) kinds.push_back(piece.kind);
    const auto known = std::ranges::find(chains_, kinds, &Chain::kinds);
    chain_.push_back(static_cast<size_t>(known - chains_.begin()));
    if (known != chains_.end()) continue;
    int64_t most = 0, highest = 0;
    for (const int32_t kind : kinds) {
      most += widest[static_cast<size_t>(kind)];
      highest = std::max(highest, peak[static_cast<size_t>(kind)]);
    }
    most += highest;
    most_ = std::max(most_, most);
    chains_.push_back({kinds, ChainPlanner(links, kinds, most)});
  }
  for (const Chain& chain : chains_) {
    int64_t low = 0, high = most_;
    while (high - low > static_cast<int64_t>(chain.planner.step())) {
      const int64_t middle = low + (high - low) / 2;
      (std::isfinite(chain.planner.cost(middle)) ? high : low) = middle;
    }
    least_ = std::max(least_, high);
  }
}

double BudgetPlanner::step() const {
  double step = 1;
  for (const Chain& chain : chains_) step = std::max(step, chain.planner.step());
  return step;
}

// Follows the plan of each section's chain.
class BudgetPlanner::Emitter {
 public:
  Emitter(const BudgetPlanner& planner, int64_t budget)
      : planner_(planner), budget_(budget), sequence_(planner.graph_, planner.order_) {
    for (const Value v : planner.cut_.always) sequence_.keep_to_the_end(v);
  }

  std::vector<int32_t> run() {
    for (size_t s = 0; s < planner_.cut_.sections.size(); ++s) run_section(s);
    return sequence_.take();
  }

 private:
  using Stretch = ChainPlanner::Stretch;

  void run_section(size_t s) {
    section_ = &planner_.cut_.sections[s];
    chain_ = &planner_.chains_[planner_.chain_[s]].planner;
    for (const int32_t id : section_->forward) sequence_.run(id);
    sequence_.forget(section_->forward);
    open_.clear();
    for (const Stretch& stretch : chain_->first_pass(budget_)) hold(stretch);
    for (size_t b = 0; b < section_->backward.size(); ++b) {
      const int32_t id = section_->backward[b];
      if (section_->piece_of[b] >= 0) open(section_->piece_of[b]);
      for (const Value v : planner_.graph_.node(id).inputs) sequence_.want(v);
      sequence_.run(id);
    }
  }

  const Section::Piece& piece(int32_t i) const { return section_->pieces[static_cast<size_t>(i)]; }

  // What a stretch keeps is there from now on.
  void hold(const Stretch& stretch) {
    if (stretch.option < 0) {
      if (piece(stretch.first).input.valid()) sequence_.keep(piece(stretch.first).input);
      open_.push_back(stretch);
      return;
    }
    for (const Value v : kept_by(stretch)) sequence_.keep(v);
  }
  std::vector<Value> kept_by(const Stretch& stretch) const {
    const Section::Piece& p = piece(stretch.first);
    const SegmentOption& option =
        planner_.options_[static_cast<size_t>(p.kind)][static_cast<size_t>(stretch.option)];
    std::vector<Value> kept;
    for (size_t v = 0; v < option.kept.size(); ++v) {
      if (option.kept[v]) kept.push_back(p.values[v]);
    }
    return kept;
  }

  // Goes on from the kept input below a piece until the piece's own input or what it keeps is
  // there.
  void open(int32_t i) {
    while (!open_.empty() && open_.back().first > i) open_.pop_back();
    while (!open_.empty() && open_.back().end > i) {
      Stretch stretch = open_.back();
      stretch.end = i + 1;  // above, nothing is left to be done
      open_.pop_back();
      if (stretch.first == i) return;
      const std::vector<Stretch> parts = chain_->split(stretch);
      if (parts.size() < 2) return;
      std::vector<Value> wanted{piece(parts[1].first).input};
      if (parts[0].option >= 0) {
        const std::vector<Value> kept = kept_by(parts[0]);
        wanted.insert(wanted.end(), kept.begin(), kept.end());
      }
      sequence_.run_up_to(wanted);
      if (parts[0].option >= 0) {
        if (const Value in = piece(stretch.first).input;
            std::ranges::find(wanted, in) == wanted.end())
          sequence_.drop(in);
      } else {
        open_.push_back(parts[0]);
      }
      open_.push_back(parts[1]);
    }
  }

  const BudgetPlanner& planner_;
  int64_t budget_;
  Sequence sequence_;
  const Section* section_ = nullptr;
  const ChainPlanner* chain_ = nullptr;
  std::vector<Stretch> open_;  // whose backward is to come, the next one last
};

std::vector<int32_t> BudgetPlanner::runs(int64_t budget) const {
  return Emitter(*this, std::clamp(budget, least_, most_)).run();
}

}  // namespace graft
