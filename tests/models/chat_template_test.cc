// Chat templates against transformers (tests/models/chat/generate.py), what is learned of a
// conversation, and how templates of model folders are recognized.
#include "models/chat/chat_template.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "core/atomic_file.h"
#include "core/json.h"
#include "models/tokenizer/bpe_train.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

const Json& fixture() {
  static const Json j =
      parse_json_file(std::string(GRAFT_SOURCE_DIR) + "/tests/models/chat/renderings.json");
  return j;
}

std::string string_of(const Json& j, const char* key) {
  return json_field<std::string>(j, key, "");
}

Conversation conversation_of(const Json& messages) {
  Conversation c;
  for (const Json& m : messages) c.push_back({string_of(m, "role"), string_of(m, "content")});
  return c;
}

ChatTokens tokens_of(const Json& row) { return {string_of(row, "bos"), string_of(row, "eos")}; }

// The rows of a template, and variants of it as the folder's own.
class EachTemplate : public ::testing::TestWithParam<size_t> {
 protected:
  const Json& row() const { return fixture().at("templates").at(GetParam()); }
  std::string jinja() const { return string_of(row(), "jinja"); }
  ChatTemplate chat() const {
    return row().at("recognized").get<bool>() ? recognize_chat_template(jinja(), "T")
                                              : find_chat_template(string_of(row(), "name"));
  }
};

// The Jinja texts forget a system message behind the last question, where training needs it.
bool keeps_more(const ChatTemplate& chat, const Conversation& c) {
  return chat.system_rule == SystemRule::last_user && c.front().role == "system" &&
         c.back().role == "assistant";
}

TEST_P(EachTemplate, SaysWhatTransformersSay) {
  const ChatTemplate t = chat();
  size_t refused = 0;
  for (const auto& [title, texts] : row().at("texts").items()) {
    const Conversation c = conversation_of(fixture().at("conversations").at(title));
    for (const bool prompt : {false, true}) {
      SCOPED_TRACE(title + (prompt ? ", to go on" : ""));
      const Json& want = texts.at(prompt ? 1 : 0);
      if (want.is_object()) {
        ++refused;
        EXPECT_THROW(render_chat(t, c, tokens_of(row()), prompt), UsageError);
      } else if (!keeps_more(t, c)) {
        EXPECT_EQ(text_of(render_chat(t, c, tokens_of(row()), prompt)), want.get<std::string>());
      }
    }
  }
  EXPECT_EQ(refused > 0, t.alternates);
}

TEST_P(EachTemplate, IsRecognized) {
  const std::string name = string_of(row(), "name");
  if (!row().at("recognized").get<bool>()) {
    EXPECT_THROW(recognize_chat_template(jinja(), "T"), UsageError);
    return;
  }
  EXPECT_EQ(chat().name, name);
  // Layout and notation do not matter.
  std::string other = jinja();
  for (const char* sign : {"{% ", "{{ ", " %}", " }}"}) {
    for (size_t at = 0; (at = other.find(sign, at)) != std::string::npos; at += 6)
      other.insert(sign[0] == ' ' ? at : at + 2, "\n  ");
  }
  EXPECT_EQ(recognize_chat_template(other + "{# 'a note' #}", "T").name, name);
  EXPECT_EQ(recognize_chat_template(jinja(), "T").default_system, chat().default_system);
  // One sign more around what the assistant says, and it is another one.
  std::string changed = jinja();
  for (const char* end : {"eos_token", "|im_end|", "|eot_id|", "end_of_turn", "|end|"}) {
    for (size_t at = 0; (at = changed.find(end, at)) != std::string::npos; at += 1 + strlen(end))
      changed.insert(at, "x");
  }
  EXPECT_THROW(recognize_chat_template(changed, "T"), UsageError);
}

// What is learned is what the assistant said, and where it is asked to speak the text so far is the
// same in training and in generation.
TEST_P(EachTemplate, LearnsAnswersAlone) {
  const ChatTemplate t = chat();
  const ChatTokens tokens = tokens_of(row());
  for (const char* title : {"answered", "turns answered", "system answered"}) {
    Conversation c = conversation_of(fixture().at("conversations").at(title));
    if (t.system_rule == SystemRule::refused && c[0].role == "system") continue;
    const std::vector<ChatPiece> pieces = render_chat(t, c, tokens, false);
    std::vector<std::string> said;
    std::string before;
    for (const ChatPiece& p : pieces) {
      if (p.author == ChatAuthor::assistant) {
        size_t spoken = 0;
        Conversation until;
        for (const ChatMessage& m : c) {
          if (m.role == "assistant" && spoken++ == said.size()) break;
          until.push_back(m);
        }
        if (t.system_rule != SystemRule::last_user || c[0].role != "system") {
          EXPECT_EQ(text_of(render_chat(t, until, tokens, true)), before) << title;
        }
        said.push_back(p.text);
      } else if (p.author == ChatAuthor::end_of_turn) {
        EXPECT_EQ(p.text, end_of_turn(t, tokens));
      }
      before += p.text;
    }
    size_t answers = 0;
    for (const ChatMessage& m : c) {
      if (m.role != "assistant") continue;
      ASSERT_LT(answers, said.size());
      EXPECT_NE(said[answers].find(m.content), std::string::npos) << title;
      EXPECT_LE(said[answers++].size(), m.content.size() + strlen("<think>\n\n</think>\n\n"));
    }
    EXPECT_EQ(answers, said.size());
  }
}

INSTANTIATE_TEST_SUITE_P(All, EachTemplate, ::testing::Range<size_t>(0, 23), [](const auto& row) {
  std::string name = string_of(fixture().at("templates").at(row.param), "name");
  std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
  return fmt::format("{}_{}", name, row.param);
});

TEST(ChatTemplates, AllAreTested) {
  std::vector<std::string> names;
  for (const Json& row : fixture().at("templates")) names.push_back(string_of(row, "name"));
  EXPECT_EQ(names.size(), 23u);
  for (const std::string& name : chat_template_names())
    EXPECT_NE(std::ranges::find(names, name), names.end()) << name;
}

TEST(ChatTemplates, SystemMessageOfTheLastQuestion) {
  const Conversation c = {
      {"system", "S"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}, {"assistant", "d"}};
  EXPECT_EQ(text_of(render_chat(find_chat_template("mistral-v3"), c, {"<s>", "</s>"}, false)),
            "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST] d</s>");
}

TEST(ChatTemplates, RefusalsSayWhichMessage) {
  struct Case {
    const char* name;
    Conversation conversation;
    std::string eos;
    const char* message;
  };
  const Case cases[] = {
      {"chatml", {}, "E", "no messages"},
      {"chatml", {{"user", "a"}, {"tool", "b"}}, "E", "message 2 has the role 'tool'"},
      {"gemma", {{"system", "a"}, {"user", "b"}}, "E", "'gemma' knows no system message"},
      {"llama2", {{"system", "a"}}, "E", "expects a message of the user"},
      {"llama2",
       {{"user", "a"}, {"user", "b"}},
       "E",
       "message 2 is of the user where the chat template 'llama2' expects the assistant"},
      {"gemma3", {{"system", "a"}, {"assistant", "b"}}, "E", "message 2 is of the assistant"},
      {"zephyr", {{"user", "a"}}, "", "'zephyr' closes turns with the end token"}};
  for (const Case& c : cases) {
    const std::string error = error_of<UsageError>([&] {
      render_chat(find_chat_template(c.name), c.conversation, {"B", c.eos}, true);
    });
    EXPECT_NE(error.find(c.message), std::string::npos) << c.message << ": " << error;
  }
  const std::string unknown = error_of<UsageError>([] { find_chat_template("chat"); });
  EXPECT_NE(unknown.find("'chat' is not known; these are: chatml, "), std::string::npos) << unknown;
}

// Text of the user that looks like a place to fill is text.
TEST(ChatTemplates, TokensMayLookLikePlaces) {
  EXPECT_EQ(text_of(render_chat(find_chat_template("mistral"), {{"user", "{eos}"}},
                                {"{bos}", "{eos}"}, true)),
            "{bos}[INST] {eos} [/INST]");
}

// ---- model folders

std::string chatml_text() { return string_of(fixture().at("templates").at(0), "jinja"); }

TEST(FolderTemplates, OfEachFile) {
  const TemporaryFolder dir;
  const Json other = string_of(fixture().at("templates").at(5), "jinja");  // llama2
  write_file(dir / "tokenizer_config.json", Json{{"chat_template", other}}.dump());
  EXPECT_EQ(load_chat_template(dir / ".").name, "llama2");
  const Json named = {{{"name", "tool_use"}, {"template", "{{ tools }}"}},
                      {{"name", "default"}, {"template", other}}};
  write_file(dir / "tokenizer_config.json", Json{{"chat_template", named}}.dump());
  EXPECT_EQ(load_chat_template(dir / ".").name, "llama2");
  write_file(dir / "chat_template.json", Json{{"chat_template", chatml_text()}}.dump());
  EXPECT_EQ(load_chat_template(dir / ".").name, "chatml");
  write_file(dir / "chat_template.jinja", other.get<std::string>());
  EXPECT_EQ(load_chat_template(dir / ".").name, "llama2");
}

TEST(FolderTemplates, RefusalsNameTheOption) {
  const std::string chatml = chatml_text();
  struct Case {
    const char *file, *message;
    std::string content;
  };
  const Case cases[] = {
      {"other.json", "the model has no chat template", "{}"},
      {"tokenizer_config.json", "the model has no chat template", "{}"},
      {"tokenizer_config.json", "the model has no chat template", "{\"chat_template\": null}"},
      {"tokenizer_config.json", "none of the chat templates is the default one, they are: rag;",
       "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"\"}]}"},
      {"chat_template.jinja", "is none of those known", ""},
      {"chat_template.jinja", "is none of those known", "{{ 'unclosed"},
      {"chat_template.jinja", "is none of those known", "{# unclosed"},
      {"chat_template.jinja", "is none of those known", "<|im_start|> <|im_end|> [INST]"},
      {"chat_template.jinja", "is none of those known", "{{ '<think>' }}" + chatml},
      {"chat_template.jinja", "is none of those known",
       "{% set system_message = 'Always here.' %}" + chatml}};
  for (const Case& c : cases) {
    const TemporaryFolder dir;
    write_file(dir / c.file, c.content);
    const std::string error = error_of<UsageError>([&] { load_chat_template(dir / "."); });
    EXPECT_NE(error.find(c.message), std::string::npos) << c.message << ": " << error;
    EXPECT_NE(error.find("--chat-template NAME: chatml, "), std::string::npos) << error;
  }
  const TemporaryFolder dir;
  write_file(dir / "tokenizer_config.json", "{\"chat_template\": 7}");
  EXPECT_THROW(load_chat_template(dir / "."), FileError);
}

// ---- tokens

// Bytes, pairs of "\n" and of a new line with what follows it, and the marks of turns.
const Tokenizer& tokenizer() {
  static const auto t = [] {
    BpeTrainer trainer({.vocabulary_size = 300, .special_tokens = {"</s>", "<|im_end|>", "<s>"}});
    for (int i = 0; i < 9; ++i) trainer.add("\n\n\n\n\n\n\n\n");
    return parse_tokenizer_json(json_text(trainer.train()), "chat");
  }();
  return *t;
}

std::string text_by(const ChatEncoding& e, ChatAuthor author) {
  std::vector<int64_t> ids;
  for (size_t i = 0; i < e.ids.size(); ++i) {
    if (e.authors[i] == author) ids.push_back(e.ids[i]);
  }
  return tokenizer().decode(ids, false);
}

TEST(ChatTokens, AreOfWhoWroteThem) {
  struct Case {
    const char *name, *question, *answer, *learned, *end;
    size_t ends;  // tokens of the end of turn
  };
  const Case cases[] = {
      {"chatml", "a", "b", "b", "<|im_end|>", 1},
      {"chatml", "\u00e4 \U0001f44d", "\u00fc \U0001f44d!", "\u00fc \U0001f44d!", "<|im_end|>", 1},
      {"mistral-v1", "a", "b", " b", "</s>", 1},
      {"gemma", "a", "b", "b", "<end_of_turn>", strlen("<end_of_turn>")},
      {"chatml", "a", "\n\n\nb", "\n\n\nb", "<|im_end|>", 1}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const ChatTemplate& t = find_chat_template(c.name);
    const ChatTokens tokens = {"<s>", "</s>"};
    const Conversation asked = {{"user", c.question}};
    Conversation both = asked;
    both.push_back({"assistant", c.answer});
    const auto pieces = render_chat(t, both, tokens, false);
    const ChatEncoding e = encode_chat(pieces, tokenizer());
    EXPECT_EQ(tokenizer().decode(e.ids, false), text_of(pieces));
    EXPECT_EQ(text_by(e, ChatAuthor::assistant), c.learned);
    EXPECT_EQ(text_by(e, ChatAuthor::end_of_turn), c.end);
    EXPECT_EQ(std::ranges::count(e.authors, ChatAuthor::end_of_turn),
              static_cast<std::ptrdiff_t>(c.ends));
    EXPECT_EQ(std::accumulate(e.bytes.begin(), e.bytes.end(), int64_t{0}),
              static_cast<int64_t>(strlen(c.learned)));
    // Ahead of the answer stands what generation begins with.
    const ChatEncoding start = encode_chat(render_chat(t, asked, tokens, true), tokenizer());
    ASSERT_LT(start.ids.size(), e.ids.size());
    EXPECT_TRUE(std::equal(start.ids.begin(), start.ids.end(), e.ids.begin()));
    EXPECT_EQ(e.authors[start.ids.size()], ChatAuthor::assistant);
    EXPECT_EQ(std::ranges::count(e.ids, tokenizer().id_of("<s>")), t.opening.empty() ? 0 : 1);
  }
}

}  // namespace
}  // namespace graft::testing
