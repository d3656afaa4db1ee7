#include "tests/support/schedule_checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace graft::testing {
namespace {

struct Buffer {
  uint64_t bytes = 0, offset = 0;
  bool moves = false;  // arena or workspace: alive from a run that writes it to its free
  bool alive = true;
  std::set<int64_t> values = {};
  uint64_t end() const { return offset + bytes; }
};

struct Broken {
  std::string what;
};
template <typename... Args>
void expect(bool condition, fmt::format_string<Args...> message, Args&&... args) {
  if (!condition) throw Broken{fmt::format(message, std::forward<Args>(args)...)};
}

class Replay {
 public:
  explicit Replay(const Json& file) : file_(file), arena_(file.at("arena_bytes")) {
    expect(file.at("format") == 1, "the format is {}", file.at("format").dump());
    for (const Json& b : file.at("buffers")) {
      const std::string kind = b.at("kind");
      const bool moves = kind == "arena" || kind == "workspace";
      Buffer buffer{b.at("bytes"), b.at("offset"), moves, !moves};
      if (!moves) persistent_ += buffer.bytes;
      buffers_[b.at("id")] = buffer;
    }
    for (const Json& v : file.at("values")) value_bytes_[v.at("id")] = v.at("bytes");
    for (const Json& n : file.at("nodes")) nodes_[n.at("id")] = &n;
  }

  void run() {
    for (const Json& step : file_.at("steps")) {
      if (step.contains("free")) {
        Buffer& b = buffers_.at(step.at("free"));
        expect(b.moves && b.alive, "buffer {} is freed but not alive", step.at("free").dump());
        b.alive = false;
        b.values.clear();
      } else {
        run_node(step.at("run"));
      }
    }
    for (const auto& [id, n] : nodes_) {
      const int64_t times = runs_[id];
      expect(times > 0, "node {} never runs", id);
      expect(n->at("phase") != "update" || times == 1, "update {} runs {} times", id, times);
    }
    expect(computed_.contains(file_.at("loss").get<int64_t>()), "the loss is not computed");
    const auto equal = [&](const char* key, double found) {
      const double said = file_.at(key);
      expect(std::fabs(said - found) <= 1e-9 * std::max(1.0, found), "{} is {}, but {} was found",
             key, said, found);
    };
    equal("persistent_bytes", static_cast<double>(persistent_));
    equal("peak_bytes", static_cast<double>(persistent_ + top_));
    equal("recompute_flops", again_);
    equal("step_flops", all_);
    equal("forward_flops", forward_);
  }

 private:
  void revive(int64_t id) {
    Buffer& b = buffers_.at(id);
    if (b.alive) return;
    expect(b.end() <= arena_, "buffer {} ends at {}, behind the arena of {}", id, b.end(), arena_);
    for (const auto& [other, o] : buffers_) {
      if (!o.moves || !o.alive || o.bytes == 0 || b.bytes == 0) continue;
      expect(b.end() <= o.offset || o.end() <= b.offset, "buffers {} and {} overlap", id, other);
    }
    b.alive = true;
    top_ = std::max(top_, b.end());
  }

  bool readable(int64_t value) const {
    return std::ranges::any_of(
        buffers_, [&](const auto& b) { return b.second.alive && b.second.values.contains(value); });
  }

  void run_node(int64_t id) {
    const Json& n = *nodes_.at(id);
    for (const int64_t v : n.at("inputs"))
      expect(readable(v), "node {} ({}) reads value {}, which is in no buffer", id,
             n.at("op").get<std::string>(), v);
    for (const int64_t w : n.at("workspace")) revive(w);
    for (const Json& out : n.at("outputs")) {
      const int64_t v = out.at("value"), at = out.at("buffer");
      revive(at);
      Buffer& b = buffers_.at(at);
      expect(value_bytes_.at(v) <= b.bytes, "value {} does not fit into buffer {}", v, at);
      if (out.at("alias") == false) b.values.clear();
      b.values.insert(v);
      computed_.insert(v);
    }
    const double flops = n.at("flops");
    all_ += flops;
    if (++runs_[id] > 1) {
      again_ += flops;
    } else if (n.at("phase") == "forward") {
      forward_ += flops;
    }
  }

  const Json& file_;
  uint64_t arena_, persistent_ = 0, top_ = 0;
  double all_ = 0, again_ = 0, forward_ = 0;
  std::map<int64_t, Buffer> buffers_;
  std::map<int64_t, uint64_t> value_bytes_;
  std::map<int64_t, const Json*> nodes_;
  std::map<int64_t, int64_t> runs_;
  std::set<int64_t> computed_;
};

}  // namespace

std::string violation_of(const Json& schedule) {
  try {
    Replay(schedule).run();
  } catch (const Broken& broken) {
    return broken.what;
  } catch (const std::exception& e) {  // a field or an id that is not there
    return e.what();
  }
  return {};
}

}  // namespace graft::testing
