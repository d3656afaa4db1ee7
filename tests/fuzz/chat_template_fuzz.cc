// Any text as a model folder's chat template; what is recognized renders a conversation.
#include <algorithm>
#include <string>

#include "models/chat/chat_template.h"
#include "tests/fuzz/fuzz.h"

using namespace graft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fuzz::read_or_refuse([&] {
    const std::string text(fuzz::text_of(data, size));
    const ChatTemplate t = recognize_chat_template(text, "template");
    const Conversation c = {{"user", text}, {"assistant", text}};
    const auto pieces = render_chat(t, c, {"<s>", "</s>"}, false);
    fuzz::expect(std::ranges::count(pieces, ChatAuthor::end_of_turn, &ChatPiece::author) == 1,
                 "one turn of the assistant's ends");
    fuzz::expect(text_of(pieces).find(end_of_turn(t, {"<s>", "</s>"})) != std::string::npos,
                 "its end is part of the text");
  });
}
