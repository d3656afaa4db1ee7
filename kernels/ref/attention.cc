// Attention and positions in double: the definition. A query that sees no key gets zeros.
#include "kernels/attention.h"

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/random.h"
#include "kernels/ref/families.h"
#include "kernels/rope.h"

namespace graft::ref {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

// Scores of one query over all keys, hidden ones -inf. Operands begin at `at` in the inputs.
struct Scores {
  const KernelCall& c;
  size_t at;
  const AttentionAttrs& a;
  AttentionShape s;
  BroadcastIndex bias;
  std::optional<RandomStream> random;

  Scores(const KernelCall& call, size_t first)
      : c(call),
        at(first),
        a(call.attr<AttentionAttrs>()),
        s(call.in(first).shape, call.in(first + 1).shape, a.bthd),
        bias(call.has(first + 3) ? call.in(first + 3).shape : Shape{},
             {s.batch, s.heads, s.t, s.s}) {
    if (a.dropout > 0) random = stream_of(c.in(at + 5), a.stream);
  }

  const double* q(int64_t b, int64_t h, int64_t i) const {
    return c.in(at).as<double>() + b * s.q_batch + h * s.q_head + i * s.q_row;
  }
  int64_t kv(int64_t b, int64_t h, int64_t j) const {
    return b * s.k_batch + h / s.group() * s.k_head + j * s.k_row;
  }
  int64_t bias_at(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return bias(s.score_at(b, h, i, j));
  }

  // q k^T scale, over the cap where there is one.
  double product(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const double* k = c.in(at + 1).as<double>() + kv(b, h, j);
    double dot = 0;
    for (int64_t d = 0; d < s.dim; ++d) dot += q(b, h, i)[d] * k[d];
    return dot * a.scale / (a.softcap > 0 ? a.softcap : 1);
  }
  double operator()(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (j < s.first_key(i, a) || j >= s.last_key(i, a)) return kHidden;
    if (c.has(at + 4) && LoadInt(c.in(at + 4), b * s.s + j) == 0) return kHidden;
    const double x = product(b, h, i, j);
    return (a.softcap > 0 ? a.softcap * std::tanh(x) : x) +
           (c.has(at + 3) ? c.in(at + 3).as<double>()[bias_at(b, h, i, j)] : 0);
  }
  // What dropout multiplies a probability by.
  double kept(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (!random) return 1;
    const float u = random->uniform(static_cast<uint64_t>(s.score_at(b, h, i, j)));
    return u >= static_cast<float>(a.dropout) ? 1 / (1 - a.dropout) : 0;
  }
  // Derivative of the score by q k^T.
  double slope(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const double t = a.softcap > 0 ? std::tanh(product(b, h, i, j)) : 0;
    return a.scale * (1 - t * t);
  }
};

template <typename F>
void EachQuery(const AttentionShape& s, F f) {
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.t; ++i) f(b, h, i);
    }
  }
}

void Attention(const KernelCall& c) {
  const Scores score(c, 0);
  const AttentionShape& s = score.s;
  EachQuery(s, [&](int64_t b, int64_t h, int64_t i) {
    double top = kHidden, sum = 0;
    for (int64_t j = 0; j < s.s; ++j) top = std::fmax(top, score(b, h, i, j));
    double* out = c.out(0).as<double>() + b * s.q_batch + h * s.q_head + i * s.q_row;
    std::fill_n(out, s.dim, 0.0);
    if (top == kHidden) return;
    for (int64_t j = 0; j < s.s; ++j) {
      const double p = std::exp(score(b, h, i, j) - top);
      sum += p;
      const double read = p * score.kept(b, h, i, j);
      for (int64_t d = 0; d < s.dim && p > 0; ++d)
        out[d] += read * (c.in(2).as<double>() + score.kv(b, h, j))[d];
    }
    for (int64_t d = 0; d < s.dim; ++d) out[d] /= sum;
  });
}

void AttentionBackward(const KernelCall& c) {  // dout, q, k, v, bias, keep, rng
  const Scores score(c, 1);
  const AttentionShape& s = score.s;
  for (const View& v : c.outputs) std::fill_n(v.as<double>(), v.elements(), 0.0);
  EachQuery(s, [&](int64_t b, int64_t h, int64_t i) {
    const int64_t at = b * s.q_batch + h * s.q_head + i * s.q_row;
    const double* dout = c.in(0).as<double>() + at;
    double top = kHidden, sum = 0, delta = 0;
    for (int64_t j = 0; j < s.s; ++j) top = std::fmax(top, score(b, h, i, j));
    if (top == kHidden) return;
    for (int64_t j = 0; j < s.s; ++j) sum += std::exp(score(b, h, i, j) - top);
    auto p_of = [&](int64_t j) { return std::exp(score(b, h, i, j) - top) / sum; };
    auto dp_of = [&](int64_t j) {
      double dp = 0;
      for (int64_t d = 0; d < s.dim; ++d)
        dp += dout[d] * c.in(3).as<double>()[score.kv(b, h, j) + d];
      return dp * score.kept(b, h, i, j);
    };
    for (int64_t j = 0; j < s.s; ++j) delta += p_of(j) * dp_of(j);
    for (int64_t j = 0; j < s.s; ++j) {
      const double p = p_of(j);
      if (p == 0) continue;
      const int64_t kv = score.kv(b, h, j);
      const double read = p * score.kept(b, h, i, j), ds = p * (dp_of(j) - delta);
      if (score.a.need_dbias) c.out(3).as<double>()[score.bias_at(b, h, i, j)] += ds;
      const double dproduct = ds * score.slope(b, h, i, j);
      for (int64_t d = 0; d < s.dim; ++d) {
        if (score.a.need_dq)
          c.out(0).as<double>()[at + d] += dproduct * c.in(2).as<double>()[kv + d];
        if (score.a.need_dk)
          c.out(1).as<double>()[kv + d] += dproduct * c.in(1).as<double>()[at + d];
        if (score.a.need_dv) c.out(2).as<double>()[kv + d] += read * dout[d];
      }
    }
  });
}

constexpr KernelEntry kKernels[] = {{"attention", Attention},
                                    {"attention_backward", AttentionBackward},
                                    {"rope", Rope<double>},
                                    {"t5_bucket", T5Bucket},
                                    {"deberta_bucket", DebertaBucket}};

}  // namespace

Family attention_kernels() { return kKernels; }

}  // namespace graft::ref
