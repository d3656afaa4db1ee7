#include "models/batch.h"

#include <algorithm>

#include "core/error.h"
#include "models/family.h"

namespace graft {
namespace {

// A lookup beyond a table would read as zeros.
void check_ids(std::span<const int64_t> ids, int64_t size, const char* what, const char* field) {
  for (const int64_t id : ids) {
    if (id < 0 || id >= size) {
      throw UsageError(
          "the {} {} is beyond the model's {} of {}; do tokenizer and model belong together?", what,
          id, field, size);
    }
  }
}

// The decoder's side of a batch. Its classification class reads the state at the last token.
void fill_decoder_inputs(const ModelConfig& config, std::span<const TokenRow> rows, Tensor& ids,
                         int64_t* pool) {
  const int64_t T = ids.shape()[1];
  std::vector<int64_t> labels(rows.size() * static_cast<size_t>(T), -100);
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto& target = rows[r].target.empty() ? rows[r].ids : rows[r].target;
    check_ids(target, config.vocab, "token id", "vocab_size");
    const auto n = static_cast<int64_t>(target.size());
    const int64_t first = static_cast<int64_t>(r) * T;
    std::copy_n(target.begin(), std::min(n, T), labels.begin() + first);
    for (int64_t t = 0; pool != nullptr && t < T; ++t) pool[first + t] = t + 1 == n;
  }
  std::ranges::copy(shifted_right(config, labels, static_cast<int64_t>(rows.size()), T),
                    ids.data<int64_t>());
}

}  // namespace

std::vector<int64_t> position_ids(const ModelConfig& config, std::span<const int64_t> input_ids,
                                  std::span<const int64_t> attention_mask, int64_t batch,
                                  int64_t length) {
  using Positions = Family::Positions;
  const Positions rule = config.family->positions;
  std::vector<int64_t> positions(input_ids.size());
  for (int64_t r = 0; r < batch; ++r) {
    int64_t seen = 0;
    for (int64_t i = 0; i < length; ++i) {
      const auto at = static_cast<size_t>(r * length + i);
      const bool counts = rule == Positions::all             ? true
                          : rule == Positions::by_padding_id ? input_ids[at] != config.pad_id
                                                             : attention_mask[at] != 0;
      seen += counts;
      if (rule == Positions::visible) {
        positions[at] = std::max<int64_t>(seen - 1, 0);
      } else {
        positions[at] = config.first_position + (counts ? seen - 1 : -1);
      }
    }
  }
  return positions;
}

std::vector<int64_t> shifted_right(const ModelConfig& config, std::span<const int64_t> labels,
                                   int64_t batch, int64_t length) {
  std::vector<int64_t> ids(labels.size());
  for (int64_t i = 0; i < batch * length; ++i) {
    const int64_t before =
        i % length == 0 ? config.decoder_start_id : labels[static_cast<size_t>(i) - 1];
    ids[static_cast<size_t>(i)] = before < 0 ? std::max<int64_t>(config.pad_id, 0) : before;
  }
  return ids;
}

int64_t longest_row(const ModelConfig& config) {
  // 0: as long as one likes.
  if (config.max_positions == 0) return int64_t{1} << 30;
  return config.max_positions -
         (config.family->positions == Family::Positions::by_padding_id ? config.first_position : 0);
}

int64_t longest_row(const ModelConfig& config, const InFront& front) {
  return longest_row(config) - front.virtual_tokens - front.positions;
}

void fill_inputs(const ModelConfig& config, std::span<const TokenRow> rows, int64_t length,
                 const InFront& front, const std::function<Tensor*(const std::string&)>& input,
                 Side padding) {
  const int64_t pad_id = std::max<int64_t>(config.pad_id, 0);
  // What the head reads of a row: all of its tokens, or a decoder's last one.
  const bool last_only = config.family->kind == Family::Kind::decoder;
  auto data = [&](const char* name) {
    Tensor* t = input(name);
    return t == nullptr ? nullptr : t->data<int64_t>();
  };
  int64_t *ids = data("input_ids"), *mask = data("attention_mask"), *pool = data("pool_mask"),
          *types = data("token_type_ids");
  if (ids == nullptr) throw UsageError("models of type {} take no tokens", config.model_type);
  const int64_t v = front.virtual_tokens, T = length + v;
  for (size_t r = 0; r < rows.size(); ++r) {
    const TokenRow& x = rows[r];
    check_ids(x.ids, config.vocab, "token id", "vocab_size");
    if (types != nullptr) check_ids(x.types, config.token_types, "token type", "type_vocab_size");
    const auto size = static_cast<int64_t>(x.ids.size());
    const int64_t begin = padding == Side::right ? v : v + length - size;
    for (int64_t t = 0; t < T; ++t) {
      const int64_t at = static_cast<int64_t>(r) * T + t;
      const bool real = t >= begin && t < begin + size;
      const auto from = static_cast<size_t>(t - begin);
      ids[at] = real ? x.ids[from] : t < v ? pad_id + 1 : pad_id;
      if (mask != nullptr) mask[at] = real || t < v;
      if (pool != nullptr) pool[at] = real && (!last_only || t + 1 == begin + size);
      if (types != nullptr) types[at] = real && !x.types.empty() ? x.types[from] : 0;
    }
  }
  if (Tensor* decoder = input("decoder_input_ids"))
    fill_decoder_inputs(config, rows, *decoder, pool);
  int64_t* const positions = data("position_ids");
  if (positions == nullptr) return;
  const size_t count = rows.size() * static_cast<size_t>(T);
  const std::vector<int64_t> counted =
      position_ids(config, {ids, count}, {mask, count}, static_cast<int64_t>(rows.size()), T);
  for (size_t i = 0; i < count; ++i) positions[i] = counted[i] + front.positions;
}

}  // namespace graft
