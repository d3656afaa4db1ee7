#include "core/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "core/atomic_file.h"
#include "core/json.h"
#include "core/mapped_file.h"

namespace graft {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors stores little-endian numbers");

constexpr size_t kMaxHeader = 100'000'000;  // as the reference library

constexpr std::array<std::pair<std::string_view, DType>, 8> kNames = {{{"F32", DType::f32},
                                                                       {"F64", DType::f64},
                                                                       {"BF16", DType::bf16},
                                                                       {"F16", DType::f16},
                                                                       {"I32", DType::i32},
                                                                       {"I64", DType::i64},
                                                                       {"U8", DType::u8},
                                                                       {"BOOL", DType::boolean}}};

std::string_view file_name_of(DType dtype) {
  return std::ranges::find(kNames, dtype, &std::pair<std::string_view, DType>::second)->first;
}

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  size_t begin, end;
};

Entry read_entry(const std::string& name, const Json& v, size_t data_size,
                 const std::string& source) {
  const std::string where = source + ": tensor '" + name + "'";
  const auto type_name = json_field<std::string>(v, "dtype", where);
  const auto known =
      std::ranges::find(kNames, type_name, [](const auto& n) { return std::string(n.first); });
  if (known == kNames.end()) {
    std::string names;
    for (const auto& [n, dtype] : kNames) names += (names.empty() ? "" : ", ") + std::string(n);
    throw FileError("{}: the type '{}' is not known; known: {}", where, type_name, names);
  }
  const auto dims = json_field<std::vector<int64_t>>(v, "shape", where);
  const auto range = json_field<std::vector<int64_t>>(v, "data_offsets", where);
  if (dims.size() > Shape::kMaxRank)
    throw FileError("{}: {} dimensions, at most {} are supported", where, dims.size(),
                    Shape::kMaxRank);
  if (range.size() != 2 || range[0] < 0 || range[1] < range[0] ||
      static_cast<size_t>(range[1]) > data_size) {
    throw FileError(
        "{}: data_offsets [{}] do not lie in the {} bytes of data; was the file cut short?", where,
        fmt::join(range, ", "), data_size);
  }
  // Every product of dimensions must fit, also where another dimension is 0.
  uint64_t most = size_of(known->second), bytes = most;
  for (int64_t d : dims) {
    if (d < 0)
      throw FileError("{}: shape [{}] has a negative dimension", where, fmt::join(dims, ", "));
    const auto extent = static_cast<uint64_t>(d);
    if (d != 0 && most > (std::numeric_limits<uint64_t>::max() >> 1) / extent) {
      throw FileError("{}: shape [{}] is too large", where, fmt::join(dims, ", "));
    }
    most *= std::max<uint64_t>(extent, 1);
    bytes *= extent;
  }
  if (bytes != static_cast<uint64_t>(range[1] - range[0])) {
    throw FileError("{}: {} of shape [{}] takes {} bytes, but data_offsets [{}] hold {}", where,
                    type_name, fmt::join(dims, ", "), bytes, fmt::join(range, ", "),
                    range[1] - range[0]);
  }
  return {name, known->second, Shape(dims), static_cast<size_t>(range[0]),
          static_cast<size_t>(range[1])};
}

}  // namespace

SafeTensors SafeTensors::open(const std::string& path) {
  const auto file = MappedFile::open(path);
  return parse(file->bytes(), file, path, Backing::file);
}

SafeTensors SafeTensors::parse(std::span<std::byte> bytes, const std::shared_ptr<const void>& owner,
                               std::string source, Backing backing) {
  SafeTensors st;
  st.source_ = std::move(source);
  uint64_t header_size = 0;
  if (bytes.size() < 8)
    throw FileError(
        "{}: {} bytes are too few for a safetensors file, which begins with 8 of length",
        st.source_, bytes.size());
  std::memcpy(&header_size, bytes.data(), 8);
  if (header_size > kMaxHeader || header_size > bytes.size() - 8) {
    throw FileError(
        "{}: the header should take {} bytes, but only {} follow; the file is truncated or not "
        "safetensors",
        st.source_, header_size, bytes.size() - 8);
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_size);
  const Json header = parse_json(text, st.source_ + " (header)");
  if (!header.is_object()) throw FileError("{}: the header is not a JSON object", st.source_);
  const std::span<std::byte> data = bytes.subspan(8 + header_size);

  std::vector<Entry> entries;
  for (const auto& [name, v] : header.items()) {
    if (name == "__metadata__") {
      if (!v.is_object()) throw FileError("{}: __metadata__ is not an object", st.source_);
      for (const auto& [key, item] : v.items()) {
        if (!item.is_string())
          throw FileError("{}: __metadata__ '{}' is not a string", st.source_, key);
        st.metadata_[key] = item.get<std::string>();
      }
    } else {
      entries.push_back(read_entry(name, v, data.size(), st.source_));
    }
  }
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  size_t at = 0;
  for (const Entry& e : entries) {
    if (e.begin != at) {
      throw FileError(
          "{}: tensor '{}' begins at byte {} of the data, expected {}: tensors overlap or leave a "
          "hole",
          st.source_, e.name, e.begin, at);
    }
    at = e.end;
  }
  if (at != data.size())
    throw FileError("{}: {} bytes follow the last tensor", st.source_, data.size() - at);
  for (const Entry& e : entries) {
    std::byte* p = data.data() + e.begin;
    Tensor t(e.dtype, e.shape, p, owner, backing);
    // Views need aligned elements; old writers did not pad the header.
    if (reinterpret_cast<uintptr_t>(p) % size_of(e.dtype) != 0) {
      t = Tensor(e.dtype, e.shape);
      std::memcpy(t.bytes(), p, e.end - e.begin);
    }
    st.tensors_.emplace(e.name, std::move(t));
  }
  return st;
}

const Tensor& SafeTensors::tensor(std::string_view name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) throw FileError("{}: there is no tensor '{}'", source_, name);
  return it->second;
}

void write_safetensors(AtomicFile& file, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::map<std::string, TensorAs> as_they_are;
  for (const auto& [name, t] : tensors) as_they_are[name] = {t, t.dtype()};
  write_safetensors(file, as_they_are, metadata);
}

void write_safetensors(AtomicFile& file, const std::map<std::string, TensorAs>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<const std::string, TensorAs>*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::ranges::stable_sort(order, [](const auto* a, const auto* b) {
    return size_of(a->second.dtype) > size_of(b->second.dtype);
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t at = 0;
  for (const auto* entry : order) {
    const TensorAs& t = entry->second;
    const auto dims = t.tensor.shape().dims();
    header[entry->first] = {{"dtype", file_name_of(t.dtype)},
                            {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                            {"data_offsets", {at, at + t.bytes()}}};
    at += t.bytes();
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  file.write(&size, 8);
  file.write(text);
  for (const auto* entry : order) {
    const Tensor t = entry->second.tensor.cast(entry->second.dtype);
    file.write(t.bytes(), t.size_bytes());
  }
}

void save_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  write_safetensors(file, tensors, metadata);
  file.commit();
}

}  // namespace graft
