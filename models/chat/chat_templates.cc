// The named templates. Where a vendor has published several, the name says which.
#include "core/error.h"
#include "models/chat/chat_template.h"

namespace graft {
namespace {

ChatTemplate chatml(const char* name, std::optional<std::string> default_system) {
  return {.name = name,
          .system = {"<|im_start|>system\n", "<|im_end|>\n"},
          .user = {"<|im_start|>user\n", "<|im_end|>\n"},
          .prompt = "<|im_start|>assistant\n",
          .end = "<|im_end|>",
          .tail = "\n",
          .default_system = std::move(default_system)};
}

ChatTemplate qwen3() {
  ChatTemplate t = chatml("qwen3", std::nullopt);
  t.thinks = true;
  return t;
}

ChatTemplate llama2() {
  return {.name = "llama2",
          .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
          .user = {"{bos}[INST] ", " [/INST]"},
          .answer = {" ", " "},
          .end = "{eos}",
          .system_rule = SystemRule::first_user,
          .trimmed = Trimmed::turns,
          .alternates = true};
}

ChatTemplate llama3(const char* name, const char* preface) {
  return {.name = name,
          .opening = "{bos}",
          .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
          .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
          .prompt = "<|start_header_id|>assistant<|end_header_id|>\n\n",
          .end = "<|eot_id|>",
          .system_preface = preface,
          .trimmed = Trimmed::messages};
}

// The date of the template's own fallback: a rendering is the same tomorrow.
ChatTemplate llama31() {
  ChatTemplate t =
      llama3("llama3.1", "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
  t.default_system = "";
  return t;
}

// `space`: ahead of what the assistant says.
ChatTemplate mistral(const char* name, ChatTemplate::Around user, const char* space,
                     SystemRule system) {
  return {.name = name,
          .opening = "{bos}",
          .system = {"", "\n\n"},
          .user = std::move(user),
          .answer = {space, ""},
          .end = "{eos}",
          .system_rule = system,
          .alternates = true};
}

// The system message moves on to the newest question, as Mistral's own library has it. (The Jinja
// texts forget it once the last message is an answer, as it always is in training.)
ChatTemplate mistral_v3() {
  ChatTemplate t = mistral("mistral-v3", {"[INST] ", "[/INST]"}, " ", SystemRule::last_user);
  t.trimmed = Trimmed::answers;
  return t;
}

ChatTemplate gemma(const char* name, SystemRule system) {
  return {.name = name,
          .opening = "{bos}",
          .system = {"", "\n\n"},
          .user = {"<start_of_turn>user\n", "<end_of_turn>\n"},
          .prompt = "<start_of_turn>model\n",
          .end = "<end_of_turn>",
          .tail = "\n",
          .system_rule = system,
          .trimmed = Trimmed::messages,
          .alternates = true};
}

// <|user|> and the like; `end` closes all turns.
ChatTemplate bars(const char* name, const std::string& end) {
  return {.name = name,
          .system = {"<|system|>\n", end + "\n"},
          .user = {"<|user|>\n", end + "\n"},
          .prompt = "<|assistant|>\n",
          .end = end,
          .tail = "\n"};
}

ChatTemplate phi3(const char* name, bool skips_empty_system) {
  ChatTemplate t = bars(name, "<|end|>");
  t.closing = "{eos}";
  t.skips_empty_system = skips_empty_system;
  return t;
}

ChatTemplate phi4() {
  return {.name = "phi4",
          .system = {"<|im_start|>system<|im_sep|>", "<|im_end|>"},
          .user = {"<|im_start|>user<|im_sep|>", "<|im_end|>"},
          .prompt = "<|im_start|>assistant<|im_sep|>",
          .end = "<|im_end|>"};
}

ChatTemplate deepseek() {
  return {.name = "deepseek",
          .opening = "{bos}",
          .system = {"", "\n\n"},
          .user = {"User: ", "\n\n"},
          .prompt = "Assistant:",
          .answer = {" ", ""},
          .end = "{eos}"};
}

ChatTemplate vicuna() {
  return {.name = "vicuna",
          .opening = "{bos}",
          .system = {"", " "},
          .user = {"USER: ", " "},
          .prompt = "ASSISTANT:",
          .answer = {" ", ""},
          .end = "{eos}",
          .default_system =
              "A chat between a curious user and an artificial intelligence assistant. The "
              "assistant gives helpful, detailed, and polite answers to the user's questions.",
          .alternates = true};
}

ChatTemplate alpaca() {
  return {.name = "alpaca",
          .opening = "{bos}",
          .system = {"", "\n\n"},
          .user = {"### Instruction:\n", "\n\n"},
          .prompt = "### Response:\n",
          .end = "{eos}",
          .tail = "\n\n",
          .default_system =
              "Below is an instruction that describes a task. Write a response that appropriately "
              "completes the request.",
          .alternates = true};
}

}  // namespace

const std::vector<ChatTemplate>& chat_templates() {
  static const std::vector<ChatTemplate> list = {
      chatml("chatml", std::nullopt),
      chatml("qwen2", "You are a helpful assistant."),
      chatml("qwen2.5", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
      chatml("smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
      qwen3(),
      llama2(),
      llama3("llama3", ""),
      llama31(),
      mistral("mistral", {"[INST] ", " [/INST]"}, "", SystemRule::refused),
      mistral("mistral-v1", {" [INST] ", " [/INST]"}, " ", SystemRule::first_user),
      mistral_v3(),
      mistral("mistral-nemo", {"[INST]", "[/INST]"}, "", SystemRule::last_user),
      gemma("gemma", SystemRule::refused),
      gemma("gemma3", SystemRule::first_user),
      bars("zephyr", "{eos}"),
      phi3("phi3", false),
      phi3("phi3.5", true),
      phi4(),
      deepseek(),
      vicuna(),
      alpaca()};
  return list;
}

std::vector<std::string> chat_template_names() {
  std::vector<std::string> names;
  for (const ChatTemplate& t : chat_templates()) names.push_back(t.name);
  return names;
}

const ChatTemplate& find_chat_template(const std::string& name) {
  for (const ChatTemplate& t : chat_templates()) {
    if (t.name == name) return t;
  }
  throw UsageError("the chat template '{}' is not known; these are: {}", name,
                   fmt::join(chat_template_names(), ", "));
}

}  // namespace graft
