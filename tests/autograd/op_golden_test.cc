// Every op against PyTorch's numbers: forward and gradient on both backends; the gradient against
// finite differences in double; a gradient that is asked for alone; and the planned executor
// against the evaluator, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <set>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/planner.h"
#include "core/json.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "tests/support/golden.h"
#include "tests/support/op_rows.h"
#include "tests/support/targets.h"

namespace graft::testing {
namespace {

struct Case {
  std::string op, name;
  const OpRow* row;
  Json json;
  const SafeTensors* data;

  std::string key(const std::string& rest) const { return name + "/" + rest; }
  bool differentiable() const { return !json.at("grads").empty(); }
};

// A graph of the case: outputs by name, and gradients as outputs "grad/INPUT" for the inputs in
// `wanted`.
struct Built {
  Graph graph;
  Inputs inputs;
};

Built build(const Case& c, const std::set<std::string>& wanted) {
  Builder b;
  Inputs inputs;
  std::map<std::string, Value> leaves;
  for (const auto& name : c.json.at("inputs")) {
    const auto n = name.get<std::string>();
    const Tensor& t = c.data->tensor(c.key("in/" + n));
    leaves[n] = b.input(n, t.dtype(), t.shape());
    inputs[n] = t;
  }
  const auto in = [&](const std::string& n) { return leaves.contains(n) ? leaves[n] : Value{}; };
  const std::vector<Value> outs = c.row->build(b, c.json.at("attrs"), in);
  std::vector<Value> ys, gys, xs;
  std::vector<std::string> names;
  for (size_t i = 0; i < c.json.at("outputs").size(); ++i) {
    const auto n = c.json.at("outputs")[i].get<std::string>();
    b.output(n, outs.at(i));
    const std::string gout = c.key(
        c.json.at("outputs").size() == 1 || !c.data->contains(c.key("gout/" + n)) ? "gout"
                                                                                  : "gout/" + n);
    if (!c.data->contains(gout) || !is_float(b.type(outs[i]).dtype)) continue;
    const Tensor& t = c.data->tensor(gout);
    ys.push_back(outs[i]);
    gys.push_back(b.input("gout/" + n, t.dtype(), t.shape()));
    inputs["gout/" + n] = t;
  }
  for (const std::string& n : wanted) {
    names.push_back(n);
    xs.push_back(leaves[n]);
  }
  const std::vector<Value> grads = gradient(b, ys, gys, xs);
  for (size_t i = 0; i < names.size(); ++i) {
    b.output("grad/" + names[i], grads[i].valid() ? grads[i] : b.constant(0, b.shape(xs[i])));
  }
  return {b.finish(), std::move(inputs)};
}

std::set<std::string> grads_of(const Case& c) {
  std::set<std::string> names;
  for (const auto& n : c.json.at("grads")) names.insert(n.get<std::string>());
  return names;
}

double tolerance(const Json& atol, const std::string& key) {
  return atol.contains(key) ? atol.at(key).get<double>() : 0;
}

void compare(const Case& c, const Evaluation& got, const std::string& what) {
  const double rtol = c.json.at("rtol").get<double>();
  for (const auto& [name, tensor] : got.outputs) {
    const bool single = c.json.at("outputs").size() == 1 && name.rfind("grad/", 0) != 0;
    const std::string key = c.key(single && !c.data->contains(c.key(name)) ? "out" : name);
    if (!c.data->contains(key)) continue;
    EXPECT_EQ(mismatch(tensor, c.data->tensor(key), rtol,
                       tolerance(c.json.at("atol"), single ? "out" : name)),
              "")
        << c.op << "/" << c.name << " " << name << " " << what;
  }
}

std::vector<Case> all_cases(std::map<std::string, SafeTensors>& files, const OpRows& rows,
                            std::vector<std::string>& missing) {
  const std::string dir = golden_dir() + "/ops/";
  std::vector<Case> cases;
  const Json index = parse_json_file(dir + "index.json");
  for (const auto& [op, count] : index.at("ops").items()) {
    const Json file = parse_json_file(dir + op + ".json");
    files.emplace(op, SafeTensors::open(dir + op + ".safetensors"));
    const auto row = rows.find(op);
    for (const Json& c : file.at("cases")) {
      if (row == rows.end()) {
        missing.push_back(op);
      } else {
        cases.push_back({op, c.at("name").get<std::string>(), &row->second, c, &files.at(op)});
      }
    }
  }
  return cases;
}

class Ops : public ::testing::Test {
 protected:
  Ops() : rows_(all_op_rows()), cases_(all_cases(files_, rows_, missing_)) {}
  OpRows rows_;
  std::map<std::string, SafeTensors> files_;
  std::vector<std::string> missing_;
  std::vector<Case> cases_;
};
using GoldenOps = Ops;

void compare_all(const std::vector<Case>& cases, Backend backend, const std::string& what) {
  EXPECT_GT(cases.size(), 0u);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.op + "/" + c.name);
    try {
      const Built built = build(c, grads_of(c));
      compare(c, evaluate(built.graph, built.inputs, {}, backend), what);
    } catch (const Error& e) {
      ADD_FAILURE() << e.what();
    }
  }
}

TEST_F(GoldenOps, ForwardAndGradient) {
  compare_all(cases_, Backend::ref, "ref");
  EXPECT_TRUE(missing_.empty()) << "ops without a row: " << missing_.front();
  std::printf("golden ops: %zu cases, %zu not supported\n", cases_.size(), missing_.size());
}

class GoldenOpsOn : public Ops, public ::testing::WithParamInterface<int64_t> {};

TEST_P(GoldenOpsOn, ForwardAndGradient) {
  if (!cpu_has(GetParam())) GTEST_SKIP() << "this CPU has no " << target_name(GetParam());
  const TargetScope scope(GetParam());
  ASSERT_EQ(running_target().target, GetParam());
  compare_all(cases_, Backend::cpu, target_name(GetParam()));
}

std::string target_of(const ::testing::TestParamInfo<int64_t>& info) {
  return target_name(info.param);
}
INSTANTIATE_TEST_SUITE_P(Target, GoldenOpsOn, ::testing::ValuesIn(compiled_targets()), target_of);

// What is asked for alone equals what is asked for together: a needs mask changes which nodes
// exist, not what they compute.
TEST_F(Ops, EachGradientAlone) {
  for (const Case& c : cases_) {
    if (grads_of(c).size() < 2) continue;
    for (const std::string& n : grads_of(c)) {
      const Built built = build(c, {n});
      compare(c, evaluate(built.graph, built.inputs, {}), "alone");
    }
  }
}

TEST_F(Ops, ExecutorEqualsEvaluator) {
  for (const Case& c : cases_) {
    const Built built = build(c, grads_of(c));
    const Evaluation want = evaluate(built.graph, built.inputs, {});
    ParamStore store;
    Executor executor(std::make_shared<const Program>(plan(built.graph)), store);
    executor.set_poison(true);
    for (int run = 0; run < 2; ++run) {
      for (const std::string& n : built.graph.input_names())
        executor.set_input(n, built.inputs.at(n));
      executor.run();
      for (const auto& [name, tensor] : want.outputs) {
        const Tensor got = executor.output(name);
        EXPECT_TRUE(tensor.size_bytes() == 0 ||
                    std::memcmp(got.bytes(), tensor.bytes(), tensor.size_bytes()) == 0)
            << c.op << "/" << c.name << " " << name << " run " << run;
      }
    }
    EXPECT_EQ(executor.high_water_bytes(), executor.program().arena_bytes) << c.op << "/" << c.name;
  }
}

// <grad, direction> against (L(x + h u) - L(x - h u)) / 2h in double, L = sum <out, gout>.
TEST_F(Ops, DirectionalGradientCheck) {
  for (const Case& c : cases_) {
    // Where the stored gradient is a subgradient, leaves out a row on purpose, or belongs to
    // numbers that h cannot move.
    static const std::set<std::string> not_derivatives = {"relu/edge", "abs/edge",
                                                          "embedding/padding", "softmax/min_float"};
    if (!c.differentiable() || not_derivatives.contains(c.op + "/" + c.name)) continue;
    const Built built = build(c, grads_of(c));
    const Evaluation at = evaluate(built.graph, built.inputs, {}, Backend::ref);
    auto loss = [&](const Inputs& inputs) {
      const Evaluation e = evaluate(built.graph, inputs, {}, Backend::ref);
      double sum = 0;
      for (const auto& [name, t] : e.outputs) {
        const auto gout = inputs.find("gout/" + name);
        if (gout == inputs.end()) continue;
        const Tensor g = gout->second.cast(DType::f64);
        for (int64_t i = 0; i < t.elements(); ++i) sum += t.data<double>()[i] * g.data<double>()[i];
      }
      return sum;
    };
    for (const std::string& n : grads_of(c)) {
      const Tensor x = built.inputs.at(n).cast(DType::f64);
      const Tensor grad = at.outputs.at("grad/" + n);
      if (x.elements() == 0) continue;
      const RandomStream random(7, hash_name(c.op + c.name + n));
      const double h = 1e-6;
      double analytic = 0, size = 0;
      Inputs plus = built.inputs, minus = built.inputs;
      plus[n] = x.clone();
      minus[n] = x.clone();
      for (int64_t i = 0; i < x.elements(); ++i) {
        const double u = random.normal(static_cast<uint64_t>(i));
        plus[n].data<double>()[i] += h * u;
        minus[n].data<double>()[i] -= h * u;
        analytic += u * grad.data<double>()[i];
        size += std::fabs(u * grad.data<double>()[i]);
      }
      const double up = loss(plus), down = loss(minus);
      if (!std::isfinite(up) || !std::isfinite(down)) continue;  // masks of -inf
      // Rounding of the two losses over 2h, and the third derivative times h^2.
      const double rounding = 4e-16 * (std::fabs(up) + std::fabs(down) + 1) *
                              static_cast<double>(x.elements() + 10) / h;
      EXPECT_NEAR((up - down) / (2 * h), analytic, 1e-6 * size + rounding + 1e-7)
          << c.op << "/" << c.name << " " << n;
    }
  }
}

}  // namespace
}  // namespace graft::testing
