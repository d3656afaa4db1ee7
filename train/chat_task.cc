#include "train/chat_task.h"

#include <algorithm>

#include "core/error.h"
#include "core/json.h"

namespace graft {
namespace {

// The role that a row's own word for it means; empty: none.
std::string role_of(const std::string& word) {
  if (word == "human") return "user";
  if (word == "gpt") return "assistant";
  return word == "system" || word == "user" || word == "assistant" ? word : "";
}

}  // namespace

Conversation read_conversation(std::string_view json, const std::string& where) {
  const Json list = parse_json(json, where);
  if (!list.is_array() || list.empty()) throw FileError("{}: expected a list of messages", where);
  Conversation conversation;
  for (const Json& m : list) {
    const std::string message = fmt::format("{}: message {}", where, conversation.size() + 1);
    const bool shared = m.is_object() && m.contains("from");
    const auto word = json_field<std::string>(m, shared ? "from" : "role", message);
    const std::string role = role_of(word);
    if (role.empty()) {
      throw FileError("{} has the role '{}'; expected system, user or assistant", message, word);
    }
    conversation.push_back(
        {role, json_field<std::string>(m, shared ? "value" : "content", message)});
  }
  return conversation;
}

int conversation_column(const Table& table, const TaskOptions& o) {
  if (!o.messages_column.empty()) return table.column(o.messages_column, {});
  // A column that the user names says what else the rows are.
  for (const std::string* other :
       {&o.prompt_column, &o.completion_column, &o.text_column, &o.label_column}) {
    if (!other->empty()) return -1;
  }
  return table.column("", {"messages", "conversations"});
}

ChatTemplate chat_template_of(const TaskOptions& o) {
  if (o.two_stacks) {
    throw UsageError(
        "conversations are for decoders; a model with an encoder and a decoder learns from columns "
        "'prompt' and 'completion'");
  }
  return chat_template_of(o.chat_template, o.model_folder);
}

Example chat_row(const std::string& id, const Conversation& conversation, const ChatTemplate& chat,
                 const Tokenizer& tokenizer, int64_t max_length, const std::string& where) {
  ChatEncoding e;
  try {
    e = encode_chat(render_chat(chat, conversation, chat_tokens(tokenizer), false), tokenizer);
  } catch (const UsageError& error) {
    throw FileError("{}: {}", where, error.what());
  }
  const auto learned = [&](size_t i) { return e.authors[i] != ChatAuthor::others; };
  size_t size = e.ids.size();
  while (size > 0 && !learned(size - 1)) --size;
  size_t last = size;  // where the last answer begins
  while (last > 0 && learned(last - 1)) --last;
  if (last == 0)
    throw FileError("{}: the assistant says nothing; there is nothing to predict", where);

  // The last token is predicted, never read. A token that every text begins with stays.
  const auto most = static_cast<size_t>(max_length);
  const size_t kept = e.ids[0] == tokenizer.settings().special.bos ? 1 : 0;
  const size_t gone = size - 1 > most ? std::min(size - 1 - most, last - 1) : 0;
  Example x;
  x.id = id;
  for (size_t i = 0; i + 1 < size && x.ids.size() < most; ++i) {
    if (i >= kept && i < kept + gone) continue;
    x.ids.push_back(e.ids[i]);
    const size_t next = i + 1 == kept ? kept + gone : i + 1;
    // Behind the gap may be the middle of an answer.
    const bool predicted = learned(next) && (next == i + 1 || next == last);
    x.next.push_back(predicted ? e.ids[next] : kNoLabel);
    if (predicted) x.bytes += e.bytes[next];
  }
  return x;
}

std::vector<Example> chat_rows(const Table& table, const Tokenizer& tokenizer,
                               const TaskOptions& o) {
  const auto column = static_cast<size_t>(conversation_column(table, o));
  const int id = table.column("", {"id"});
  const ChatTemplate chat = chat_template_of(o);
  end_of_turn(chat, chat_tokens(tokenizer));  // throws where the tokenizer has none
  std::vector<Example> rows;
  for (const Table::Row& row : table.rows) {
    const std::string where = fmt::format("{}:{}", table.path, row.line);
    const Conversation conversation = read_conversation(row.fields[column], where);
    rows.push_back(
        chat_row(id < 0 ? fmt::format("{}", row.line) : row.fields[static_cast<size_t>(id)],
                 conversation, chat, tokenizer, o.max_length, where));
  }
  return rows;
}

}  // namespace graft
