// Lookups and scatters. Indices that leave their axis are the caller's to refuse; kernels treat
// them as absent.
#include "autograd/ops.h"
#include "autograd/ops/families.h"
#include "core/error.h"
#include "kernels/packed.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

std::vector<Type> infer_embedding(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_int(0);
  const int64_t rows = c.attr<EmbeddingAttrs>().rows;
  // A table in panels (kernels/packed.h) is the head's weight, too, and was packed for that.
  const bool panels = c.shape(1).rank() == 1 && rows > 0;
  c.expect(c.shape(1).rank() == 2 || panels, "the table must be [rows, dim], or in panels");
  const int64_t dim = panels ? c.shape(1)[0] / PackedElements(rows, 1) : c.shape(1)[1];
  c.expect(panels ? c.shape(1)[0] == PackedElements(rows, dim) : c.shape(1)[0] == rows,
           "attribute rows must be that of the table");
  std::vector<int64_t> dims(c.shape(0).dims().begin(), c.shape(0).dims().end());
  dims.push_back(dim);
  return {{c.dtype(1), Shape(dims)}};
}

std::vector<Type> infer_embedding_backward(const InferCall& c) {  // ids, dy
  c.expect_arity(2, 2);
  c.expect_int(0);
  c.expect_float(1);
  c.expect(c.shape(1).rank() == c.shape(0).rank() + 1 && c.shape(1).without(-1) == c.shape(0),
           "dy must have the axes of ids and one more");
  return {{c.dtype(1), {c.attr<EmbeddingAttrs>().rows, c.shape(1)[-1]}}};
}

void check_axis(const InferCall& c, int64_t axis) {
  c.expect(axis >= 0 && axis < c.shape(0).rank(), "the axis does not exist");
}

void check_index_fits(const InferCall& c,
                      int axis) {  // torch's rule: index may be smaller in the other axes
  c.expect_int(1);
  c.expect(c.shape(1).rank() == c.shape(0).rank(), "index must have the rank of x");
  for (int i = 0; i < c.shape(0).rank(); ++i) {
    c.expect(i == axis || c.shape(1)[i] <= c.shape(0)[i],
             "index must not be larger than x in the other axes");
  }
}

std::vector<Type> infer_gather(const InferCall& c) {
  c.expect_arity(2, 2);
  const int64_t axis = c.attr<AxisAttrs>().axis;
  check_axis(c, axis);
  check_index_fits(c, static_cast<int>(axis));
  return {{c.dtype(0), c.shape(1)}};
}

std::vector<Type> infer_scatter(const InferCall& c) {
  c.expect_arity(3, 3);
  const int64_t axis = c.attr<AxisAttrs>().axis;
  check_axis(c, axis);
  check_index_fits(c, static_cast<int>(axis));
  c.expect(c.dtype(2) == c.dtype(0) && c.shape(2) == c.shape(1),
           "src must have x's type and index's shape");
  return {c.in(0)};
}

std::vector<Type> infer_scatter_add(const InferCall& c) {
  c.expect_float(0);
  return infer_scatter(c);
}

std::vector<Type> infer_index_select(const InferCall& c) {
  c.expect_arity(2, 2);
  const int64_t axis = c.attr<AxisAttrs>().axis;
  check_axis(c, axis);
  c.expect_int(1);
  c.expect(c.shape(1).rank() == 1, "index must have one axis");
  return {{c.dtype(0), c.shape(0).with(static_cast<int>(axis), c.shape(1)[0])}};
}

std::vector<Type> infer_index_add(const InferCall& c) {  // src, index
  c.expect_arity(2, 2);
  c.expect_float(0);
  const auto& a = c.attr<IndexAddAttrs>();
  check_axis(c, a.axis);
  c.expect_int(1);
  c.expect(c.shape(1).rank() == 1 && c.shape(1)[0] == c.shape(0)[static_cast<int>(a.axis)],
           "index must have one entry per slice");
  return {{c.dtype(0), c.shape(0).with(static_cast<int>(a.axis), a.size)}};
}

void check_start(const InferCall& c, size_t i) {
  c.expect_int(i);
  c.expect(c.shape(i) == Shape{} || c.shape(i) == Shape{c.shape(0)[0]},
           "start must be one place, or one per batch entry");
}

std::vector<Type> infer_read_rows(const InferCall& c) {  // x [B, S, ...], start
  c.expect_arity(2, 2);
  c.expect(c.shape(0).rank() >= 2, "x must be [B, S, ...]");
  const int64_t count = c.attr<RowsAttrs>().count;
  c.expect(count >= 0 && count <= c.shape(0)[1], "more rows are wanted than there are");
  check_start(c, 1);
  return {{c.dtype(0), c.shape(0).with(1, count)}};
}

std::vector<Type> infer_write_rows(
    const InferCall& c) {  // base [B, S, ...], rows [B, T, ...], start
  c.expect_arity(3, 3);
  c.expect(c.shape(0).rank() >= 2 && c.shape(1).rank() == c.shape(0).rank(),
           "base must be [B, S, ...] and rows [B, T, ...]");
  const int64_t count = c.shape(1)[1];
  c.expect(c.in(1) == Type{c.dtype(0), c.shape(0).with(1, count)} && count <= c.shape(0)[1],
           "rows must be as base but for axis 1, and fit there");
  check_start(c, 2);
  return {c.in(0)};
}

Values vjp_embedding(VjpCall& c) {
  if (c.b.shape(c.in(1)).rank() == 1) {
    throw GraphError("embedding at '{}' has no gradient: differentiate before packing",
                     c.node.scope);
  }
  return {{}, c.b.node("embedding_backward", {c.in(0), c.grad()}, c.node.attrs)};
}

Values vjp_gather(VjpCall& c) {
  return {scatter_add(c.b, c.b.constant(0, c.b.shape(c.in(0))), c.in(1), c.grad(),
                      c.attr<AxisAttrs>().axis)};
}

Values vjp_scatter(VjpCall& c) {
  const int64_t axis = c.attr<AxisAttrs>().axis;
  Values g(3);
  if (c.need(0)) {
    g[0] = scatter(c.b, c.grad(), c.in(1), c.b.constant(0, c.b.shape(c.in(1))), axis);
  }
  if (c.need(2)) g[2] = gather(c.b, c.grad(), c.in(1), axis);
  return g;
}

Values vjp_scatter_add(VjpCall& c) {
  return {
      c.grad(), {}, c.need(2) ? gather(c.b, c.grad(), c.in(1), c.attr<AxisAttrs>().axis) : Value{}};
}

Values vjp_index_select(VjpCall& c) {
  const int64_t axis = c.attr<AxisAttrs>().axis;
  const int64_t size = c.b.shape(c.in(0))[static_cast<int>(axis)];
  return {c.b.node("index_add", {c.grad(), c.in(1)}, Attrs::of(IndexAddAttrs{axis, size}))};
}

Values vjp_index_add(VjpCall& c) {
  return {index_select(c.b, c.grad(), c.in(1), c.attr<IndexAddAttrs>().axis)};
}

Values vjp_read_rows(VjpCall& c) {
  return {write_rows(c.b, c.b.constant(0, c.b.shape(c.in(0))), c.grad(), c.in(1))};
}

Values vjp_write_rows(VjpCall& c) {
  Values g(2);
  const Shape& rows = c.b.shape(c.in(1));
  if (c.need(0)) g[0] = write_rows(c.b, c.grad(), c.b.constant(0, rows), c.in(2));
  if (c.need(1)) g[1] = read_rows(c.b, c.grad(), c.in(2), rows[1]);
  return g;
}

constexpr OpDef kOps[] = {
    {.name = "embedding", .infer = infer_embedding, .vjp = vjp_embedding, .flops = no_flops},
    {.name = "embedding_backward", .infer = infer_embedding_backward},
    {.name = "gather", .infer = infer_gather, .vjp = vjp_gather, .flops = no_flops},
    {.name = "scatter",
     .infer = infer_scatter,
     .vjp = vjp_scatter,
     .flops = no_flops,
     .in_place = 1},
    {.name = "scatter_add", .infer = infer_scatter_add, .vjp = vjp_scatter_add, .in_place = 1},
    {.name = "index_select",
     .infer = infer_index_select,
     .vjp = vjp_index_select,
     .flops = no_flops},
    {.name = "index_add", .infer = infer_index_add, .vjp = vjp_index_add},
    {.name = "read_rows", .infer = infer_read_rows, .vjp = vjp_read_rows, .flops = no_flops},
    {.name = "write_rows",
     .infer = infer_write_rows,
     .vjp = vjp_write_rows,
     .flops = no_flops,
     .in_place = 1},
};

}  // namespace

Family index_ops() { return kOps; }

Value embedding(Builder& b, Value ids, Value weight, int64_t padding_idx) {
  return b.node("embedding", {ids, weight},
                Attrs::of(EmbeddingAttrs{b.shape(weight)[0], padding_idx}));
}
Value gather(Builder& b, Value x, Value index, int64_t axis) {
  return b.node("gather", {x, index}, Attrs::of(AxisAttrs{b.shape(x).axis(axis)}));
}
Value scatter(Builder& b, Value x, Value index, Value src, int64_t axis) {
  return b.node("scatter", {x, index, src}, Attrs::of(AxisAttrs{b.shape(x).axis(axis)}));
}
Value scatter_add(Builder& b, Value x, Value index, Value src, int64_t axis) {
  return b.node("scatter_add", {x, index, src}, Attrs::of(AxisAttrs{b.shape(x).axis(axis)}));
}
Value index_select(Builder& b, Value x, Value index, int64_t axis) {
  return b.node("index_select", {x, index}, Attrs::of(AxisAttrs{b.shape(x).axis(axis)}));
}
Value read_rows(Builder& b, Value x, Value start, int64_t count) {
  return b.node("read_rows", {x, start}, Attrs::of(RowsAttrs{count}));
}
Value write_rows(Builder& b, Value base, Value rows, Value start) {
  return b.node("write_rows", {base, rows, start});
}

}  // namespace graft::ops
