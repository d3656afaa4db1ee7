// Pictures from the command line: a ViT from nothing on folders of PNG files, an adapter on it.
#include <gtest/gtest.h>

#include <filesystem>

#include "models/image.h"
#include "tests/apps/program.h"
#include "tests/support/png.h"

namespace graft::testing {
namespace {

constexpr const char* kConfig = R"({"architectures": ["ViTForImageClassification"],
  "model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
  "intermediate_size": 64, "image_size": 16, "patch_size": 4, "num_channels": 3})";

class ImageCli : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!reads_images()) GTEST_SKIP() << "this build has no decoders";
    write_pictures("pictures", 60);
    make_folders(dir / "start");
    write_file(dir / "start/config.json", kConfig);
  }

  // Stripes across and stripes down, of any colour and size.
  void write_pictures(const std::string& folder, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      for (const bool across : {false, true}) {
        const uint32_t size = 16 + i % 9;
        std::string rgb;
        for (uint32_t p = 0; p < size * size; ++p) {
          const uint32_t at = across ? p / size : p % size;
          const bool light = (at + i) / 2 % 2 == 0;
          for (uint32_t c = 0; c < 3; ++c)
            rgb.push_back(static_cast<char>(light ? 40 + 70 * ((i + c) % 3) : 10 * (i % 3)));
        }
        const std::string of = dir / (folder + (across ? "/across" : "/down"));
        make_folders(of);
        write_file(fmt::format("{}/{}.png", of, i), png_of(size, size, rgb));
      }
    }
  }
  TemporaryFolder dir;
};

double accuracy(const Json& j) { return j.at("metrics").at("accuracy").get<double>(); }

TEST_F(ImageCli, LearnsClassesOfAFolder) {
  Result r = graft(
      "tune --json --from-scratch --method full --steps 80 --batch 16 --lr 3e-3 "
      "--head-lr 3e-3 --task " +
          (dir / "pictures") + " --model " + (dir / "start") + " --output " + (dir / "base"),
      Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  const Json base = r.json();
  EXPECT_GT(accuracy(base), 0.9);
  EXPECT_GT(base.at("tokens_per_second").get<double>(), 0);
  EXPECT_EQ(parse_json_file(dir / "base/config.json").at("id2label").at("0"), "across");

  // Parts that have folders of their own.
  write_pictures("parts/train", 20);
  write_pictures("parts/val", 5);
  write_pictures("parts/test", 7);
  r = graft("tune --json --method lora --steps 5 --eval-every 5 --batch 8 --task " +
                (dir / "parts") + " --model " + (dir / "base") + " --output " + (dir / "lora"),
            Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_TRUE(parse_json_file(dir / "lora/adapter_config.json").at("task_type").is_null());
  const double adapted = accuracy(r.json());
  r = graft("eval --json --task " + (dir / "parts") + " --model " + (dir / "base") + " --adapter " +
                (dir / "lora"),
            Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_EQ(r.json().at("examples"), 14);
  EXPECT_EQ(accuracy(r.json()), adapted);
}

TEST_F(ImageCli, SaysWhatIsWrong) {
  const std::string tune = "tune --from-scratch --method full --steps 1 --batch 4 --model " +
                           (dir / "start") + " --output " + (dir / "out") + " --task ";
  const auto refused = [&](const std::string& rest, int status, const std::string& message) {
    const Result r = graft(tune + rest);
    EXPECT_EQ(r.status, status) << r.output;
    EXPECT_NE(r.output.find(message), std::string::npos) << r.output;
  };
  refused((dir / "pictures") + " --text-to-text", 2, "--text-to-text is for tasks of text");
  refused(dir / "nowhere", 3, "nowhere");
  write_pictures("parts/train", 2);
  make_folders(dir / "parts/test/sideways");
  write_file(dir / "parts/test/sideways/1.png", "x");
  refused(dir / "parts", 3, "the class 'sideways' does not occur in training");
  std::filesystem::remove_all(dir / "parts/test");
  write_file(dir / "parts/train/down/0.png", "not a picture");
  refused(dir / "parts", 3, "down/0.png");
  const Result text = graft("tune --method lora --steps 1 --model " + minilm_folder() +
                            " --output " + (dir / "out") + " --task " + (dir / "pictures"));
  EXPECT_EQ(text.status, 2) << text.output;
}

}  // namespace
}  // namespace graft::testing
