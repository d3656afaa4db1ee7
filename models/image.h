// Pictures as a model's input: PNG and JPEG files, scaled and normalized as the model's
// preprocessor_config.json says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "models/config.h"

namespace graft {

struct Image {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // rows from the top, three bytes a pixel
};

// Whether this build has decoders: libpng and TurboJPEG were found.
bool reads_images();

// Throws FileError for what is neither or damaged, naming `file`; UsageError where this build has
// no decoders. An alpha channel is left out, grey is made of three equal colours.
Image decode_image(std::string_view bytes, const std::string& file);
Image read_image(const std::string& path);

// Scaled bilinearly as Pillow does, which transformers use: where a picture shrinks, every pixel
// counts; channels are rounded to bytes between the two directions.
Image resized(const Image& image, int64_t width, int64_t height);

// How bytes become numbers: (x factor - mean) / deviation per colour.
struct ImageConfig {
  int64_t width = 0, height = 0;
  double factor = 1.0 / 255;
  double mean[3] = {0.5, 0.5, 0.5}, deviation[3] = {0.5, 0.5, 0.5};
};

// Of a model folder; without a preprocessor_config.json ViT's own values. Throws FileError for a
// field that is wrong, that asks for something else, or for another size than the model's.
ImageConfig load_image_config(const ModelConfig& model);
ImageConfig parse_image_config(std::string_view text, const std::string& file,
                               const ModelConfig& model);

// Squares of a picture and the class token.
int64_t image_tokens(const ModelConfig& model);

// Writes [3, height, width].
void fill_pixels(const Image& image, const ImageConfig& config, std::span<float> to);

// A folder with one sub-folder of pictures per class.
struct ImageFolder {
  struct Entry {
    std::string path;
    int64_t label;
  };
  std::vector<std::string> classes;  // names of the sub-folders, sorted
  std::vector<Entry> entries;        // by class, then by name
};

// Throws FileError where there is no folder, no class, or a class without pictures.
ImageFolder list_images(const std::string& folder);

}  // namespace graft
