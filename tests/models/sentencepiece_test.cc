// SentencePiece models against the library, where it is installed: it trains small ones and encodes
// with them.
#include "models/tokenizer/sentencepiece.h"

#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

#ifdef GRAFT_HAS_SENTENCEPIECE
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#endif

namespace graft::testing {
namespace {

TEST(SentencePieceFile, DamageIsNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "M: the model has no pieces"},
      {"\x0A\x05\x0A\x01", "M: not a SentencePiece model, or damaged"},  // 5 bytes said, 2 there
      {"\x0F", "M: not a SentencePiece model, or damaged"},              // a kind that is none
      {std::string(12, '\xFF'), "M: not a SentencePiece model, or damaged"},
      {std::string("\x0A\x02\x08\x01", 4), "M: not a SentencePiece model, or damaged"},
      {std::string("\x0A\x03\x0A\x01\xC3", 5), "M: a piece is empty, not UTF-8"},
      {std::string("\x0A\x03\x0A\x01"
                   "a",
                   5),
       "M: the piece 0 should be the unknown one"},
      {std::string("\x0A\x03\x0A\x01"
                   "a\x12\x02\x18\x04",
                   9),
       "model type 4 is not known"},
  };
  for (const auto& [bytes, message] : cases) {
    const std::string error = error_of<Error>([&, &b = bytes] { read_sentencepiece(b, "M"); });
    EXPECT_NE(error.find(message), std::string::npos) << message << ": " << error;
  }
}

#ifdef GRAFT_HAS_SENTENCEPIECE

std::vector<std::string> texts() {
  std::vector<std::string> out;
  const Json golden = parse_json_file(golden_dir() + "/tokenizers/gpt2_bytelevel/encodings.json");
  for (const Json& c : golden.at("cases")) {
    const auto text = c.at("text").get<std::string>();
    // Control symbols in a text are tokens here, as in Hugging Face's tokenizers, and text there.
    if (text.find("<s>") == std::string::npos && text.find("</s>") == std::string::npos &&
        text.find("<unk>") == std::string::npos)
      out.push_back(text);
  }
  return out;
}

class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(std::vector<std::string> lines) : lines_(std::move(lines)) {}
  bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  size_t at_ = 0;
};

std::string train(const std::string& options, std::vector<std::string> lines) {
  std::string model;
  Lines iterator(std::move(lines));
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      options + " --hard_vocab_limit=false --minloglevel=2", &iterator, &model);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return model;
}

TEST(SentencePieceFile, EncodesAsTheLibraryDoes) {
  const std::vector<std::string> all = texts();
  std::vector<std::string> lines;
  for (int k = 0; k < 4; ++k) lines.insert(lines.end(), all.begin(), all.end());
  const char* const trainings[] = {
      "--model_type=unigram --vocab_size=500",
      "--model_type=unigram --vocab_size=800 --byte_fallback=true --character_coverage=0.98",
      "--model_type=unigram --vocab_size=500 --normalization_rule_name=identity "
      "--remove_extra_whitespaces=false --add_dummy_prefix=false",
      "--model_type=bpe --vocab_size=600",
      "--model_type=bpe --vocab_size=900 --byte_fallback=true --character_coverage=0.98 "
      "--normalization_rule_name=identity --remove_extra_whitespaces=false --split_digits=true",
      "--model_type=bpe --vocab_size=600 --user_defined_symbols=the,<extra>",
      "--model_type=unigram --vocab_size=600 --user_defined_symbols=the,<extra> --pad_id=3"};
  for (const std::string training : trainings) {
    const std::string model = train(training, lines);
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
    const TemporaryFolder folder;
    write_file(folder / "tokenizer.model", model);
    const auto t = load_tokenizer(folder.path());
    EXPECT_EQ(t->vocabulary_size(), library.GetPieceSize());
    EXPECT_EQ(t->settings().special.pad, library.pad_id());
    EXPECT_EQ(t->settings().special.eos, library.eos_id());
    for (const std::string& text : all) {
      std::vector<int> ids;
      ASSERT_TRUE(library.Encode(text, &ids).ok());
      const Encoding e = t->encode(text);
      EXPECT_EQ(e.ids, std::vector<int64_t>(ids.begin(), ids.end())) << training << ": " << text;
      std::string decoded;
      ASSERT_TRUE(library.Decode(ids, &decoded).ok());
      if (std::ranges::find(ids, library.unk_id()) == ids.end()) {
        EXPECT_EQ(t->decode(e.ids), decoded) << training << ": " << text;
      }
    }
  }
}

TEST(SentencePieceFile, TheTokenizersClassSaysWhatStandsAround) {
  const std::string model = train("--model_type=unigram --vocab_size=500", texts());
  const TemporaryFolder folder;
  write_file(folder / "spiece.model", model);
  const auto ids_of = [&](const char* config) {
    write_file(folder / "tokenizer_config.json", config);
    return load_tokenizer(folder.path())->encode("").ids;
  };
  EXPECT_EQ(ids_of("{}"), (std::vector<int64_t>{}));
  EXPECT_EQ(ids_of(R"({"tokenizer_class": "LlamaTokenizer"})"), (std::vector<int64_t>{1}));
  EXPECT_EQ(ids_of(R"({"tokenizer_class": "T5Tokenizer"})"), (std::vector<int64_t>{2}));
  EXPECT_EQ(ids_of(R"({"tokenizer_class": "LlamaTokenizer", "add_eos_token": true})"),
            (std::vector<int64_t>{1, 2}));
}

#endif

}  // namespace
}  // namespace graft::testing
