#include "autograd/plan/segmentation.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "autograd/op.h"
#include "autograd/plan/layout.h"
#include "autograd/plan/sources.h"

namespace graft {
namespace {

constexpr double kOperationsPerByte = 10;
// A value passes over many segments where so much of all is computed while it is alive, and where
// that is so many times its own bytes.
constexpr double kFarShare = 0.25;
constexpr int64_t kFarRatio = 24;
// Longer chains are made of longer segments.
constexpr size_t kMostPieces = 100;

class Cutter {
 public:
  Cutter(const Graph& graph, const std::vector<int32_t>& order, const Scratch& scratch,
         const std::function<bool(Value)>& keeps)
      : graph_(graph), scratch_(scratch), keeps_(keeps) {
    const size_t count = graph.nodes().size();
    section_.assign(count, -1);
    position_.assign(count, -1);
    split_order(order);
    find_always(order);
  }

  Segmentation run() {
    for (size_t s = 0; s < out_.sections.size(); ++s) cut_section(static_cast<int32_t>(s));
    out_.always.assign(always_.begin(), always_.end());
    return std::move(out_);
  }

 private:
  const Node& node(int32_t id) const { return graph_.node(id); }
  Value root(Value v) const { return base_of(graph_, v); }
  int64_t bytes(Value v) const {
    return static_cast<int64_t>(aligned_in_arena(graph_.type(v).bytes()));
  }
  // In the order, of the forward phase, with bytes of its own.
  bool is_forward(Value v) const {
    return section_[static_cast<size_t>(v.node)] >= 0 && node(v.node).phase == Phase::forward;
  }

  void split_order(const std::vector<int32_t>& order) {
    for (const int32_t id : order) {
      const bool forward = node(id).phase == Phase::forward;
      if (out_.sections.empty() || (forward && !out_.sections.back().backward.empty()))
        out_.sections.emplace_back();
      Section& section = out_.sections.back();
      auto& nodes = forward ? section.forward : section.backward;
      section_[static_cast<size_t>(id)] = static_cast<int32_t>(out_.sections.size()) - 1;
      position_[static_cast<size_t>(id)] = static_cast<int32_t>(nodes.size());
      nodes.push_back(id);
    }
  }

  void find_always(const std::vector<int32_t>& order) {
    for (const Value v : graph_.results()) pin(v);
    for (const int32_t id : order) {
      for (const Value v : node(id).inputs) {
        if (!v.valid()) continue;
        const bool other =
            section_[static_cast<size_t>(root(v).node)] != section_[static_cast<size_t>(id)];
        if (other || node(id).phase == Phase::update) pin(v);
        if (node(id).phase != Phase::forward) read_behind_.insert(root(v));
      }
    }
  }
  void pin(Value v) {
    if (is_forward(root(v))) always_.insert(root(v));
  }

  struct Span {
    Value value;
    int32_t first = 0, last = 0;  // positions of its run and its last reader of forward
  };

  void cut_section(int32_t s) {
    Section& section = out_.sections[static_cast<size_t>(s)];
    const std::vector<Span> spans = spans_of(section);
    // Cuts: positions with what passes there.
    std::vector<std::pair<int32_t, Value>> cuts = find_cuts(section, spans);
    while (true) {
      make_pieces(section, cuts);
      if (cuts.size() <= kMostPieces) break;
      cuts = coarser(section, cuts);
    }
  }

  std::vector<Span> spans_of(const Section& section) {
    std::map<Value, int32_t> last;
    for (size_t p = 0; p < section.forward.size(); ++p) {
      for (const Value v : node(section.forward[p]).inputs) {
        if (v.valid() && is_forward(root(v))) last[root(v)] = static_cast<int32_t>(p);
      }
    }
    std::vector<int64_t> made(section.forward.size() + 1, 0);  // bytes before a position
    for (size_t p = 0; p < section.forward.size(); ++p) {
      made[p + 1] = made[p];
      const int32_t id = section.forward[p];
      for (size_t k = 0; k < node(id).outputs.size() && !is_view(node(id)); ++k)
        made[p + 1] += bytes({id, static_cast<int32_t>(k)});
    }
    std::vector<Span> spans;
    far_.clear();
    for (const auto& [v, q] : last) {
      const int32_t p = position_[static_cast<size_t>(v.node)];
      if (always_.contains(v)) continue;
      const int64_t passed = made[static_cast<size_t>(q)] - made[static_cast<size_t>(p) + 1];
      if (bytes(v) * kFarRatio <= passed &&
          static_cast<double>(passed) >= kFarShare * static_cast<double>(made.back())) {
        if (read_behind_.contains(v) || keeps_(v)) {
          always_.insert(v);
        } else {
          far_.insert(v);
        }
        continue;
      }
      spans.push_back({v, p, q});
    }
    return spans;
  }

  std::vector<std::pair<int32_t, Value>> find_cuts(const Section& section,
                                                   const std::vector<Span>& spans) const {
    const size_t n = section.forward.size();
    std::vector<int32_t> count(n + 1, 0);
    std::vector<int64_t> which(n + 1, 0);  // sum of the spans' numbers
    for (size_t i = 0; i < spans.size(); ++i) {
      const auto from = static_cast<size_t>(spans[i].first) + 1;
      const auto to = static_cast<size_t>(spans[i].last) + 1;
      if (to <= from) continue;
      ++count[from];
      --count[to];
      which[from] += static_cast<int64_t>(i);
      which[to] -= static_cast<int64_t>(i);
    }
    std::vector<std::pair<int32_t, Value>> cuts{{0, Value{}}};
    int32_t passing = 0;
    int64_t sum = 0;
    for (size_t p = 0; p < n; ++p) {
      passing += count[p];
      sum += which[p];
      if (p == 0 || passing > 1) continue;
      const Value v = passing == 0 ? Value{} : spans[static_cast<size_t>(sum)].value;
      if (v != cuts.back().second) cuts.emplace_back(static_cast<int32_t>(p), v);
    }
    return cuts;
  }

  // Without the cuts behind the segments of the cheapest kind.
  std::vector<std::pair<int32_t, Value>> coarser(
      const Section& section, const std::vector<std::pair<int32_t, Value>>& cuts) const {
    std::map<int32_t, double> cost;
    for (const Section::Piece& piece : section.pieces) {
      if (&piece == &section.pieces.back()) break;
      double& sum = cost[piece.kind];
      sum = 0;
      for (const Segment::Run& run : out_.kinds[static_cast<size_t>(piece.kind)].forward)
        sum += run.cost;
    }
    const int32_t least =
        std::ranges::min_element(cost, {}, [](const auto& c) { return c.second; })->first;
    std::vector<std::pair<int32_t, Value>> fewer{cuts[0]};
    for (size_t k = 1; k < cuts.size(); ++k) {
      // A piece that has been joined to the one before is not joined again.
      const bool joined = fewer.back() != cuts[k - 1];
      if (section.pieces[k - 1].kind != least || joined) fewer.push_back(cuts[k]);
    }
    return fewer;
  }

  void make_pieces(Section& section, const std::vector<std::pair<int32_t, Value>>& cuts) {
    section.pieces.clear();
    std::vector<int32_t> piece_at(section.forward.size(), 0);
    std::map<Value, int32_t> reader;  // of what passes: the piece that it enters
    for (size_t k = 0; k < cuts.size(); ++k) {
      const auto end =
          k + 1 < cuts.size() ? cuts[k + 1].first : static_cast<int32_t>(section.forward.size());
      section.pieces.push_back({cuts[k].first, end, 0, cuts[k].second, {}});
      std::fill(piece_at.begin() + cuts[k].first, piece_at.begin() + end, static_cast<int32_t>(k));
      if (cuts[k].second.valid()) reader[cuts[k].second] = static_cast<int32_t>(k);
    }
    assign_backward(section, piece_at, reader);
    std::vector<std::vector<int32_t>> backward(section.pieces.size());  // positions
    for (size_t b = 0; b < section.backward.size(); ++b) {
      if (section.piece_of[b] >= 0)
        backward[static_cast<size_t>(section.piece_of[b])].push_back(static_cast<int32_t>(b));
    }
    const std::map<Value, std::pair<int32_t, int32_t>> lives = backward_lives(section);
    std::vector<int64_t> outlasting(section.pieces.size() + 1, 0);
    for (const auto& [v, life] : lives) {
      for (int32_t i = life.first; i > life.second + 1 && i >= 0; --i)
        outlasting[static_cast<size_t>(i)] += bytes(v);
    }
    for (size_t k = 0; k < section.pieces.size(); ++k) {
      Section::Piece& piece = section.pieces[k];
      const Value output = k + 1 < section.pieces.size() ? section.pieces[k + 1].input : Value{};
      Segment segment =
          make_segment(section, piece, output, backward[k], lives, static_cast<int32_t>(k));
      segment.left = outlasting[k] - outlasting[k + 1];
      const auto known = std::ranges::find(out_.kinds, segment);
      piece.kind = static_cast<int32_t>(known - out_.kinds.begin());
      if (known == out_.kinds.end()) out_.kinds.push_back(std::move(segment));
    }
  }

  // Backward runs through the pieces from the last to the first.
  void assign_backward(Section& section, const std::vector<int32_t>& piece_at,
                       const std::map<Value, int32_t>& reader) {
    auto current = static_cast<int32_t>(section.pieces.size()) - 1;
    section.piece_of.assign(section.backward.size(), -1);
    size_t last = 0;
    for (size_t b = 0; b < section.backward.size(); ++b) {
      int32_t inside = -1, passing = -1;
      for (const Value in : node(section.backward[b]).inputs) {
        if (!in.valid() || !is_forward(root(in)) || always_.contains(root(in))) continue;
        const Value v = root(in);
        if (section_[static_cast<size_t>(v.node)] !=
            section_[static_cast<size_t>(section.backward[b])])
          continue;
        if (const auto it = reader.find(v); it != reader.end()) {
          passing = std::max(passing, it->second);
        } else {
          inside = std::max(inside,
                            piece_at[static_cast<size_t>(position_[static_cast<size_t>(v.node)])]);
        }
        last = b;
      }
      if (inside >= 0) {
        current = inside;
      } else if (passing >= 0) {
        current = std::min(current, passing);
      }
      section.piece_of[b] = current;
    }
    for (size_t b = last + 1; b < section.backward.size(); ++b) section.piece_of[b] = -1;
    // What another piece's backward reads as well has to stay.
    for (size_t b = 0; b < section.backward.size(); ++b) {
      for (const Value in : node(section.backward[b]).inputs) {
        if (!in.valid() || !is_forward(root(in))) continue;
        const Value v = root(in);
        const int32_t home = piece_at[static_cast<size_t>(position_[static_cast<size_t>(v.node)])];
        const auto it = reader.find(v);
        const bool enters = it != reader.end() && it->second == section.piece_of[b];
        if (home != section.piece_of[b] && !enters) always_.insert(v);
      }
    }
  }

  // Of what backward makes: the pieces of its run and its last reader.
  std::map<Value, std::pair<int32_t, int32_t>> backward_lives(const Section& section) const {
    std::map<Value, std::pair<int32_t, int32_t>> lives;
    for (size_t b = 0; b < section.backward.size(); ++b) {
      const int32_t id = section.backward[b];
      const int32_t piece = section.piece_of[b];
      for (const Value in : node(id).inputs) {
        if (!in.valid()) continue;
        if (const auto it = lives.find(root(in)); it != lives.end())
          it->second.second = std::min(it->second.second, piece);
      }
      for (size_t k = 0; k < node(id).outputs.size() && !is_view(node(id)); ++k) {
        if (!in_place(node(id), k)) lives[{id, static_cast<int32_t>(k)}] = {piece, piece};
      }
    }
    for (const Value v : graph_.results()) {
      if (const auto it = lives.find(root(v)); it != lives.end()) it->second.second = -2;
    }
    return lives;
  }

  Segment make_segment(const Section& section, Section::Piece& piece, Value output,
                       const std::vector<int32_t>& backward,
                       const std::map<Value, std::pair<int32_t, int32_t>>& lives, int32_t number) {
    Segment segment;
    std::map<Value, int32_t> numbers;
    piece.values.clear();
    const auto number_of = [&](Value v, bool forward) {
      const auto [it, fresh] = numbers.try_emplace(v, static_cast<int32_t>(segment.bytes.size()));
      if (fresh) {
        segment.bytes.push_back(bytes(v));
        piece.values.push_back(forward ? v : Value{});
      }
      return it->second;
    };
    if (piece.input.valid()) segment.input = number_of(piece.input, true);
    for (int32_t p = piece.first; p < piece.end; ++p) {
      const int32_t id = section.forward[static_cast<size_t>(p)];
      if (is_view(node(id))) continue;
      Segment::Run run = make_run(id);
      if (changes_state(node(id))) run.cost = std::numeric_limits<double>::infinity();
      for (size_t i = 0; i < node(id).inputs.size(); ++i) {
        const Value in = node(id).inputs[i];
        if (!in.valid() || !is_forward(root(in)) || always_.contains(root(in))) continue;
        if (far_.contains(root(in))) {
          run.cost = std::numeric_limits<double>::infinity();
          continue;
        }
        add_read(run, number_of(root(in), true), node(id).op->may_overwrite(i));
      }
      for (size_t k = 0; k < node(id).outputs.size(); ++k) {
        const Value v{id, static_cast<int32_t>(k)};
        if (!always_.contains(v) && !far_.contains(v)) run.writes.push_back(number_of(v, true));
      }
      segment.forward.push_back(std::move(run));
    }
    if (output.valid()) segment.output = number_of(output, true);
    for (const int32_t b : backward) {
      const int32_t id = section.backward[static_cast<size_t>(b)];
      if (is_view(node(id))) continue;
      Segment::Run run = make_run(id);
      for (size_t i = 0; i < node(id).inputs.size(); ++i) {
        const Value in = node(id).inputs[i];
        if (!in.valid()) continue;
        const Value v = root(in);
        if (is_forward(v)) {
          if (!always_.contains(v) && !far_.contains(v)) add_read(run, number_of(v, true), false);
          continue;
        }
        const auto it = lives.find(v);
        if (it == lives.end()) continue;
        const bool known = numbers.contains(v);
        const int32_t local = number_of(v, false);
        add_read(run, local, node(id).op->may_overwrite(i));
        // What outlasts the piece above is counted there.
        if (!known && it->second.first > number && it->second.second == number)
          segment.entering.push_back(local);
      }
      for (size_t k = 0; k < node(id).outputs.size(); ++k) {
        const Value v{id, static_cast<int32_t>(k)};
        if (in_place(node(id), k)) continue;  // a parameter's bytes
        run.writes.push_back(number_of(v, false));
        if (lives.at(v).second < number) segment.leaving.push_back(run.writes.back());
      }
      segment.backward.push_back(std::move(run));
    }
    return segment;
  }

  Segment::Run make_run(int32_t id) const {
    Segment::Run run;
    run.workspace = static_cast<int64_t>(
        aligned_in_arena(static_cast<size_t>(scratch_[static_cast<size_t>(id)])));
    run.cost = predicted_cost(graph_, node(id));
    return run;
  }
  static void add_read(Segment::Run& run, int32_t value, bool overwritable) {
    if (overwritable && run.reads.size() < 32) run.overwrites |= 1U << run.reads.size();
    run.reads.push_back(value);
  }

  const Graph& graph_;
  const Scratch& scratch_;
  const std::function<bool(Value)>& keeps_;
  Segmentation out_;
  std::vector<int32_t> section_, position_;  // [node]
  std::set<Value> always_, far_;
  std::set<Value> read_behind_;  // by backward
};

}  // namespace

double predicted_cost(const Graph& graph, const Node& node) {
  const Cost cost = cost_of(graph, node);
  return cost.flops + kOperationsPerByte * cost.bytes;
}

Segmentation cut_into_segments(const Graph& graph, const std::vector<int32_t>& order,
                               const Scratch& scratch, const std::function<bool(Value)>& keeps) {
  return Cutter(graph, order, scratch, keeps).run();
}

}  // namespace graft
