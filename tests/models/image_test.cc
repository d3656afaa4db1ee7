// Pictures: files and scaling against Pillow 11 (numbers and files made by it; 13 takes the
// directions in another order at times), damaged files, folders of classes.
#include "models/image.h"

#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "models/model.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

// 5 x 4 pixels: ((53 x + 17 y), (29 x^2 + 91 y), (255 - 40 x - 13 y)), each modulo 256.
constexpr const char* kPng =
    "89504e470d0a1a0a0000000d4948445200000005000000040802000000c95162170000003a49444154789c63"
    "6460f86f2a7bc334fc86e9c41ba6a76fb008467f1694fd2c18fe59f0cd67c1e8cf48fc899f05d5e0fce8cf82"
    "d19f054f7f0600631d1be221fda6a10000000049454e44ae426082";
// 2 x 1 pixels of grey 10 and 200, the first transparent.
constexpr const char* kGreyAlphaPng =
    "89504e470d0a1a0a0000000d49484452000000020000000108040000005e2bb7010000000d49444154789c63"
    "e06238d10000023d015371cbb59a0000000049454e44ae426082";
// 8 x 8 pixels of grey 20 x + 9 y, quality 60.
constexpr const char* kJpeg =
    "ffd8ffe000104a46494600010100000100010000ffdb0043000d090a0b0a080d0b0a0b0e0e0d0f1320151312"
    "1213271c1e17202e2931302e292d2c333a4a3e333646372c2d405741464c4e525352323e5a615a50604a5152"
    "4fffc0000b080008000801011100ffc40014000100000000000000000000000000000005ffc4001810000203"
    "000000000000000000000000000005062232ffda0008010100003f003e2cbf153fffd9";

Image picture() {
  Image image{5, 4, {}};
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 5; ++x) {
      for (const int c : {53 * x + 17 * y, 29 * x * x + 91 * y, 255 - 40 * x - 13 * y})
        image.rgb.push_back(static_cast<uint8_t>(c % 256));
    }
  }
  return image;
}

TEST(Images, ScaledAsPillowDoes) {
  const struct {
    int64_t width, height;
    std::vector<uint8_t> rgb;
  } cases[] = {
      {5, 4, picture().rgb},
      {1, 1, {123, 111, 156}},
      {3, 6, {23,  12,  238, 106, 72,  175, 189, 121, 112, 32,  58,  232, 115, 118,
              169, 198, 94,  106, 43,  118, 223, 126, 154, 160, 209, 81,  97,  54,
              179, 214, 137, 121, 151, 220, 142, 88,  66,  112, 206, 149, 101, 143,
              159, 148, 80,  74,  29,  199, 157, 89,  136, 94,  138, 73}},
      {9, 2, {12,  65,  246, 30,  75,  233, 59,  91,  210, 89,  117, 188, 118, 144,
              166, 147, 103, 144, 177, 76,  122, 206, 108, 99,  224, 127, 86,  39,
              98,  225, 57,  108, 212, 86,  124, 189, 116, 117, 167, 145, 105, 145,
              174, 104, 123, 191, 110, 101, 160, 141, 78,  141, 160, 65}},
  };
  for (const auto& c : cases) {
    const Image got = resized(picture(), c.width, c.height);
    EXPECT_EQ(got.width, c.width);
    EXPECT_EQ(got.height, c.height);
    EXPECT_EQ(got.rgb, c.rgb) << c.width << " x " << c.height;
  }
}

TEST(Images, FilesOfBothKinds) {
  if (!reads_images()) GTEST_SKIP() << "libpng and TurboJPEG were not found";
  const Image png = decode_image(from_hex(kPng), "F");
  EXPECT_EQ(png.width, 5);
  EXPECT_EQ(png.rgb, picture().rgb);
  EXPECT_EQ(decode_image(from_hex(kGreyAlphaPng), "F").rgb,
            (std::vector<uint8_t>{10, 10, 10, 200, 200, 200}));
  const Image jpeg = decode_image(from_hex(kJpeg), "F");
  ASSERT_EQ(jpeg.rgb.size(), 8u * 8 * 3);
  const std::vector<uint8_t> row = {1, 18, 42, 62, 80, 101, 124, 141};
  for (size_t x = 0; x < row.size(); ++x) {
    EXPECT_EQ(jpeg.rgb[3 * x], row[x]);
    EXPECT_EQ(jpeg.rgb[3 * x + 2], row[x]);
  }
}

TEST(Images, DamagedFilesAreNamed) {
  EXPECT_NE(error_of([] { decode_image("GIF89a", "F"); }).find("F: neither PNG nor JPEG"),
            std::string::npos);
  EXPECT_NE(error_of([] { decode_image("", "F"); }).find("neither"), std::string::npos);
  if (!reads_images()) GTEST_SKIP() << "libpng and TurboJPEG were not found";
  for (const char* hex : {kPng, kJpeg}) {
    const std::string good = from_hex(hex);
    // What ends a file (a checksum, a marker) may be missing; the pixels may not.
    for (size_t n = 8; n + 30 < good.size(); ++n) {
      const std::string error = error_of([&] { decode_image(good.substr(0, n), "F"); });
      EXPECT_TRUE(error.starts_with("F: ")) << n << " bytes: " << error;
    }
  }
  // A width of 2^31 - 1, with the checksum left as it was or not: refused before memory is taken.
  std::string wide = from_hex(kPng);
  wide.replace(16, 4, "\x7f\xff\xff\xff");
  EXPECT_NE(error_of([&] { decode_image(wide, "F"); }), "");
  std::string tall = from_hex(kJpeg);
  tall.replace(tall.find("\xff\xc0") + 5, 4, "\xfe\xfe\xfe\xfe");
  EXPECT_NE(error_of([&] { decode_image(tall, "F"); }).find("65278 x 65278 pixels"),
            std::string::npos);
}

TEST(Images, ConfigAndPixels) {
  const ModelConfig model = load_config(golden_dir() + "/models/vit_cls");
  const ImageConfig plain = load_image_config(model);
  EXPECT_EQ(plain.width, model.image_size);
  const ImageConfig c = parse_image_config(
      R"({"image_mean": [0, 0.5, 1], "image_std": [1, 0.5, 2], "size": 16, "rescale_factor": 0.5,
          "do_resize": true, "resample": 2, "image_processor_type": "ViTImageProcessor"})",
      "F", model);
  const Image white{2, 1, {255, 255, 255, 255, 255, 255}};
  std::vector<float> pixels(3 * 16 * 16);
  fill_pixels(white, c, pixels);
  EXPECT_EQ(pixels[0], 127.5F);
  EXPECT_EQ(pixels[16 * 16], 254.0F);
  EXPECT_EQ(pixels[3 * 16 * 16 - 1], 63.25F);

  const std::pair<const char*, const char*> wrong[] = {
      {R"({"size": {"height": 16, "width": 17}})", "'size' should be the model's"},
      {R"({"size": {"shortest_edge": 16}})", "'size' should be the model's"},
      {R"({"size": 224})", "'size' should be the model's"},
      {R"({"resample": 3})", "'resample' should be 2 but is 3"},
      {R"({"do_center_crop": true})", "'do_center_crop' should be false"},
      {R"({"do_normalize": false})", "'do_normalize' should be true"},
      {R"({"rescale_factor": 0})", "'rescale_factor' should be between 0"},
      {R"({"image_mean": [0.5]})", "'image_mean' should be three numbers"},
      {R"({"image_std": [0.5, 0, 0.5]})", "'image_std' should be of 1e-06 to 1e6"},
      {R"({"image_std": "0.5"})", "'image_std' should be three numbers"},
  };
  for (const auto& [text, message] : wrong) {
    const std::string error = error_of([&, t = text] { parse_image_config(t, "F", model); });
    EXPECT_NE(error.find(message), std::string::npos) << error;
  }
}

TEST(Images, OneSubFolderPerClass) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of([&] { list_images(folder.path() + "/none"); }).find("No such file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { list_images(folder.path()); }).find("one sub-folder of pictures"),
            std::string::npos);
  for (const char* path : {"dog", "cat"}) make_folders(folder / path);
  EXPECT_NE(error_of([&] { list_images(folder.path()); }).find("cat: expected .png, .jpg"),
            std::string::npos);
  for (const char* path : {"cat/b.PNG", "cat/a.jpg", "dog/c.jpeg", "dog/notes.txt", "readme.md"})
    write_file(folder / path, "");
  const ImageFolder found = list_images(folder.path());
  EXPECT_EQ(found.classes, (std::vector<std::string>{"cat", "dog"}));
  ASSERT_EQ(found.entries.size(), 3u);
  EXPECT_EQ(found.entries[0].path, folder / "cat/a.jpg");
  EXPECT_EQ(found.entries[1].path, folder / "cat/b.PNG");
  EXPECT_EQ(found.entries[2].label, 1);
}

}  // namespace
}  // namespace graft::testing
