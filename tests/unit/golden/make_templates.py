#!/usr/bin/env python3
"""Chat templates, conversations, and what transformers makes of them: writes templates.json.

Needs transformers and jinja2.  The templates are written for this test, in the forms that families of models use.
"""
import datetime
import json
import os

from transformers.utils.chat_template_utils import _compile_jinja_template

NOW = datetime.datetime(2024, 7, 26, 15, 4, 5)

CHATML = """\
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

TOOLS = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] + '\\n\\n' }}
    {%- endif %}
    {{- "Functions that may be called:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and not(message.content.startswith('<answer>') and message.content.endswith('</answer>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "system" and not tools) %}
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if message.thought is defined and message.thought is not none %}
            {%- set thought = message.thought %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set thought = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and thought %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{%- endif %}
                {%- if call.function %}{%- set call = call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- call.name }}
                {{- '", "arguments": ' }}
                {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<answer>\\n' + message.content + '\\n</answer>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('User and assistant must take turns.') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The first message may be the system's. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today is " + date_string + "\\n\\n" }}
{%- if tools is not none and tools is defined %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- set user_messages = rest | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in rest %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and tools and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
"""

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)

# What a system says stands before the first turn; turns are texts or lists of parts, and take turns.
GEMMA3 = """\
{{ bos_token }}
{%- set turns = messages[1:] if messages[0]['role'] == 'system' else messages -%}
{%- if messages[0]['role'] != 'system' -%}
    {%- set before = "" -%}
{%- elif messages[0]['content'] is string -%}
    {%- set before = messages[0]['content'] + '\\n\\n' -%}
{%- else -%}
    {%- set before = messages[0]['content'][0]['text'] + '\\n\\n' -%}
{%- endif -%}
{%- for turn in turns -%}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("One speaks after the other") }}
    {%- endif -%}
    {%- set speaker = "model" if turn['role'] == 'assistant' else turn['role'] -%}
    {{ '<start_of_turn>' + speaker + '\\n' + (before if loop.first else "") }}
    {%- if turn['content'] is string -%}
        {{ turn['content'] | trim }}
    {%- elif turn['content'] is iterable -%}
        {%- for part in turn['content'] -%}
            {{ '<start_of_image>' if part['type'] == 'image' else part['text'] | trim }}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("No text") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""

PHI = (
    "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

MACROS = """\
{%- macro describe(name, spec, depth=0) -%}
    {{- '  ' * depth }}{{ name }}: {{ spec.type | default('any', true) | upper }}
    {%- if spec.properties is defined %}
        {%- for key, value in spec.properties | items %}
{{ describe(key, value, depth=depth + 1) }}
        {%- endfor %}
    {%- endif %}
{%- endmacro -%}
{%- for tool in tools or [] -%}
{{ describe(tool.function.name, tool.function.parameters) }}
{% endfor -%}
{%- for m in messages -%}
    {%- if m.content is string -%}
        {{ m.role | capitalize }}: {{ m.content }}
    {%- else -%}
        {%- for part in m.content -%}
            {%- if part['type'] == 'text' -%}{{ m.role }}: {{ part.text }}{%- elif part.type == 'image' -%}<image>{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '\\n' if not loop.last else '' }}
{%- endfor -%}
"""

SNIPPETS = [
    "{% set x = [1, 2.5, 'a', true, none] %}{{ x | tojson }} {{ x[1:3] | length }} {{ x[-1] is none }} {{ x[9] is defined }}",
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 1 / 4 }} {{ 2 ** 10 }} {{ 2 * 'ab' if false else 'ab' * 2 }} {{ 1.0 }} {{ 1e20 }} {{ 0.1 + 0.2 }}",
    "{{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 'b' in 'abc' }} {{ 'x' not in ['x', 'y'] }} {{ not true or true }}",
    "{% for i in range(5) if i is odd %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for i in [] %}a{% else %}none{% endfor %}|{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% set n = 5 %}{% for i in range(3) %}{% set n = i %}{% set ns.n = ns.n + i %}{% endfor %}{{ n }} {{ ns.n }}",
    "{% set t %}\n  block {{ 1 + 1 }}\n{% endset %}[{{ t }}] [{{ t | trim }}]",
    "  {% if true %}  \n  x\n  {% endif %}  \ny\n  {{ 1 }}  \n  {#- c -#}  \n z {%+ if true %} w {% endif +%}\nv\n\n",
    "{{ ' aXb '.strip().upper() }}|{{ 'a,b,,c'.split(',') | join('-') }}|{{ ' a  b '.split() | tojson }}|{{ 'a-b-c'.split('-', 1) | tojson }}|{{ 'xxabxx'.strip('x') }}|{{ 'hello world'.title() }}",
    "{{ 'banana'.replace('an', '<>') }} {{ 'banana'.replace('a', 'o', 2) }} {{ 'abc' | replace('', '.') }} {{ 'abc'.find('c') }} {{ 'abc'.startswith(('x', 'ab')) }} {{ 'abc'.endswith('bc') }}",
    "{{ undefined_thing }}|{{ undefined_thing is defined }}|{{ undefined_thing | default('d') }}|{{ '' | default('e', true) }}|{{ none | default('f') }}|{{ undefined_thing | length }}",
    "{% set d = {'b': 1, 'a': {'c': [1, {}], 'e': []}} %}{{ d | tojson }}\n{{ d | tojson(indent=2) }} {{ d.get('z', 3) }} {{ d.keys() | list | join }} {{ d.items() | list | length }} {{ 'b' in d }} {% for k, v in d.items() %}{{ k }}{% endfor %}",
    "{{ ['b', 'a'] | first }}{{ 'xyz' | last }}{{ 'xyz' | reverse }}{{ [1, 2] | reverse | list | tojson }}{{ 'héllo'[1] }}{{ 'héllo'[::-1] }}{{ 'héllo'[1:3] }}{{ 'héllo' | length }}{{ 'abc'[-2:] }}",
    "{{ [{'r': 'u', 'n': 1}, {'r': 'a', 'n': 2}] | selectattr('r', 'equalto', 'a') | map(attribute='n') | list | tojson }} {{ [1, 2, 3] | select('odd') | list | tojson }} {{ [1, 2] | map('string') | join('+') }} {{ [{'x': 1}, {}] | rejectattr('x', 'defined') | list | length }}",
    "{{ 'tab\\tquote\\'\\\"\\u00e9\\x41\\\\' }} {{ \"a\" 'b' }} {{ 'é\\n\"' | tojson }} {{ [1,2][0] ~ none ~ true ~ 1.5 }}",
    "{{ (1, 2) | tojson }}{{ (1) }}{{ () | length }}{% set a, b = 1, 2 %}{{ a + b }}{{ -a }}{{ - 3 | abs }}{{ 'x' if a > b else 'y' if a < b else 'z' }}",
    "{% macro m(x, y='d') %}<{{ x }}{{ y }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(y=3, x=4) }}",
    "{% generation %}inside{% endgeneration %} {{ strftime_now('%Y-%m-%d %H:%M') }} {{ dict(a=1, b='x') | tojson }} {{ '5' | int + 1 }} {{ 'q' | int(7) }} {{ 3.9 | int }}",
    "{{ true is boolean }}{{ 1 is number }}{{ 1 is integer }}{{ 1.5 is float }}{{ 'a' is iterable }}{{ {} is mapping }}{{ [] is sequence }}{{ 4 is divisibleby 2 }}{{ 1 is eq 1 }}{{ false is false }}{{ 1 is in [1] }}",
    "{{ messages | length }} {{ messages[0].content | upper | lower }} {{ messages[-1]['role'] }} {{ (messages | last).role }}",
]

ERRORS = [
    "{{ nothing.at_all }}", "{{ 1 + 'a' }}", "{{ raise_exception('no') }}", "{% if x %}", "{% unknown %}", "{{ 'a' | nofilter }}",
    "{{ 1 is notest }}", "{{ 1 }", "{% for x in 5 %}{% endfor %}", "{{ nofunction() }}", "{{ 'open }}", "{% endif %}", "{{ [].append(1) }}",
    "{{ 1 // 0 }}", "{% set a.b = 1 %}",
]

TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather at a place", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "enum": [1, 2]},
                                     "where": {"properties": {"lat": {"type": "number"}}}}, "required": ["city"]}}}


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = [
    {"messages": [turn("user", "Hello")]},
    {"messages": [turn("system", "You are kind. "), turn("user", " Grüße, 世界 🦊 "), turn("assistant", "Hi!\n"), turn("user", "And <|im_end|> </s> now?")]},
    {"messages": [turn("user", "a"), turn("assistant", "<think>\nhm\n</think>\n\nb"), turn("user", "c"), turn("assistant", "<think>\nso\n</think>\nd")]},
    {"messages": [turn("system", "S"), turn("user", "Weather?"),
                  turn("assistant", "", tool_calls=[{"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}]),
                  turn("tool", "{\"t\": 21.5}"), turn("tool", "sunny"), turn("assistant", "21.5 degrees")], "tools": [TOOL]},
    {"messages": [turn("user", "first"), turn("user", "second")]},
]
PARTS = {"messages": [turn("user", [{"type": "image"}, {"type": "text", "text": "What is it?"}])], "tools": [TOOL]}
FAMILIES = {"chatml": CHATML, "tools": TOOLS, "llama2": LLAMA2, "llama3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA, "gemma3": GEMMA3, "phi": PHI, "zephyr": ZEPHYR,
            "macros": MACROS}


def render(template, given, generate):
    own = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": generate}
    case = {"given": {"tools": None, **given}, "own": own}
    try:
        case["text"] = _compile_jinja_template(template).render(strftime_now=NOW.strftime, **case["given"], **own)
    except Exception as error:
        case["error"] = type(error).__name__
    return case


def main():
    tests = []
    for name, template in FAMILIES.items():
        conversations = CONVERSATIONS + ([PARTS] if name in ("macros", "gemma3") else [])
        tests.append({"name": name, "template": template,
                      "cases": [render(template, c, generate) for c in conversations for generate in (False, True)]})
    for i, template in enumerate(SNIPPETS):
        tests.append({"name": f"snippet {i}", "template": template, "cases": [render(template, CONVERSATIONS[1], True)]})
        assert "text" in tests[-1]["cases"][0], (template, tests[-1]["cases"][0])
    for i, template in enumerate(ERRORS):
        tests.append({"name": f"error {i}", "template": template, "cases": [render(template, CONVERSATIONS[0], True)]})
        assert "error" in tests[-1]["cases"][0], template
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(tests, file, ensure_ascii=False, indent=1)
        file.write("\n")


main()
