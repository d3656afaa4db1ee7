// A conversation as text.
#include <algorithm>

#include "core/error.h"
#include "models/chat/chat_template.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

// White space as str.strip() of Python, which the templates call, knows it.
bool is_stripped(char32_t c) { return is_whitespace(c) || (c >= 0x1C && c <= 0x1F); }

std::string trim(std::string_view text) {
  size_t begin = text.size(), end = 0, bytes = 0;
  for (size_t at = 0; at < text.size(); at += bytes) {
    const CodePoint c = code_point(text, at);
    bytes = c.bytes;
    if (is_stripped(c.code)) continue;
    begin = std::min(begin, at);
    end = at + bytes;
  }
  return std::string(text.substr(begin, end > begin ? end - begin : 0));
}

std::string trim_lines(std::string_view text, bool left, bool right) {
  while (left && text.starts_with('\n')) text.remove_prefix(1);
  while (right && text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text);
}

std::string filled(const std::string& text, const ChatTemplate& chat, const ChatTokens& tokens) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = std::string_view(text).substr(at);
    const bool bos = rest.starts_with("{bos}"), eos = rest.starts_with("{eos}");
    // A text may well begin without a token for it; that it ends cannot be left out.
    if (eos && tokens.eos.empty()) {
      throw UsageError(
          "the chat template '{}' closes turns with the end token, and the tokenizer has none; "
          "choose another template with --chat-template NAME",
          chat.name);
    }
    if (bos || eos) {
      out += bos ? tokens.bos : tokens.eos;
      at += std::string_view("{bos}").size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

bool is_system(const ChatMessage& m) { return m.role == "system"; }
bool is_user(const ChatMessage& m) { return m.role == "user"; }

void check_roles(const ChatTemplate& chat, const Conversation& conversation) {
  for (size_t i = 0; i < conversation.size(); ++i) {
    const std::string& role = conversation[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      throw UsageError("message {} has the role '{}'; expected system, user or assistant", i + 1,
                       role);
    }
  }
  if (conversation.empty()) throw UsageError("the conversation has no messages");
  if (is_system(conversation[0]) && chat.system_rule == SystemRule::refused) {
    throw UsageError("the chat template '{}' knows no system message; say it as the user",
                     chat.name);
  }
  if (!chat.alternates) return;
  const size_t first = is_system(conversation[0]) ? 1 : 0;
  for (size_t i = first; i < conversation.size(); ++i) {
    const char* expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (conversation[i].role != expected) {
      throw UsageError(
          "message {} is of the {} where the chat template '{}' expects the {}: roles alternate "
          "after at most one system message",
          i + 1, conversation[i].role, chat.name, expected);
    }
  }
  if (first == conversation.size()) {
    throw UsageError("the chat template '{}' expects a message of the user behind the system's",
                     chat.name);
  }
}

// What an answer becomes where the model thinks before it speaks: the thoughts of earlier questions
// are forgotten, and the last answer shows that there were none.
std::string with_thoughts(const std::string& content, bool of_last_question, bool last) {
  const std::string open = "<think>", close = "</think>";
  std::string thoughts, said = content;
  if (const size_t end = content.find(close); end != std::string::npos) {
    const std::string before = trim_lines(content.substr(0, end), false, true);
    const size_t begin = before.rfind(open);
    thoughts = trim_lines(before.substr(begin == std::string::npos ? 0 : begin + open.size()), true,
                          false);
    said = trim_lines(content.substr(content.rfind(close) + close.size()), true, false);
  }
  if (!of_last_question || (thoughts.empty() && !last)) return said;
  return fmt::format("{}\n{}\n{}\n\n{}", open, trim_lines(thoughts, true, true), close,
                     trim_lines(said, true, false));
}

class Renderer {
 public:
  Renderer(const ChatTemplate& chat, const Conversation& conversation, const ChatTokens& tokens)
      : t_(chat), conversation_(conversation), tokens_(tokens) {
    for (size_t i = 0; i < conversation.size(); ++i) {
      if (!is_user(conversation[i])) continue;
      if (first_user_ == kNone) first_user_ = i;
      last_user_ = i;
    }
  }

  std::vector<ChatPiece> run(bool generation_prompt) {
    add(fill(t_.opening));
    const bool has_system = is_system(conversation_[0]);
    const bool own_turn = t_.system_rule == SystemRule::turn;
    if (!has_system && t_.default_system) add(system_turn(*t_.default_system, true));
    for (size_t i = 0; i < conversation_.size(); ++i) {
      const ChatMessage& m = conversation_[i];
      if (is_system(m)) {
        if (own_turn) add(system_turn(m.content, i == 0));
      } else if (is_user(m)) {
        add(user_turn(i, has_system && !own_turn));
      } else {
        add_answer(i);
      }
    }
    add(fill(generation_prompt ? t_.prompt : t_.closing));
    return std::move(pieces_);
  }

 private:
  static constexpr size_t kNone = static_cast<size_t>(-1);

  std::string fill(const std::string& text) const { return filled(text, t_, tokens_); }

  std::string message(const ChatMessage& m) const {
    const bool trims = t_.trimmed == Trimmed::messages ||
                       (t_.trimmed != Trimmed::nothing && m.role == "assistant");
    return trims ? trim(m.content) : m.content;
  }

  std::string system_turn(const std::string& content, bool first) const {
    if (content.empty() && t_.skips_empty_system) return {};
    return fill(t_.system.before) + (first ? t_.system_preface : "") +
           message({"system", content}) + fill(t_.system.after);
  }

  std::string user_turn(size_t i, bool folds) const {
    std::string text = message(conversation_[i]);
    if (folds && i == (t_.system_rule == SystemRule::first_user ? first_user_ : last_user_)) {
      text = fill(t_.system.before) + conversation_[0].content + fill(t_.system.after) + text;
    }
    if (t_.trimmed == Trimmed::turns) text = trim(text);
    return fill(t_.user.before) + text + fill(t_.user.after);
  }

  void add_answer(size_t i) {
    std::string text = message(conversation_[i]);
    if (t_.thinks) {
      const bool of_last = last_user_ != kNone && i > last_user_;
      text = with_thoughts(text, of_last, i + 1 == conversation_.size());
    }
    add(fill(t_.prompt));
    add(fill(t_.answer.before) + text + fill(t_.answer.after), ChatAuthor::assistant);
    add(fill(t_.end), ChatAuthor::end_of_turn);
    add(fill(t_.tail));
  }

  void add(const std::string& text, ChatAuthor author = ChatAuthor::others) {
    if (text.empty()) return;
    if (!pieces_.empty() && pieces_.back().author == author) {
      pieces_.back().text += text;
    } else {
      pieces_.push_back({text, author});
    }
  }

  const ChatTemplate& t_;
  const Conversation& conversation_;
  const ChatTokens& tokens_;
  size_t first_user_ = kNone, last_user_ = kNone;
  std::vector<ChatPiece> pieces_;
};

}  // namespace

ChatTokens chat_tokens(const Tokenizer& tokenizer) {
  const SpecialTokens& special = tokenizer.settings().special;
  return {tokenizer.token_of(special.bos), tokenizer.token_of(special.eos)};
}

std::vector<ChatPiece> render_chat(const ChatTemplate& chat, const Conversation& conversation,
                                   const ChatTokens& tokens, bool generation_prompt) {
  check_roles(chat, conversation);
  return Renderer(chat, conversation, tokens).run(generation_prompt);
}

std::string text_of(const std::vector<ChatPiece>& pieces) {
  std::string text;
  for (const ChatPiece& p : pieces) text += p.text;
  return text;
}

std::string end_of_turn(const ChatTemplate& chat, const ChatTokens& tokens) {
  return filled(chat.end, chat, tokens);
}

}  // namespace graft
