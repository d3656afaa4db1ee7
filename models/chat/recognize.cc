// Jinja templates are programs. They are told apart by the expressions that they write turns with,
// in a form that does not depend on their layout: what is not known to the letter is refused.
#include <algorithm>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"
#include "models/chat/chat_template.h"

namespace graft {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != std::string::npos; at = found + from.size())
    out.append(text, at, found - at).append(to);
  text = out.append(text, at);
}

// A literal behind its quote; `at` moves behind the closing one.
void copy_literal(std::string_view jinja, size_t& at, std::string& out) {
  const char quote = jinja[at - 1];
  out += '\'';
  while (at < jinja.size() && jinja[at] != quote) {
    const char c = jinja[at++];
    if (c == '\\' && at < jinja.size()) {
      if (jinja[at] != quote) out += c;
      out += jinja[at++];
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  ++at;
  out += '\'';
}

// Without white space outside of literals, comments and the signs that strip lines; literals in
// single quotes, those that are added up being one; fields as subscripts.
std::string normal_form(std::string_view jinja) {
  std::string out;
  bool code = false;
  for (size_t at = 0; at < jinja.size();) {
    const std::string_view two = jinja.substr(at, 2);
    if (!code && two == "{#") {
      const size_t end = jinja.find("#}", at);
      at = end == std::string_view::npos ? jinja.size() : end + 2;
    } else if (two == (code ? "-}" : "{{") || two == (code ? "-%" : "{%")) {
      // "{{-" and "-}}" alike lose the sign.
      out += code ? "" : two;
      at += code ? 1 : 2;
      if (!code && at < jinja.size() && jinja[at] == '-') ++at;
      code = true;
    } else if (code && (two == "}}" || two == "%}")) {
      out += two;
      at += 2;
      code = false;
    } else {
      const char c = jinja[at++];
      if (code && (c == '\'' || c == '"'))
        copy_literal(jinja, at, out);
      else if (std::string_view(" \t\r\n").find(c) == std::string_view::npos)
        out += c;
    }
  }
  for (const char* object : {"message", "messages[0]"}) {
    for (const char* field : {"role", "content"})
      replace_all(out, fmt::format("{}.{}", object, field), fmt::format("{}['{}']", object, field));
  }
  replace_all(out, "'+'", "");
  return out;
}

// What a template's normal form has and has not. One name may have several rows.
struct Signs {
  const char* name;
  std::vector<const char*> present, absent;
};

const std::vector<Signs>& all_signs() {
  static const std::vector<const char*> not_chatml = {
      "think>",           "trim",           "strip(",          "strftime",   "<|im_sep|>",
      "system_message='", "default_system", "raise_exception", "eos_token}}"};
  static const std::vector<Signs> list = {
      {"chatml",
       {"'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>\\n'",
        "'<|im_start|>assistant\\n'"},
       not_chatml},
      {"chatml",
       {"'<|im_start|>'+message['role']+'\\n'+content+'<|im_end|>\\n'",
        "setcontent=message['content']", "'<|im_start|>assistant\\n'"},
       not_chatml},
      {"chatml",
       {"'<|im_start|>user\\n'+message['content']+'<|im_end|>\\n'",
        "'<|im_start|>assistant\\n'+message['content']+'<|im_end|>\\n'",
        "'<|im_start|>system\\n'+message['content']+'<|im_end|>\\n'",
        "'<|im_start|>assistant\\n'}}"},
       not_chatml},
      {"qwen3",
       {"'<|im_start|>'+message['role']+'\\n'+content+'<|im_end|>\\n'",
        "'<|im_start|>'+message['role']+'\\n<think>\\n'+reasoning_content.strip('\\n')+"
        "'\\n</think>\\n\\n'+content.lstrip('\\n')",
        "loop.index0>ns.last_query_index", "'<|im_start|>assistant\\n'}}",
        "enable_thinkingisfalse"},
       {"strftime"}},
      {"llama2",
       {"'<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message['content']",
        "bos_token+'[INST] '+content.strip()+' [/INST]'", "' '+content.strip()+' '+eos_token"},
       {"system_message='"}},
      {"llama2",
       {"'<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message['content']",
        "bos_token+'[INST] '+content|trim+' [/INST]'", "' '+content|trim+' '+eos_token"},
       {"system_message='"}},
      {"llama3",
       {"'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+"
        "'<|eot_id|>'",
        "bos_token", "'<|start_header_id|>assistant<|end_header_id|>\\n\\n'"},
       {"Today Date", "Cutting Knowledge", "system_message='"}},
      {"llama3.1",
       {"'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+"
        "'<|eot_id|>'",
        "'<|start_header_id|>system<|end_header_id|>\\n\\n'",
        "'Cutting Knowledge Date: December 2023\\n'", "'Today Date: '+date_string+'\\n\\n'",
        "'26 Jul 2024'", "{{bos_token}}", "'<|start_header_id|>assistant<|end_header_id|>\\n\\n'"},
       {}},
      {"mistral",
       {"{{bos_token}}", "'[INST] '+message['content']+' [/INST]'",
        "{{message['content']+eos_token}}"},
       {"<<SYS>>", "trim", "strip(", "system_message"}},
      {"mistral-v1",
       {"{{bos_token}}", "' [INST] '+message['content']+' [/INST]'",
        "' [INST] '+system_message+'\\n\\n'+message['content']+' [/INST]'", "loop.first",
        "' '+message['content']+eos_token"},
       {"trim", "strip(", "system_message='"}},
      {"mistral-v3",
       {"{{bos_token}}", "'[INST] '+message['content']+'[/INST]'",
        "'[INST] '+system_message+'\\n\\n'+message['content']+'[/INST]'",
        "' '+message['content']|trim+eos_token"},
       {"system_message='", "loop.first"}},
      {"mistral-nemo",
       {"{{bos_token}}", "'[INST]'+message['content']+'[/INST]'",
        "'[INST]'+system_message+'\\n\\n'+message['content']+'[/INST]'",
        "message['content']+eos_token"},
       {"system_message='", "loop.first", "trim", "strip(", "[SYSTEM_PROMPT]"}},
      {"gemma",
       {"{{bos_token}}", "'<start_of_turn>'+role+'\\n'+message['content']|trim+'<end_of_turn>\\n'",
        "setrole='model'", "'<start_of_turn>model\\n'", "'System role not supported'"},
       {}},
      {"gemma3",
       {"{{bos_token}}", "first_user_prefix=messages[0]['content']+'\\n\\n'",
        "'<start_of_turn>'+role+'\\n'+(first_user_prefixifloop.firstelse'')",
        "{{message['content']|trim}}", "{{'<end_of_turn>\\n'}}", "setrole='model'",
        "'<start_of_turn>model\\n'"},
       {}},
      {"zephyr",
       {"'<|user|>\\n'+message['content']+eos_token",
        "'<|system|>\\n'+message['content']+eos_token",
        "'<|assistant|>\\n'+message['content']+eos_token", "{{'<|assistant|>'}}"},
       {"trim", "strip(", "bos_token"}},
      {"phi3",
       {"'<|user|>\\n'+message['content']+'<|end|>\\n'",
        "'<|system|>\\n'+message['content']+'<|end|>\\n'",
        "'<|assistant|>\\n'+message['content']+'<|end|>\\n'", "{{'<|assistant|>\\n'}}",
        "{%else%}{{eos_token}}{%endif%}"},
       {"trim", "strip(", "bos_token", "andmessage['content']"}},
      {"phi3.5",
       {"'<|user|>\\n'+message['content']+'<|end|>\\n'",
        "message['role']=='system'andmessage['content']%}"
        "{{'<|system|>\\n'+message['content']+'<|end|>\\n'}}",
        "'<|assistant|>\\n'+message['content']+'<|end|>\\n'", "{{'<|assistant|>\\n'}}",
        "{%else%}{{eos_token}}{%endif%}"},
       {"trim", "strip(", "bos_token"}},
      {"phi4",
       {"'<|im_start|>system<|im_sep|>'+message['content']+'<|im_end|>'",
        "'<|im_start|>user<|im_sep|>'+message['content']+'<|im_end|>'",
        "'<|im_start|>assistant<|im_sep|>'+message['content']+'<|im_end|>'",
        "{{'<|im_start|>assistant<|im_sep|>'}}"},
       {"trim", "strip(", "bos_token", "think>"}},
      {"deepseek",
       {"{{bos_token}}", "'User: '+message['content']+'\\n\\n'",
        "'Assistant: '+message['content']+eos_token", "{{message['content']+'\\n\\n'}}",
        "{{'Assistant:'}}"},
       {"trim", "strip("}}};
  return list;
}

bool shows(const std::string& form, const Signs& signs) {
  const auto found = [&](const char* sign) { return form.find(sign) != std::string::npos; };
  return std::ranges::all_of(signs.present, found) && std::ranges::none_of(signs.absent, found);
}

// The system message that a template of the kind of chatml has where the conversation has none.
std::optional<std::string> default_system(const std::string& form) {
  const std::string_view before = "'<|im_start|>system\\n", after = "<|im_end|>\\n'";
  for (size_t at = 0; (at = form.find(before, at)) != std::string::npos;) {
    at += before.size();
    const size_t end = form.find('\'', at);
    if (end == std::string::npos) break;
    const std::string_view literal = std::string_view(form).substr(at, end + 1 - at);
    if (!literal.ends_with(after)) continue;
    std::string text(literal.substr(0, literal.size() - after.size()));
    replace_all(text, "\\n", "\n");
    return text;
  }
  return std::nullopt;
}

// Templates of this kind differ in the default message and in the begin token.
ChatTemplate completed_chatml(ChatTemplate t, const std::string& form) {
  t.default_system = default_system(form);
  if (form.find("bos_token") != std::string::npos) t.opening = "{bos}";
  for (const ChatTemplate& named : chat_templates()) {
    if (named.prompt == t.prompt && named.opening == t.opening && !named.thinks &&
        named.default_system == t.default_system)
      t.name = named.name;
  }
  return t;
}

std::string choose() {
  return fmt::format("choose one with --chat-template NAME: {}",
                     fmt::join(chat_template_names(), ", "));
}

// The template in a field of a file: a text, or a list of named ones.
std::optional<std::string> template_field(const std::string& file) {
  const Json j = parse_json_file(file);
  const auto it = j.is_object() ? j.find("chat_template") : j.end();
  if (it == j.end() || it->is_null()) return std::nullopt;
  if (!it->is_array()) return json_field<std::string>(j, "chat_template", file);
  std::vector<std::string> names;
  for (const Json& entry : *it) {
    const std::string where = file + ": chat_template";
    names.push_back(json_field<std::string>(entry, "name", where));
    if (names.back() == "default") return json_field<std::string>(entry, "template", where);
  }
  throw UsageError("{}: none of the chat templates is the default one, they are: {}; {}", file,
                   fmt::join(names, ", "), choose());
}

}  // namespace

ChatTemplate recognize_chat_template(std::string_view jinja, const std::string& source) {
  const std::string form = normal_form(jinja);
  for (const Signs& signs : all_signs()) {
    if (!shows(form, signs)) continue;
    ChatTemplate t = find_chat_template(signs.name);
    return t.name == "chatml" ? completed_chatml(std::move(t), form) : t;
  }
  throw UsageError("{}: the chat template is none of those known here; {}", source, choose());
}

ChatTemplate load_chat_template(const std::string& folder) {
  std::error_code none;
  const std::string text = folder + "/chat_template.jinja";
  if (std::filesystem::exists(text, none)) return recognize_chat_template(read_file(text), text);
  for (const char* name : {"/chat_template.json", "/tokenizer_config.json"}) {
    const std::string file = folder + name;
    if (!std::filesystem::exists(file, none)) continue;
    if (const auto jinja = template_field(file)) return recognize_chat_template(*jinja, file);
  }
  throw UsageError(
      "{}: the model has no chat template (chat_template.jinja, or a field of "
      "tokenizer_config.json); {}",
      folder, choose());
}

ChatTemplate chat_template_of(const std::string& name, const std::string& folder) {
  if (!name.empty() && name != "auto") return find_chat_template(name);
  if (folder.empty())
    throw UsageError("no model folder says how conversations are written; {}", choose());
  return load_chat_template(folder);
}

}  // namespace graft
