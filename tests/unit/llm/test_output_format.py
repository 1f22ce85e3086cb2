import json

import pytest
from flotilla.llm.v1 import llm_pb2 as pb

from services.llm.output_format import OverrunError, read_format
from tests.unit.llm.grammar_sampler import Sampler
from tests.unit.llm.schemas import SUPPORTED


@pytest.mark.parametrize("schema", SUPPORTED, ids=lambda schema: json.dumps(schema)[:60])
def test_the_check_takes_what_the_grammar_makes(schema):
    constraint = read_format(pb.OutputFormat(json_schema=json.dumps(schema)))
    sampler = Sampler(constraint.grammar, seed=2)
    for _ in range(10):
        try:
            constraint.check(sampler.text())
        except OverrunError:
            assert "5000" in json.dumps(schema) or "500" in json.dumps(schema)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": "x"}', '{"a": 1, "b": 2}'])
def test_the_check_refuses_what_breaks_the_schema(text):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    with pytest.raises(ValueError):
        read_format(pb.OutputFormat(json_schema=json.dumps(schema))).check(text)


def test_too_long_is_told_from_wrong():
    schema = {"type": "array", "items": {"type": "string", "maxLength": 60}}
    check = read_format(pb.OutputFormat(json_schema=json.dumps(schema))).check
    check(json.dumps(["x" * 60]))
    with pytest.raises(OverrunError):
        check(json.dumps(["x" * 61]))
    with pytest.raises(ValueError, match="type") as caught:
        check(json.dumps(["x" * 61, 1]))
    assert not isinstance(caught.value, OverrunError)


@pytest.mark.parametrize(
    ("made", "good", "bad"),
    [
        (pb.OutputFormat(choice=pb.Choice(options=["a", 'b "c"'])), 'b "c"', "b"),
        (pb.OutputFormat(json_object=True), '{"a": [1]}', "[]"),
    ],
)
def test_other_formats_are_checked_too(made, good, bad):
    constraint = read_format(made)
    constraint.check(good)
    with pytest.raises(ValueError, match=r"among|type"):
        constraint.check(bad)


def test_unset_is_free_text():
    assert read_format(pb.OutputFormat()) is None
    assert read_format(pb.OutputFormat(json_object=False)) is None
