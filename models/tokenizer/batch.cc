// What all tokenizers can do by what each can: batches, padding, decoding of a stream.
#include <algorithm>
#include <exception>
#include <mutex>

#include "core/parallel.h"
#include "models/tokenizer.h"

namespace graft {

std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string> texts, bool add_special,
                                              int64_t max_length) const {
  std::vector<Encoding> out(texts.size());
  std::mutex mutex;
  std::exception_ptr failed;  // the body of a parallel loop must not throw
  constexpr int64_t kGrain = 16;
  parallel_for(static_cast<int64_t>(texts.size()), kGrain, [&](int64_t begin, int64_t end) {
    try {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        out[i] = encode(texts[i], add_special, max_length);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (failed == nullptr) failed = std::current_exception();
    }
  });
  if (failed != nullptr) std::rethrow_exception(failed);
  return out;
}

int64_t Tokenizer::pad_id() const { return std::max<int64_t>(0, settings().special.pad); }

std::vector<int64_t> pad(std::span<Encoding> batch, const Padding& padding) {
  size_t length = static_cast<size_t>(std::max<int64_t>(0, padding.length));
  std::vector<int64_t> sizes;
  for (const Encoding& e : batch) {
    if (padding.length == 0) length = std::max(length, e.ids.size());
    sizes.push_back(static_cast<int64_t>(e.ids.size()));
  }
  if (const auto m = static_cast<size_t>(std::max<int64_t>(1, padding.multiple_of));
      length % m != 0)
    length += m - length % m;
  for (Encoding& e : batch) {
    if (e.ids.size() >= length) continue;
    const size_t missing = length - e.ids.size();
    const auto fill = [&](auto& v, const auto& value) {
      v.insert(padding.side == Side::left ? v.begin() : v.end(), missing, value);
    };
    fill(e.ids, padding.id);
    fill(e.tokens, padding.token);
    fill(e.offsets, std::pair<int64_t, int64_t>{0, 0});
    fill(e.type_ids, padding.type_id);
    fill(e.special, uint8_t{1});
  }
  return sizes;
}

std::string StreamDecoder::push(int64_t id) {
  ids_.push_back(id);
  std::string text = tokenizer_.decode(ids_, skip_special_);
  if (!text.starts_with(before_)) return "";
  if (text.size() == before_.size() && skip_special_) {
    const std::span<const int64_t> last(&id, 1);
    if (tokenizer_.decode(last, true).empty() && !tokenizer_.decode(last, false).empty())
      ids_.pop_back();  // a special token that is left out
    return "";
  }
  // Half a character reads as U+FFFD at the end, one for each of its bytes at most. A text may end
  // so in earnest; then it waits, too, but not for ever.
  constexpr size_t kMostHalf = 3, kPatience = 8;
  constexpr std::string_view kReplacement = "\uFFFD";
  size_t firm = text.size();
  for (size_t k = 0; k < kMostHalf && text.substr(0, firm).ends_with(kReplacement); ++k)
    firm -= kReplacement.size();
  const size_t half = text.size() - firm;
  if (firm <= before_.size() || (half > 0 && ids_.size() - given_ <= kPatience)) return "";
  std::string fresh = text.substr(before_.size(), firm - before_.size());
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(given_));
  given_ = ids_.size();
  before_ = tokenizer_.decode(ids_, skip_special_);
  before_.resize(before_.size() - std::min(half, before_.size()));
  return fresh;
}

std::string StreamDecoder::finish() {
  const std::string text = tokenizer_.decode(ids_, skip_special_);
  std::string rest =
      text.starts_with(before_) && text.size() > before_.size() ? text.substr(before_.size()) : "";
  ids_.clear();
  given_ = 0;
  before_.clear();
  return rest;
}

}  // namespace graft
