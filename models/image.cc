#include "models/image.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/error.h"
#include "models/config_reader.h"

namespace graft {
namespace {

// Which pixels of a line make one of the scaled line, with weights in units of 2^-22 that sum to 1
// up to their rounding.
struct Window {
  int64_t first;
  std::vector<int32_t> weights;
};
constexpr int kWeightBits = 22;

// To the next integer, halves up, as Pillow does for what is positive.
int64_t rounded(double x) { return static_cast<int64_t>(std::floor(x + 0.5)); }

std::vector<Window> windows(int64_t from, int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double support = std::max(scale, 1.0);  // half the base of the triangle
  std::vector<Window> all;
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(rounded(centre - support), 0);
    const auto last = std::min(rounded(centre + support), from);
    std::vector<double> triangle;
    double sum = 0;
    for (int64_t x = first; x < last; ++x) {
      const double away = std::abs((static_cast<double>(x) - centre + 0.5) / support);
      triangle.push_back(std::max(1 - away, 0.0));
      sum += triangle.back();
    }
    Window window{first, {}};
    for (const double w : triangle)
      window.weights.push_back(static_cast<int32_t>(rounded(w * (1 / sum) * (1 << kWeightBits))));
    all.push_back(std::move(window));
  }
  return all;
}

// Scales along lines: pixel p of line l stands at l * line + p * step, in bytes.
struct Lines {
  int64_t count, line, step;
};

void scale(const std::vector<uint8_t>& from, Lines a, std::vector<uint8_t>& to, Lines b,
           const std::vector<Window>& windows) {
  for (int64_t l = 0; l < a.count; ++l) {
    for (size_t i = 0; i < windows.size(); ++i) {
      const uint8_t* x = from.data() + l * a.line + windows[i].first * a.step;
      uint8_t* y = to.data() + l * b.line + static_cast<int64_t>(i) * b.step;
      for (int64_t colour = 0; colour < 3; ++colour) {
        int64_t sum = int64_t{1} << (kWeightBits - 1);
        const uint8_t* at = x + colour;
        for (const int32_t w : windows[i].weights) {
          sum += int64_t{w} * *at;
          at += a.step;
        }
        y[colour] = static_cast<uint8_t>(std::clamp<int64_t>(sum >> kWeightBits, 0, 255));
      }
    }
  }
}

void read_colours(ConfigReader& r, const char* key, double least, double (&to)[3]) {
  if (!r.has(key)) return;
  const Json& values = r.raw(key);
  const bool three = values.is_array() && values.size() == 3 &&
                     std::ranges::all_of(values, [](const Json& v) { return v.is_number(); });
  if (!three) r.fail(key, "three numbers");
  for (size_t i = 0; i < 3; ++i) {
    to[i] = values[i].get<double>();
    if (!(to[i] >= least && to[i] <= 1e6)) r.fail(key, fmt::format("of {} to 1e6", least));
  }
}

}  // namespace

Image resized(const Image& image, int64_t width, int64_t height) {
  Image wide{width, image.height, {}}, out{width, height, {}};
  const int64_t w = image.width * 3, v = width * 3;
  if (width == image.width) {
    wide.rgb = image.rgb;
  } else {
    wide.rgb.resize(static_cast<size_t>(v * image.height));
    scale(image.rgb, {image.height, w, 3}, wide.rgb, {image.height, v, 3},
          windows(image.width, width));
  }
  if (height == image.height) return wide;
  out.rgb.resize(static_cast<size_t>(v * height));
  scale(wide.rgb, {width, 3, v}, out.rgb, {width, 3, v}, windows(image.height, height));
  return out;
}

ImageConfig parse_image_config(std::string_view text, const std::string& file,
                               const ModelConfig& model) {
  const Json fields = parse_json(text, file);
  ConfigReader r(fields, file);
  ImageConfig c{.width = model.image_size, .height = model.image_size};
  if (r.has("size")) {
    const Json& size = r.raw("size");
    const bool square = size == model.image_size;
    if (!square && size != Json{{"height", c.height}, {"width", c.width}})
      r.fail("size",
             fmt::format("the model's, {{\"height\": {}, \"width\": {}}}", c.height, c.width));
  }
  r.only("do_resize", true);
  r.only("resample", 2);  // bilinear
  r.only("do_center_crop", false);
  r.only("do_rescale", true);
  r.only("do_normalize", true);
  c.factor = r.real("rescale_factor", 0, 1e6, c.factor);
  read_colours(r, "image_mean", -1e6, c.mean);
  read_colours(r, "image_std", 1e-6, c.deviation);
  return c;
}

ImageConfig load_image_config(const ModelConfig& model) {
  if (model.channels != 3)
    throw UsageError("pictures have 3 colours; the model takes {}", model.channels);
  const std::string file = model.folder + "/preprocessor_config.json";
  std::error_code none;
  if (!std::filesystem::exists(file, none)) return parse_image_config("{}", file, model);
  return parse_image_config(read_file(file), file, model);
}

void fill_pixels(const Image& image, const ImageConfig& config, std::span<float> to) {
  const Image scaled = resized(image, config.width, config.height);
  const size_t pixels = scaled.rgb.size() / 3;
  for (size_t colour = 0; colour < 3; ++colour) {
    for (size_t i = 0; i < pixels; ++i) {
      const double x = scaled.rgb[3 * i + colour] * config.factor;
      to[colour * pixels + i] =
          static_cast<float>((x - config.mean[colour]) / config.deviation[colour]);
    }
  }
}

int64_t image_tokens(const ModelConfig& model) {
  const int64_t side = model.image_size / model.patch_size;
  return side * side + 1;
}

ImageFolder list_images(const std::string& folder) {
  namespace fs = std::filesystem;
  ImageFolder found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_directory(error)) found.classes.push_back(entry.path().filename().string());
  }
  if (error) throw FileError("{}: {}", folder, error.message());
  if (found.classes.empty())
    throw FileError("{}: expected one sub-folder of pictures per class, but there is none", folder);
  std::ranges::sort(found.classes);
  for (size_t label = 0; label < found.classes.size(); ++label) {
    const std::string of_class = folder + "/" + found.classes[label];
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(of_class, error)) {
      std::string ending = entry.path().extension().string();
      std::ranges::transform(ending, ending.begin(),
                             [](unsigned char c) { return std::tolower(c); });
      if (ending == ".png" || ending == ".jpg" || ending == ".jpeg")
        names.push_back(entry.path().string());
    }
    if (error) throw FileError("{}: {}", of_class, error.message());
    if (names.empty())
      throw FileError("{}: expected .png, .jpg or .jpeg files, but there are none", of_class);
    std::ranges::sort(names);
    for (std::string& name : names)
      found.entries.push_back({std::move(name), static_cast<int64_t>(label)});
  }
  return found;
}

}  // namespace graft
