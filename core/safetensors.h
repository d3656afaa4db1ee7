// The safetensors format: an 8-byte length, a JSON header, tensor bytes. Files are untrusted: every
// size and offset is checked.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/tensor.h"

namespace graft {

class SafeTensors {
 public:
  // Maps the file; tensors share the mapping. Throws FileError that names the file and what is
  // wrong with it.
  static SafeTensors open(const std::string& path);
  // The same for bytes in memory, kept alive by `owner`; `source` names them in errors.
  static SafeTensors parse(std::span<std::byte> bytes, const std::shared_ptr<const void>& owner,
                           std::string source, Backing backing = Backing::memory);

  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  const Tensor& tensor(std::string_view name) const;  // throws FileError when there is none
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& source() const { return source_; }

 private:
  std::string source_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor and the type that it gets in a file.
struct TensorAs {
  Tensor tensor;
  DType dtype;
  size_t bytes() const { return static_cast<size_t>(tensor.elements()) * size_of(dtype); }
};

// Written atomically, in the order of the reference library (wider types first, then by name).
void save_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
// The same without the commit, for files that belong together.
void write_safetensors(AtomicFile& file, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
// Converts each tensor as it is written, so that a large model is not in memory a second time.
void write_safetensors(AtomicFile& file, const std::map<std::string, TensorAs>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace graft
