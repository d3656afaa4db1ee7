// graft generate: text after a prompt.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>

#include "apps/adapted_model.h"
#include "apps/command.h"
#include "apps/lines.h"
#include "models/chat/chat_template.h"
#include "models/generation/generate.h"
#include "models/tokenizer.h"

namespace graft {
namespace {

struct Generate {
  CommonOptions common;
  std::string model, adapter;
  std::vector<std::string> prompts, stop;
  std::string file;
  bool chat = false;
  std::string chat_template;
  std::optional<std::string> system;
  GenerationOptions options;
};

// How prompts become what the model reads: as they are, or as questions of a conversation.
class Asking {
 public:
  Asking(const Generate& o, const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    if (o.chat || !o.chat_template.empty()) chat_ = chat_template_of(o.chat_template, o.model);
    if (!o.system) return;
    if (!chat_) throw UsageError("--system is part of a conversation; it goes with --chat");
    before_.push_back({"system", *o.system});
  }

  bool chat() const { return chat_.has_value(); }
  // White space that the template has the model write ahead of each answer.
  std::string before_answer() const { return chat_ ? chat_->answer.before : ""; }

  std::vector<int64_t> read(const std::string& prompt) const {
    if (!chat_) return tokenizer_.encode(prompt).ids;
    Conversation c = before_;
    c.push_back({"user", prompt});
    return encode_chat(render_chat(*chat_, c, chat_tokens(tokenizer_), true), tokenizer_).ids;
  }

  // The end of the assistant's turn ends a row, as a token where it is one, else as text.
  void add_end(GenerationOptions& options, std::vector<std::string>& stop) const {
    if (!chat_) return;
    const std::string end = end_of_turn(*chat_, chat_tokens(tokenizer_));
    const int64_t id = tokenizer_.id_of(end);
    if (id < 0) {
      stop.push_back(end);
    } else if (std::ranges::find(options.eos_ids, id) == options.eos_ids.end()) {
      options.eos_ids.push_back(id);
    }
  }

 private:
  const Tokenizer& tokenizer_;
  std::optional<ChatTemplate> chat_;
  Conversation before_;
};

// The text of a row as it grows, up to one of the stop texts.
class RowText {
 public:
  // The prompt goes through the decoder too: what comes after it does not begin a text. `lead` is
  // left out where the text begins with it.
  RowText(const Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
          const std::vector<std::string>& stop, std::string lead)
      : decoder_(tokenizer), stop_(stop), lead_(std::move(lead)) {
    for (const int64_t id : prompt) decoder_.push(id);
  }

  // False once a stop text stands there, which is cut off with what follows it.
  bool add(int64_t token) {
    append(decoder_.push(token));
    return !cut();
  }
  void finish() {
    if (!stopped_) append(decoder_.finish());
    cut();
  }
  // What has come since the last call. While a stop text may be beginning, the end is held back.
  std::string fresh(bool all) {
    size_t end = text_.size();
    for (const std::string& s : stop_) {
      for (size_t n = std::min(s.size() - 1, text_.size()); n > 0 && !all && !stopped_; --n) {
        if (text_.ends_with(s.substr(0, n))) {
          end = std::min(end, text_.size() - n);
          break;
        }
      }
    }
    if (end <= shown_) return {};
    std::string part = text_.substr(shown_, end - shown_);
    shown_ = end;
    return part;
  }
  const std::string& text() const { return text_; }

 private:
  void append(const std::string& part) {
    text_ += part;
    if (text_.size() < lead_.size()) return;
    if (text_.starts_with(lead_)) text_.erase(0, lead_.size());
    lead_.clear();
  }
  bool cut() {
    for (const std::string& s : stop_) {
      const size_t at = text_.find(s);
      if (at == std::string::npos) continue;
      text_.resize(at);
      stopped_ = true;
    }
    return stopped_;
  }

  StreamDecoder decoder_;
  const std::vector<std::string>& stop_;
  std::string lead_, text_;
  size_t shown_ = 0;
  bool stopped_ = false;
};

GenerationOptions complete(const Generate& o, const ModelConfig& config,
                           const Tokenizer& tokenizer) {
  GenerationOptions options = o.options;
  options.sampling.seed = static_cast<uint64_t>(o.common.seed);
  options.eos_ids = config.eos_ids;
  const int64_t eos = tokenizer.settings().special.eos;
  if (options.eos_ids.empty() && eos >= 0) options.eos_ids = {eos};
  for (const std::string& s : o.stop) {
    if (s.empty()) throw UsageError("--stop is empty; give it the text to stop at");
  }
  return options;
}

void run_generate(const Generate& o) {
  std::vector<std::string> prompts = o.prompts;
  if (!o.file.empty()) {
    for (std::string& line : read_lines(o.file)) prompts.push_back(std::move(line));
  }
  if (prompts.empty()) throw UsageError("there is no prompt; give --prompt TEXT or --file FILE");
  const auto tokenizer = load_tokenizer(o.model);
  const Head head = training_head(load_config(o.model), TaskKind::language);
  const Asking asking(o, *tokenizer);
  std::vector<std::vector<int64_t>> ids;
  for (const std::string& prompt : prompts) ids.push_back(asking.read(prompt));
  AdaptedModel m(o.model, o.adapter, head);
  GenerationOptions options = complete(o, m.config(), *tokenizer);
  std::vector<std::string> stop = o.stop;
  asking.add_end(options, stop);
  // What a decoder says goes on from the prompt; one with an encoder answers it.
  const bool goes_on = head == Head::causal_lm;
  DecodingSession session(m.config(), m.params(), m.decoding());

  std::vector<RowText> texts;
  for (const auto& prompt : ids)
    texts.emplace_back(*tokenizer, goes_on ? prompt : std::vector<int64_t>(), stop,
                       asking.before_answer());
  // One text is shown as it comes, several when they are done.
  const bool stream = !o.common.json && prompts.size() == 1 && options.beams == 1;
  // Of an answer to a prompt the answer alone is shown.
  const auto shown = [&](size_t row) {
    return goes_on && !asking.chat() ? prompts[row] : std::string();
  };
  if (stream) std::cout << shown(0) << std::flush;
  const auto start = std::chrono::steady_clock::now();
  const auto tokens = generate(session, ids, options, [&](int64_t row, int64_t token) {
    RowText& text = texts[static_cast<size_t>(row)];
    const bool on = text.add(token) && !interrupted();
    if (stream) std::cout << text.fresh(!on) << std::flush;
    return on;
  });
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  size_t count = 0;
  for (size_t r = 0; r < texts.size(); ++r) {
    count += tokens[r].size();
    if (options.beams > 1) {
      for (const int64_t token : tokens[r]) {
        if (!texts[r].add(token)) break;
      }
    }
    texts[r].finish();
    if (stream) {
      std::cout << texts[r].fresh(true) << "\n";
    } else if (!o.common.json) {
      std::cout << shown(r) << texts[r].text() << "\n";
    }
  }
  const double rate = static_cast<double>(count) / took;
  if (!o.common.json) {
    std::cerr << fmt::format("{} tokens, {:.1f} tokens/s\n", count, rate);
    return;
  }
  Json rows = Json::array();
  for (size_t r = 0; r < texts.size(); ++r)
    rows.push_back({{"prompt", prompts[r]}, {"tokens", tokens[r]}, {"text", texts[r].text()}});
  Json result = {{"tokens", tokens[0]}, {"text", texts[0].text()}, {"tokens_per_second", rate}};
  if (rows.size() > 1) result["rows"] = rows;
  print_json(result);
}

}  // namespace

void add_generate_command(CLI::App& app) {
  const auto [command, o] =
      add_command<Generate>(app, "generate", "text after a prompt", run_generate);
  add_model_option(*command, o->model);
  command->add_option("--adapter", o->adapter, "adapter folder");
  command->add_option("--prompt", o->prompts, "text to go on from; several make a batch");
  command->add_option("--file", o->file, "prompts, one a line, or - for standard input");
  command->add_flag("--chat", o->chat,
                    "prompts are questions: the model's chat template is put around them, and the "
                    "answer alone is shown");
  add_chat_template_option(*command, o->chat_template);
  command->add_option("--system", o->system,
                      "system message of the conversation; empty: not even the template's own");
  command->add_option("--max-new-tokens", o->options.max_new_tokens, "tokens to make")
      ->check(CLI::PositiveNumber);
  SamplingOptions& s = o->options.sampling;
  command->add_option("--temperature", s.temperature, "0 (default) takes the best token always");
  command->add_option("--top-k", s.top_k, "sample from the k best tokens");
  command->add_option("--top-p", s.top_p,
                      "sample from the fewest tokens whose probabilities reach this sum");
  command->add_option("--repetition-penalty", s.repetition_penalty,
                      "above 1: tokens of the text so far become less likely");
  command->add_option("--beams", o->options.beams, "beam search where above 1");
  command->add_option("--length-penalty", o->options.length_penalty,
                      "beams are compared by log probability over length to this power");
  command->add_option("--stop", o->stop, "text that ends a row; it is cut off");
}

}  // namespace graft
