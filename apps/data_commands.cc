// Commands on files: data, encode, train-tokenizer, inspect.
#include <filesystem>
#include <iostream>
#include <iterator>

#include "apps/command.h"
#include "apps/lines.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "models/model.h"
#include "models/tokenizer/bpe_train.h"
#include "models/weights.h"
#include "peft/adapter_files.h"
#include "train/language_task.h"
#include "train/wordnet_words.h"

namespace graft {

std::vector<std::string> read_lines(const std::string& file) {
  const std::string text =
      file == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : read_file(file);
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

namespace {

struct Data {
  CommonOptions common;
  std::string name, output;
};

void run_data(const Data& o) {
  if (!o.name.starts_with("wordnet:")) {
    throw UsageError("the data '{}' are not known; give wordnet:NAME with a NAME of {} or glosses",
                     o.name, fmt::join(wordnet_task_names(), ", "));
  }
  if (o.name == "wordnet:glosses") {
    const std::vector<std::string> files = write_wordnet_glosses(o.output);
    if (o.common.json) {
      print_json({{"files", files}});
    } else {
      std::cout << fmt::format("{}\n", fmt::join(files, "\n"));
    }
    return;
  }
  const WordnetTask task = build_wordnet_task(o.name.substr(8));
  const std::vector<std::string> files = write_wordnet_task(task, o.output);
  if (o.common.json) {
    print_json(
        {{"files", files},
         {"rows",
          {{"train", task.train.size()}, {"dev", task.dev.size()}, {"test", task.test.size()}}}});
  } else {
    std::cout << fmt::format("{} train, {} dev and {} test rows written to {}\n", task.train.size(),
                             task.dev.size(), task.test.size(), o.output);
  }
}

struct Encode {
  CommonOptions common;
  std::string model, file;
};

void run_encode(const Encode& o) {
  const auto tokenizer = load_tokenizer(o.model);
  Json all = Json::array();
  for (const std::string& line : read_lines(o.file)) {
    const Encoding e = tokenizer->encode(line);
    if (!o.common.json) {
      std::cout << fmt::format("{}\n", fmt::join(e.tokens, " "));
      continue;
    }
    Json offsets = Json::array();
    for (const auto& [begin, end] : e.offsets) offsets.push_back({begin, end});
    all.push_back({{"ids", e.ids},
                   {"tokens", e.tokens},
                   {"offsets", offsets},
                   {"decoded", tokenizer->decode(e.ids)}});
  }
  // Texts are a list, the one JSON value of this command that is not an object (its specification).
  if (o.common.json) std::cout << all.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
}

struct TrainTokenizer {
  CommonOptions common;
  std::vector<std::string> files;
  std::string output;
  int64_t size = 8192, sentinels = 0;
};

constexpr const char* kEndOfText = "<|endoftext|>";

void run_train_tokenizer(const TrainTokenizer& o) {
  BpeTrainingOptions options = {.vocabulary_size = o.size, .special_tokens = {kEndOfText}};
  Json settings = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"eos_token", kEndOfText}};
  if (o.sentinels > 0) {
    // T5's conventions.
    options.closing = "</s>";
    options.special_tokens = {"<pad>", options.closing};
    Json sentinels = Json::array();
    for (int64_t i = 0; i < o.sentinels; ++i) sentinels.push_back(fmt::format("<extra_id_{}>", i));
    for (const Json& s : sentinels) options.special_tokens.push_back(s);
    settings["eos_token"] = options.closing;
    settings["pad_token"] = "<pad>";
    settings["additional_special_tokens"] = sentinels;
  }
  BpeTrainer trainer(options);
  for (const std::string& file : o.files) trainer.add(read_text_file(file));
  const Json tokenizer = trainer.train();
  const int64_t size =
      parse_tokenizer_json(json_text(tokenizer), "the tokenizer")->vocabulary_size();
  make_folders(o.output);
  write_json_file(o.output + "/tokenizer.json", tokenizer);
  write_json_file(o.output + "/tokenizer_config.json", settings);
  if (o.common.json) {
    print_json({{"vocabulary_size", size}});
  } else {
    std::cout << fmt::format("a vocabulary of {} tokens written to {}\n", size, o.output);
  }
}

struct Inspect {
  CommonOptions common;
  std::string path;
};

struct Findings {
  std::vector<std::string> problems;  // what keeps a folder from being used; none: it is whole
  std::vector<std::string> unknown;   // tensors that the model does not read
};

Findings findings_of(const std::string& path) {
  Findings found;
  auto attempt = [&](const auto& f) {
    try {
      f();
    } catch (const Error& e) {
      found.problems.emplace_back(e.what());
    }
  };
  if (std::filesystem::exists(path + "/config.json")) {
    attempt([&] {
      std::vector<std::string> unlisted = open_weights(path).unlisted;
      attempt([&] {
        const ModelConfig config = load_config(path);
        ParamStore store;
        found.unknown =
            load_parameters(path, build_model(config, {.head = head_of(config)}), store).unread;
      });
      found.unknown.insert(found.unknown.end(), unlisted.begin(), unlisted.end());
    });
    attempt([&] { load_tokenizer(path); });
  }
  if (std::filesystem::exists(path + "/adapter_config.json")) {
    attempt([&] { peft::read_adapter_config(path); });
  }
  return found;
}

Json inspected(const std::string& path) {
  Json j = {{"path", path}, {"config", nullptr}, {"tensors", Json::array()}};
  std::vector<std::string> files;
  const bool folder = std::filesystem::is_directory(path);
  if (folder) {
    for (const char* name : {"config.json", "adapter_config.json"}) {
      const std::string file = path + "/" + name;
      if (std::filesystem::exists(file)) j["config"] = parse_json_file(file);
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
    }
    std::ranges::sort(files);
    if (files.empty()) throw FileError("'{}' holds no safetensors file", path);
  } else {
    files.push_back(path);
  }
  int64_t parameters = 0;
  std::map<std::string, int64_t> dtypes;
  Json shards = Json::array();
  for (const std::string& file : files) {
    const SafeTensors st = SafeTensors::open(file);
    const std::string name_of_file = std::filesystem::path(file).filename();
    shards.push_back({{"name", name_of_file},
                      {"bytes", std::filesystem::file_size(file)},
                      {"tensors", st.tensors().size()}});
    for (const auto& [name, t] : st.tensors()) {
      const auto dims = t.shape().dims();
      parameters += t.elements();
      ++dtypes[std::string(name_of(t.dtype()))];
      j["tensors"].push_back({{"name", name},
                              {"dtype", name_of(t.dtype())},
                              {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                              {"file", name_of_file}});
    }
  }
  j["parameters"] = parameters;
  j["files"] = shards;
  j["dtypes"] = dtypes;
  const Findings found = folder ? findings_of(path) : Findings();
  j["unknown"] = found.unknown;
  j["problems"] = found.problems;
  j["whole"] = j["problems"].empty();
  return j;
}

std::string counts(const Json& dtypes) {
  std::string text;
  for (const auto& [name, count] : dtypes.items()) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count.get<int64_t>(), name);
  }
  return text;
}

void run_inspect(const Inspect& o) {
  const Json j = inspected(o.path);
  if (o.common.json) {
    print_json(j);
    return;
  }
  for (const Json& t : j["tensors"]) {
    std::cout << fmt::format("{:80} {:5} {}\n", t["name"].get<std::string>(),
                             t["dtype"].get<std::string>(), t["shape"].dump());
  }
  for (const Json& f : j["files"]) {
    std::cout << fmt::format("{}: {} tensors, {} bytes\n", f["name"].get<std::string>(),
                             f["tensors"].get<size_t>(), f["bytes"].get<uint64_t>());
  }
  if (!j["unknown"].empty()) {
    std::cout << "not read by the model:";
    for (const Json& name : j["unknown"]) std::cout << " " << name.get<std::string>();
    std::cout << "\n";
  }
  std::cout << fmt::format("{} tensors ({}), {} numbers; {}\n", j["tensors"].size(),
                           counts(j["dtypes"]), j["parameters"].get<int64_t>(),
                           j["whole"] == true ? "whole" : "not whole:");
  for (const Json& p : j["problems"]) std::cout << "  " << p.get<std::string>() << "\n";
}

}  // namespace

void add_data_commands(CLI::App& app) {
  const auto [data, d] = add_command<Data>(app, "data", "write a task's files", run_data);
  data->add_option("name", d->name, "wordnet:NAME of a task, or wordnet:glosses: running text")
      ->required();
  data->add_option("--output", d->output, "folder to write to")->required();

  const auto [encode, e] =
      add_command<Encode>(app, "encode", "tokenize, one text a line", run_encode);
  add_model_option(*encode, e->model);
  encode->add_option("file", e->file, "text file, or - for standard input")->required();

  const auto [train, t] = add_command<TrainTokenizer>(
      app, "train-tokenizer", "train a byte-level BPE vocabulary on text", run_train_tokenizer);
  train->add_option("file", t->files, "text files")->required();
  train->add_option("--size", t->size, "tokens, with the 256 bytes and the end of text")
      ->check(CLI::PositiveNumber);
  train
      ->add_option(
          "--sentinels", t->sentinels,
          "for an encoder-decoder: so many tokens that stand for what is cut out of a text "
          "(<extra_id_0>, ...), <pad>, and </s> behind every text")
      ->check(CLI::Range(1, 10000));
  train->add_option("--output", t->output, "folder to write tokenizer.json to")->required();

  const auto [inspect, i] = add_command<Inspect>(
      app, "inspect", "what is in a model, adapter or checkpoint folder, and whether it is whole",
      run_inspect);
  inspect->add_option("path", i->path, "folder or safetensors file")->required();
}

}  // namespace graft
