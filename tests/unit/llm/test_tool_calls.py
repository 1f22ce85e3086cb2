import json
from itertools import pairwise

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.tool_calls import CallReader, constraint
from services.llm.tool_text import CALL_BEGIN
from services.llm.tools import Tool, ToolUse
from tests.unit.llm.grammar_sampler import Sampler

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "additionalProperties": False}
TOOLS = (Tool("tools[0]", "weather", "", CITY), Tool("tools[1]", "count", "", NUMBER))
SCHEMAS = {tool.name: tool.parameters for tool in TOOLS}


def read(text, cuts=()):
    reader, plain, calls = CallReader(), "", {}
    edges = [0, *sorted(cuts), len(text)]
    for start, end in pairwise(edges):
        new, pieces = reader.feed(text[start:end])
        plain += new
        for piece in pieces:
            call = calls.setdefault(piece.index, [piece.id, piece.name, ""])
            assert call[0] == piece.id or not piece.id
            call[2] += piece.arguments
    return plain + reader.end(), list(calls.values())


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_every_text_of_the_grammar_is_read_as_valid_calls(forced, parallel):
    made = constraint(ToolUse(TOOLS, TOOLS, forced, parallel))
    sampler = Sampler(made.grammar, seed=5)
    counts = set()
    for _ in range(200):
        text = sampler.text(400)
        made.check(text)
        plain, calls = read(text)
        counts.add(len(calls))
        assert plain == text.split("<tool_call>")[0]
        for identifier, name, arguments in calls:
            assert len(identifier) == len("call_") + 24
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    assert (0 in counts) is not forced
    assert not forced or (max(counts) > 1) is parallel


@given(st.data())
def test_pieces_do_not_depend_on_where_the_text_is_cut(data):
    text = (
        'Let me <see>.<tool_call>\n{"name": "weather", "arguments": {"city": "a}b</tool_call>"}}\n</tool_call>'
        '\n<tool_call>\n{"name": "count", "arguments": {"n": 5}}\n</tool_call>'
    )
    cuts = data.draw(st.lists(st.integers(0, len(text))))
    plain, calls = read(text, cuts)
    assert plain == "Let me <see>."
    assert [call[1:] for call in calls] == [
        ["weather", '{"city": "a}b</tool_call>"}'],
        ["count", '{"n": 5}'],
    ]


@given(st.text("<tol_cal>x", max_size=40).filter(lambda text: CALL_BEGIN not in text), st.data())
def test_text_without_calls_stays_text(text, data):
    cuts = data.draw(st.lists(st.integers(0, len(text))))
    assert read(text, cuts) == (text, [])
