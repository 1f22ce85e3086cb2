import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Kind, ServiceError
from services.common.server import StartupError
from services.llm.chat_template import ChatTemplate
from services.llm.conversation import Call, Message
from services.llm.tools import Tool
from tests.unit.llm.fakes import SPECIALS, TEMPLATE

WITH_TOOLS = "{% if tools %}{{ tools | tojson }}<|end|>{% endif %}" + TEMPLATE
nasty = st.text() | st.lists(st.sampled_from([*SPECIALS, "<|", "|>", "im_end", " ", "\n", "a"])).map("".join)


def template(tokenizer, source=TEMPLATE):
    return ChatTemplate(source, tokenizer, "", "<|im_end|>")


@given(nasty, nasty)
def test_callers_cannot_write_special_tokens(tokenizer, one, other):
    ids = template(tokenizer).encode([Message("system", one), Message("user", other)], ())
    special = [number for number in ids if number in tokenizer.special_ids.values()]
    start, end = tokenizer.special_ids["<|im_start|>"], tokenizer.special_ids["<|im_end|>"]
    assert special == [start, end, start, end, start]
    text = b"".join(map(tokenizer.token_bytes, ids)).decode()
    assert text == (
        f"<|im_start|>system\n{one}<|im_end|>\n<|im_start|>user\n{other}<|im_end|>\n<|im_start|>assistant\n"
    )


@given(st.text(st.characters(codec="utf-8", exclude_characters="<|>")))
def test_tokens_are_those_of_the_original(tokenizer, original, content):
    text = f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    ids = template(tokenizer).encode([Message("user", content)], ())
    assert ids == original.encode(text, add_special_tokens=False).ids


@given(nasty)
def test_a_template_that_changes_the_content_sees_it_as_it_is(tokenizer, content):
    made = template(tokenizer, "{{ messages[0].content | trim }}<|end|>")
    assert made.encode([Message("user", content)], ()) == [*tokenizer.encode(content.strip()), 0]


@given(nasty)
def test_tools_cannot_write_special_tokens_either(tokenizer, text):
    tool = Tool("tools[0]", "f", text, {"type": "object", "properties": {text: {"const": text}}})
    ids = template(tokenizer, WITH_TOOLS).encode([Message("user", "a")], [tool])
    assert [number for number in ids if number in tokenizer.special_ids.values()].count(0) == 1


def test_tools_a_template_does_not_know_are_described(tokenizer):
    tool = Tool("tools[0]", "weather", "Tells it", {"type": "object"})
    calls = (Call("c1", "weather", {"city": "Rome"}),)
    messages = [Message("system", "Be kind."), Message("user", "?"), Message("assistant", "", calls=calls)]
    messages.append(Message("tool", "sunny", "weather", call_id="c1"))
    text = tokenizer.decode(template(tokenizer).encode(messages, [tool]))
    assert "Be kind.\n\nYou can call functions." in text
    assert '"name": "weather", "description": "Tells it"' in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>' in text
    assert "user\n<tool_response>\nsunny\n</tool_response>" in text


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ undefined.attribute }}",
        "{{ messages.append(1) }}",
        "{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_a_template_refuses_or_must_not_do_is_an_invalid_argument(tokenizer, source):
    with pytest.raises(ServiceError) as caught:
        template(tokenizer, source).encode([Message("user", "a")], ())
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, "messages")


def test_a_broken_template_stops_the_start(tokenizer):
    with pytest.raises(StartupError, match="line 1"):
        template(tokenizer, "{% for %}")
