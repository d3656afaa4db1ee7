// Conversations as the text that a chat model was trained on: named templates, each a row of
// strings and rules. A model folder's own template, which is a program, is not run but recognized.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer.h"

namespace graft {

struct ChatMessage {
  std::string role, content;  // system, user or assistant
};
using Conversation = std::vector<ChatMessage>;

// Where a system message stands.
enum class SystemRule {
  turn,        // a turn of its own
  first_user,  // ahead of what the user says first
  last_user,   // ahead of what the user says last
  refused
};

// Who loses the white space around it.
enum class Trimmed {
  nothing,
  messages,  // each message
  answers,   // what the assistant says
  turns      // each turn, a system message in it and the user's being one
};

// In the strings around messages {bos} and {eos} are the tokenizer's tokens.
struct ChatTemplate {
  struct Around {
    std::string before, after;
  };
  std::string name;
  std::string opening = {};  // ahead of everything
  Around system = {}, user = {};
  std::string prompt = {};   // begins the assistant's turn; generation goes on from here
  Around answer = {};        // what the assistant writes around its message
  std::string end = {};      // the token that ends its turn, written by it as well
  std::string tail = {};     // behind that
  std::string closing = {};  // behind a conversation that nothing is to be added to
  SystemRule system_rule = SystemRule::turn;
  std::optional<std::string> default_system = {};  // where the first message is another one
  std::string system_preface = {};                 // ahead of the first system message
  Trimmed trimmed = Trimmed::nothing;
  bool alternates = false;          // user and assistant in turn, after at most one system message
  bool skips_empty_system = false;  // that has no turn
  bool thinks = false;  // an answer to the last question begins with <think>; others lose theirs
};

// Whose words a piece of text is: only what the assistant says is learned, with the end of its
// turn.
enum class ChatAuthor { others, assistant, end_of_turn };
struct ChatPiece {
  std::string text;
  ChatAuthor author;
};

// The strings of a tokenizer that templates ask for; empty: it has no such token.
struct ChatTokens {
  std::string bos, eos;
};
ChatTokens chat_tokens(const Tokenizer& tokenizer);

const std::vector<ChatTemplate>& chat_templates();
std::vector<std::string> chat_template_names();
// Throws UsageError naming those there are.
const ChatTemplate& find_chat_template(const std::string& name);

// The named template that says what the text of a Jinja template does, with the default system
// message that stands in it. Throws UsageError "SOURCE: ..." where none does.
ChatTemplate recognize_chat_template(std::string_view jinja, const std::string& source);
// That of a model folder: chat_template.jinja, chat_template.json or tokenizer_config.json, the
// first there is. Throws UsageError where the folder has none or an unknown one.
ChatTemplate load_chat_template(const std::string& folder);
// The named one; that of the folder for "auto" and "".
ChatTemplate chat_template_of(const std::string& name, const std::string& folder);

// The conversation as pieces of text, for training; or up to where the assistant's next turn
// begins, for generation. Throws UsageError saying which message does not fit the template.
std::vector<ChatPiece> render_chat(const ChatTemplate& chat, const Conversation& conversation,
                                   const ChatTokens& tokens, bool generation_prompt);
std::string text_of(const std::vector<ChatPiece>& pieces);
// The token that ends the assistant's turn.
std::string end_of_turn(const ChatTemplate& chat, const ChatTokens& tokens);

// The tokens of the whole text. None of them runs over the place where an answer begins, so that
// what is ahead of it has the tokens that generation goes on from. No tokens are added around.
struct ChatEncoding {
  std::vector<int64_t> ids;
  std::vector<ChatAuthor> authors;  // of each token's first character
  std::vector<int64_t> bytes;       // of the assistant's message that each token stands for
};
ChatEncoding encode_chat(const std::vector<ChatPiece>& pieces, const Tokenizer& tokenizer);

}  // namespace graft
