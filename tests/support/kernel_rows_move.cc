// What only moves elements, or adds them up by index.
#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

constexpr DType kWidths[] = {DType::u8, DType::bf16, DType::f32, DType::i64};

Tensor any(const Shape& shape, DType dtype) {
  return is_float(dtype) ? floats(shape).cast(dtype) : ints(shape, 0, 200, 1, dtype);
}

// A case per element width.
template <typename F>
std::vector<KernelCase> of_each_width(F cases_of) {
  std::vector<KernelCase> all;
  for (const DType dtype : kWidths) {
    for (KernelCase& c : cases_of(dtype)) {
      c.name += " of " + std::string(name_of(dtype));
      all.push_back(std::move(c));
    }
  }
  return all;
}

KernelRow transpose_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      const auto perm = [](std::vector<int64_t> p) { return Attrs::of(PermAttrs{std::move(p)}); };
      return std::vector<KernelCase>{{"matrix", perm({1, 0}), {any({3, n}, d)}, {}},
                                     {"wide matrix", perm({1, 0}), {any({n, 3}, d)}, {}},
                                     {"last in place", perm({1, 0, 2}), {any({2, 3, n}, d)}, {}},
                                     {"turned round", perm({2, 1, 0}), {any({2, n, 3}, d)}, {}},
                                     {"heads", perm({0, 2, 1, 3}), {any({2, 3, n, 2}, d)}, {}}};
    });
  }};
}

KernelRow expand_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      const auto to = [](const Shape& s) { return Attrs::of(ShapeAttrs{s}); };
      return std::vector<KernelCase>{{"row", to({3, n}), {any({n}, d)}, {}},
                                     {"column", to({3, n}), {any({3, 1}, d)}, {}},
                                     {"scalar", to({2, n}), {any({}, d)}, {}},
                                     {"middle", to({2, 3, n}), {any({2, 1, n}, d)}, {}},
                                     {"both ends", to({2, 3, n}), {any({3, 1}, d)}, {}}};
    });
  }};
}

KernelRow concat_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      const auto axis = [](int64_t a) { return Attrs::of(AxisAttrs{a}); };
      return std::vector<KernelCase>{
          {"columns", axis(1), {any({3, n}, d), any({3, 2}, d), any({3, n}, d)}, {}},
          {"rows", axis(0), {any({n, 2}, d), any({0, 2}, d), any({1, 2}, d)}, {}}};
    });
  }};
}

KernelRow slice_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      const auto part = [](int64_t axis, int64_t start, int64_t count, int64_t step) {
        return Attrs::of(SliceAttrs{axis, start, count, step});
      };
      return std::vector<KernelCase>{
          {"columns", part(1, 1, n, 1), {any({3, n + 2}, d)}, {}},
          {"every other", part(1, 1, n, 2), {any({2, 2 * n + 1}, d)}, {}},
          {"rows", part(0, 2, n, 1), {any({n + 2, 3}, d)}, {}},
          {"every third row", part(1, 0, n, 3), {any({2, 3 * n, 2}, d)}, {}},
          {"nothing", part(0, 0, 0, 1), {any({n, 2}, d)}, {}}};
    });
  }};
}

KernelRow unslice_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      return std::vector<KernelCase>{
          {"columns", Attrs::of(UnsliceAttrs{1, 1, 1, n + 2}), {any({3, n}, d)}, {}},
          {"every other", Attrs::of(UnsliceAttrs{1, 1, 2, 2 * n + 1}), {any({2, n}, d)}, {}},
          {"rows", Attrs::of(UnsliceAttrs{0, 0, 3, 3 * n}), {any({n, 3}, d)}, {}}};
    });
  }};
}

KernelRow pad_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      return std::vector<KernelCase>{
          {"both ends", Attrs::of(PadAttrs{{0, 2}, {1, 3}, 1.5}), {any({3, n}, d)}, {}},
          {"cut", Attrs::of(PadAttrs{{-1, 1}, {-1, 0}, 0}), {any({3, n}, d)}, {}},
          {"moved on", Attrs::of(PadAttrs{{2}, {-1}, 7}), {any({n + 1}, d)}, {}}};
    });
  }};
}

// ---------------------------------------------------------------- by index
const int64_t kFar = int64_t{1} << 62;
// Indices that leave the axis count as absent: a lookup gives zeros, nothing is written.
Tensor stray() { return int_values({2, -1, 0, 4, kFar, -kFar, 3, 1}); }

KernelRow embedding_row() {
  const auto attrs = [](int64_t rows) { return Attrs::of(EmbeddingAttrs{rows, 1}); };
  return {.of_length =
              [attrs](int64_t n) {
                return of_each_width([n, attrs](DType d) {
                  return std::vector<KernelCase>{
                      {"short table", attrs(7), {ints({2, 5}, 0, 7), any({7, n}, d)}, {}},
                      {"many ids", attrs(3), {ints({n}, 0, 3, 1, DType::i32), any({3, 2}, d)}, {}},
                      {"panels", attrs(40), {ints({2, 5}, 0, 40), any({64 * n}, d)}, {}}};
                });
              },
          .special =
              [attrs] {
                return std::vector<KernelCase>{
                    {"stray ids", attrs(4), {stray(), floats({4, 5})}, {}},
                    {"stray ids, panels", attrs(4), {stray(), floats({32 * 5})}, {}}};
              }};
}

KernelRow embedding_backward_row() {
  const auto of = [](const Tensor& ids, int64_t rows, int64_t dim) {
    return KernelCase{"ids " + ids.shape().str(),
                      Attrs::of(EmbeddingAttrs{rows, 1}),
                      {ids, floats({ids.shape()[0], dim})},
                      {.terms = static_cast<double>(ids.elements())}};
  };
  return {.of_length =
              [of](int64_t n) {
                return std::vector{of(ints({6}, 0, 3), 3, n), of(ints({n}, 0, 5), 5, 2)};
              },
          .special =
              [of] {
                return std::vector{of(stray(), 4, 5), of(ints({90}, 0, 4), 4, 300)};
              }};
}

KernelRow gather_row() {
  return {
      .of_length =
          [](int64_t n) {
            return of_each_width([n](DType d) {
              return std::vector<KernelCase>{
                  {"along rows", Attrs::of(AxisAttrs{1}), {any({3, 5}, d), ints({3, n}, 0, 5)}, {}},
                  {"along columns",
                   Attrs::of(AxisAttrs{0}),
                   {any({4, n}, d), ints({2, n}, 0, 4)},
                   {}}};
            });
          },
      .special =
          [] {
            return std::vector<KernelCase>{
                {"stray indices", Attrs::of(AxisAttrs{0}), {floats({4}), stray()}, {}}};
          }};
}

KernelRow scatter_row(bool add) {
  const auto tolerance = [add](int64_t n) {
    return add ? Tolerance{.terms = static_cast<double>(n)} : Tolerance{};
  };
  return {.of_length =
              [add, tolerance](int64_t n) {
                const auto of = [&](DType d) {
                  return std::vector<KernelCase>{
                      {"along rows",
                       Attrs::of(AxisAttrs{1}),
                       {any({3, 5}, d), ints({3, n}, 0, 5), any({3, n}, d)},
                       tolerance(n)},
                      {"along columns",
                       Attrs::of(AxisAttrs{0}),
                       {any({4, n}, d), ints({2, n}, 0, 4), any({2, n}, d)},
                       tolerance(4)}};
                };
                return add ? of(DType::f32) : of_each_width(of);
              },
          .special =
              [tolerance] {
                return std::vector<KernelCase>{{"stray indices",
                                                Attrs::of(AxisAttrs{0}),
                                                {floats({4}), stray(), floats({8}, 2)},
                                                tolerance(8)}};
              }};
}

KernelRow index_select_row() {
  return {.of_length =
              [](int64_t n) {
                return of_each_width([n](DType d) {
                  return std::vector<KernelCase>{
                      {"rows", Attrs::of(AxisAttrs{0}), {any({4, n}, d), ints({6}, 0, 4)}, {}},
                      {"columns", Attrs::of(AxisAttrs{1}), {any({3, 5}, d), ints({n}, 0, 5)}, {}}};
                });
              },
          .special =
              [] {
                return std::vector<KernelCase>{
                    {"stray indices", Attrs::of(AxisAttrs{0}), {floats({4, 3}), stray()}, {}}};
              }};
}

KernelRow index_add_row() {
  return {
      .of_length =
          [](int64_t n) {
            const Tolerance t = {.terms = static_cast<double>(n) + 6};
            return std::vector<KernelCase>{
                {"rows", Attrs::of(IndexAddAttrs{0, 4}), {floats({6, n}), ints({6}, 0, 4)}, t},
                {"columns", Attrs::of(IndexAddAttrs{1, 5}), {floats({3, n}), ints({n}, 0, 5)}, t}};
          },
      .special =
          [] {
            return std::vector<KernelCase>{{"stray indices",
                                            Attrs::of(IndexAddAttrs{0, 4}),
                                            {floats({8, 3}), stray()},
                                            {.terms = 8}}};
          }};
}

// Windows that lie inside, lap over either end, or are elsewhere.
Tensor window_starts() { return int_values({1, -1, 3, 7, -kFar, kFar}); }

KernelRow write_rows_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      return std::vector<KernelCase>{
          {"wide rows",
           Attrs::of(NoAttrs{}),
           {any({6, 5, n}, d), any({6, 3, n}, d), window_starts()},
           {}},
          {"many rows, one start",
           Attrs::of(NoAttrs{}),
           {any({2, n + 2, 2, 3}, d), any({2, n, 2, 3}, d), ints({}, 1, 2)},
           {}}};
    });
  }};
}

KernelRow read_rows_row() {
  return {.of_length = [](int64_t n) {
    return of_each_width([n](DType d) {
      return std::vector<KernelCase>{
          {"wide rows", Attrs::of(RowsAttrs{3}), {any({6, 5, n}, d), window_starts()}, {}},
          {"many rows, one start",
           Attrs::of(RowsAttrs{n}),
           {any({2, n + 2, 2, 3}, d), ints({}, 1, 2, 1, DType::i32)},
           {}}};
    });
  }};
}

}  // namespace

KernelRows shape_kernel_rows() {
  return {{"transpose", transpose_row()}, {"expand", expand_row()},   {"concat", concat_row()},
          {"slice", slice_row()},         {"unslice", unslice_row()}, {"pad", pad_row()}};
}

KernelRows index_kernel_rows() {
  return {{"embedding", embedding_row()},     {"embedding_backward", embedding_backward_row()},
          {"gather", gather_row()},           {"scatter", scatter_row(false)},
          {"scatter_add", scatter_row(true)}, {"index_select", index_select_row()},
          {"index_add", index_add_row()},     {"read_rows", read_rows_row()},
          {"write_rows", write_rows_row()}};
}

}  // namespace graft::testing
