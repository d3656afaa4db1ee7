#!/usr/bin/env python3
"""Writes renderings.json: what transformers makes of conversations with published chat templates.

    pip install transformers jinja2 && tests/models/chat/generate.py

The templates are those of the models named beside them, without what they say about tools.
"""
import json
import pathlib

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, __version__

ALTERNATE = "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"

# Qwen/Qwen1.5-7B-Chat without its default, HuggingFaceH4's and the tokenizers' documentation
CHATML = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# 01-ai/Yi, internlm/internlm2-chat-7b: with a begin token
CHATML_BOS = "{{ bos_token }}" + CHATML


def chatml_with_default(system):  # Qwen/Qwen2-7B-Instruct, HuggingFaceTB/SmolLM2-1.7B-Instruct
    return (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" + system +
        "<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


# Qwen/Qwen2.5-7B-Instruct
QWEN25 = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Qwen/Qwen3-0.6B
QWEN3 = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# meta-llama/Llama-2-7b-chat-hf
LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

# meta-llama/Meta-Llama-3-8B-Instruct
LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

# meta-llama/Llama-3.1-8B-Instruct
LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message + builtin tools #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# mistralai/Mistral-7B-Instruct-v0.2, as first published
MISTRAL = "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}" + ALTERNATE + """{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""


def mistral(user, answer):  # the later ones, of v0.2, v0.3 and Nemo
    return """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if """ + user + """
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- """ + answer + """}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""


MISTRAL_V1 = mistral(
    """loop.first and system_message is defined %}
            {{- " [INST] " + system_message + "\\n\\n" + message["content"] + " [/INST]" }}
        {%- else %}
            {{- " [INST] " + message["content"] + " [/INST]" }}""", """" " + message["content"] + eos_token""")
MISTRAL_V3 = mistral(
    """loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}""", """" " + message["content"]|trim + eos_token""")
MISTRAL_NEMO = mistral(
    """loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]" + message["content"] + "[/INST]" }}""", """message["content"] + eos_token""")

# google/gemma-2b-it, google/gemma-2-9b-it
GEMMA = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}" + ALTERNATE + """{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

# google/gemma-3-1b-it
GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

# HuggingFaceH4/zephyr-7b-beta, TinyLlama/TinyLlama-1.1B-Chat-v1.0
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""


def phi3(has_system):  # microsoft/Phi-3-mini-4k-instruct, microsoft/Phi-3.5-mini-instruct
    return "{% for message in messages %}{% if " + has_system + """ %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}"""


# microsoft/phi-4
PHI4 = """{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"""

# deepseek-ai/deepseek-llm-7b-chat
DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""


# The models came without a Jinja template: these spell out FastChat's conversation vicuna_v1.1, and Stanford Alpaca's prompt
# with further turns behind it.
def spelled_out(default, after_system, user, prompt, space, tail):
    return ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{{ messages[0]['content'] + '" +
            after_system + "' }}{% else %}{% set loop_messages = messages %}{{ \"" + default + "\" + '" + after_system +
            "' }}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}" + ALTERNATE +
            "{% endif %}{% if message['role'] == 'user' %}{{ '" + user[0] + "' + message['content'] + '" + user[1] + "' }}{% else %}{{ '" +
            prompt + space + "' + message['content'] + eos_token + '" + tail + "' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '" +
            prompt + "' }}{% endif %}")


VICUNA = spelled_out("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
                     "detailed, and polite answers to the user's questions.", " ", ("USER: ", " "), "ASSISTANT:", " ", "")
ALPACA = spelled_out("Below is an instruction that describes a task. Write a response that appropriately completes the request.", "\\n\\n",
                     ("### Instruction:\\n", "\\n\\n"), "### Response:\\n", "", "\\n\\n")

# name here, template, bos, eos, whether a folder's template of this text is recognized
TEMPLATES = [
    ("chatml", CHATML, "", "<|im_end|>", True),
    ("qwen2", chatml_with_default("You are a helpful assistant."), "", "<|im_end|>", True),
    ("qwen2.5", QWEN25, "", "<|im_end|>", True),
    ("smollm2", chatml_with_default("You are a helpful AI assistant named SmolLM, trained by Hugging Face"), "<|im_start|>", "<|im_end|>", True),
    ("qwen3", QWEN3, "", "<|im_end|>", True),
    ("llama2", LLAMA2, "<s>", "</s>", True),
    ("llama3", LLAMA3, "<|begin_of_text|>", "<|eot_id|>", True),
    ("llama3.1", LLAMA31, "<|begin_of_text|>", "<|eot_id|>", True),
    ("mistral", MISTRAL, "<s>", "</s>", True),
    ("mistral-v1", MISTRAL_V1, "<s>", "</s>", True),
    ("mistral-v3", MISTRAL_V3, "<s>", "</s>", True),
    ("mistral-nemo", MISTRAL_NEMO, "<s>", "</s>", True),
    ("gemma", GEMMA, "<bos>", "<eos>", True),
    ("gemma3", GEMMA3, "<bos>", "<eos>", True),
    ("zephyr", ZEPHYR, "<s>", "</s>", True),
    ("phi3", phi3("message['role'] == 'system'"), "<s>", "<|endoftext|>", True),
    ("phi3.5", phi3("message['role'] == 'system' and message['content']"), "<s>", "<|endoftext|>", True),
    ("phi4", PHI4, "<|endoftext|>", "<|im_end|>", True),
    ("deepseek", DEEPSEEK, "<|begin|>", "<|end|>", True),
    ("vicuna", VICUNA, "<s>", "</s>", False),
    ("alpaca", ALPACA, "<s>", "</s>", False),
]
# Recognized with what the name alone does not say.
VARIANTS = [("chatml", CHATML_BOS, "<s>", "</s>"), ("chatml", chatml_with_default("Be terse.\\nBe kind."), "", "<|im_end|>")]

U, A, S = "user", "assistant", "system"
CONVERSATIONS = {
    "question": [(U, "What is 2+3?")],
    "answered": [(U, "What is 2+3?"), (A, "5")],
    "turns": [(U, "Hi"), (A, "Hello!"), (U, "And again"), (A, "Hello again."), (U, "Bye")],
    "turns answered": [(U, "Hi"), (A, "Hello!"), (U, "And again"), (A, "Hello again.")],
    "system": [(S, "Be terse."), (U, "What is 2+3?")],
    "system answered": [(S, "Be terse."), (U, "Hi"), (A, "Hello!"), (U, "And again"), (A, "Hello again.")],
    "empty system": [(S, ""), (U, "Hi"), (A, "Hello!")],
    "white space": [(S, "  Be terse.\n"), (U, " \n two lines\nand a tail \t\n"), (A, "\n yes, \n"), (U, "\u00a0\u3000thin\u2009"), (A, "  no  ")],
    "only white space": [(U, " \n"), (A, "")],
    "only white space with system": [(S, " "), (U, " \n"), (A, "")],
    "unicode": [(U, "Wie geht's, Jürgen? \U0001f44d\u200d"), (A, "好的，谢谢 — \u202babc")],
    "braces and marks": [(U, "{{ bos_token }} {bos} {eos} <|im_end|> </s> 'x' \"y\" \\n"), (A, "{% raw %}<think>")],
    "system later": [(U, "Hi"), (S, "Be terse."), (A, "Hello!")],
    "two systems": [(S, "Be terse."), (S, "Be kind."), (U, "Hi"), (A, "Hello!")],
    "assistant first": [(A, "Hello!"), (U, "Hi")],
    "two questions": [(U, "Hi"), (U, "there"), (A, "Hello!")],
    "two answers": [(U, "Hi"), (A, "Hello"), (A, "there")],
    "thoughts": [(U, "2+3?"), (A, "<think>\nadd\n</think>\n\n5"), (U, "3+4?"), (A, "<think>\n\nadd them\n\n</think>\n\n\n7")],
    "thoughts without an end": [(U, "2+3?"), (A, "<think>\nadd")],
}


def rendered(template, bos, eos, conversation, generation_prompt):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos or None, eos_token=eos)
    messages = [{"role": role, "content": content} for role, content in conversation]
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=generation_prompt)
    except Exception as error:
        # raise_exception of the template
        return {"error": str(error)}


def row(name, template, bos, eos, recognized):
    texts = {
        title: [rendered(template, bos, eos, conversation, prompt) for prompt in (False, True)]
        for title, conversation in CONVERSATIONS.items()
    }
    return {"name": name, "jinja": template, "bos": bos, "eos": eos, "recognized": recognized, "texts": texts}


def main():
    rows = [row(*t) for t in TEMPLATES] + [row(*t, True) for t in VARIANTS]
    conversations = {t: [{"role": r, "content": c} for r, c in conversation] for t, conversation in CONVERSATIONS.items()}
    out = pathlib.Path(__file__).with_name("renderings.json")
    out.write_text(json.dumps({"transformers": __version__, "conversations": conversations, "templates": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
