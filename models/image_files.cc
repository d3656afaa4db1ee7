// PNG through libpng, JPEG through TurboJPEG; a build may lack them.
#include "core/atomic_file.h"
#include "core/error.h"
#include "models/image.h"

#ifdef GRAFT_IMAGES
#include <png.h>
#include <turbojpeg.h>

#include <memory>
#endif

namespace graft {
namespace {

bool is_png(std::string_view bytes) { return bytes.starts_with("\x89PNG\r\n\x1a\n"); }
bool is_jpeg(std::string_view bytes) { return bytes.starts_with("\xff\xd8\xff"); }

#ifdef GRAFT_IMAGES
// Far above any photograph. A few bytes of a file can claim any size.
constexpr int64_t kMostPixels = int64_t{1} << 27;

Image sized(int64_t width, int64_t height, const std::string& file) {
  if (width < 1 || height < 1 || width > kMostPixels / height) {
    throw FileError("{}: the picture has {} x {} pixels; expected 1 to {} in all", file, width,
                    height, kMostPixels);
  }
  return {width, height, {}};
}

Image decode_png(std::string_view bytes, const std::string& file) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> held(&png, png_image_free);
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0)
    throw FileError("{}: not a readable PNG: {}", file, png.message);
  Image image = sized(png.width, png.height, file);
  png.format = PNG_FORMAT_RGBA;
  std::vector<uint8_t> rgba(PNG_IMAGE_SIZE(png));
  // A warning means that pixels are missing, too.
  if (png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr) == 0 ||
      png.warning_or_error != 0)
    throw FileError("{}: the PNG is damaged: {}", file, png.message);
  image.rgb.reserve(rgba.size() / 4 * 3);
  for (size_t i = 0; i < rgba.size(); i += 4)
    image.rgb.insert(image.rgb.end(), {rgba[i], rgba[i + 1], rgba[i + 2]});
  return image;
}

Image decode_jpeg(std::string_view bytes, const std::string& file) {
  const std::unique_ptr<void, int (*)(tjhandle)> jpeg(tjInitDecompress(), tjDestroy);
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto fail = [&] {
    throw FileError("{}: not a readable JPEG: {}", file,
                    jpeg == nullptr ? "no decoder" : tjGetErrorStr2(jpeg.get()));
  };
  int width = 0, height = 0, subsampling = 0, colours = 0;
  if (jpeg == nullptr || tjDecompressHeader3(jpeg.get(), data, bytes.size(), &width, &height,
                                             &subsampling, &colours) != 0)
    fail();
  Image image = sized(width, height, file);
  image.rgb.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  if (tjDecompress2(jpeg.get(), data, bytes.size(), image.rgb.data(), width, 0, height, TJPF_RGB,
                    TJFLAG_STOPONWARNING | TJFLAG_ACCURATEDCT) != 0)
    fail();
  return image;
}
#else
Image decode_png(std::string_view, const std::string& file) {
  throw UsageError("{}: this build reads no pictures; libpng and TurboJPEG were not found", file);
}
constexpr auto decode_jpeg = decode_png;
#endif

}  // namespace

bool reads_images() {
#ifdef GRAFT_IMAGES
  return true;
#else
  return false;
#endif
}

Image decode_image(std::string_view bytes, const std::string& file) {
  if (is_png(bytes)) return decode_png(bytes, file);
  if (is_jpeg(bytes)) return decode_jpeg(bytes, file);
  throw FileError("{}: neither PNG nor JPEG", file);
}

Image read_image(const std::string& path) { return decode_image(read_file(path), path); }

}  // namespace graft
