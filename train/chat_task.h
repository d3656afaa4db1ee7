// Conversations as rows of a language task: what the assistant says is predicted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/chat/chat_template.h"
#include "train/table_file.h"
#include "train/task.h"

namespace graft {

// A list of {"role", "content"}, or of {"from", "value"} with the roles human and gpt (ShareGPT),
// as JSON. Throws FileError "WHERE: ..." naming the message.
Conversation read_conversation(std::string_view json, const std::string& where);

// The column that holds conversations; -1: none does.
int conversation_column(const Table& table, const TaskOptions& options);

// That of the options. Throws UsageError for a model with two stacks, whose answers are rows of
// their own, and as models/chat/chat_template.h says.
ChatTemplate chat_template_of(const TaskOptions& options);

// One row that predicts what the assistant says and the ends of its turns, alone. What follows the
// last of them is left out. Where that is longer than max_length, the row loses its beginning, down
// to one token ahead of the last answer; then the last answer loses its end. Throws FileError
// "WHERE: ..." where the conversation does not fit the template, or nothing is to be predicted.
Example chat_row(const std::string& id, const Conversation& conversation, const ChatTemplate& chat,
                 const Tokenizer& tokenizer, int64_t max_length, const std::string& where);

// The rows of a table with conversations.
std::vector<Example> chat_rows(const Table& table, const Tokenizer& tokenizer,
                               const TaskOptions& options);

}  // namespace graft
