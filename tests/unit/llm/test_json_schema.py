import json

import jsonschema
import pytest

from services.llm.ebnf import Grammar
from services.llm.json_schema import UnsupportedSchemaError, compile_schema, parse
from tests.unit.llm.grammar_sampler import Sampler
from tests.unit.llm.schemas import REFUSED, SUPPORTED

FORMATS = jsonschema.FormatChecker(formats=["date", "email", "ipv4", "uuid"])


def grammar_of(schema):
    grammar = Grammar()
    return grammar.text(compile_schema(parse(json.dumps(schema)), grammar))


def test_there_are_many():
    assert len(SUPPORTED) >= 150


@pytest.mark.parametrize("schema", SUPPORTED, ids=lambda schema: json.dumps(schema)[:60])
def test_every_text_of_the_grammar_validates(schema):
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    sampler = Sampler(grammar_of(schema), seed=1)
    for _ in range(40):
        value = json.loads(sampler.text())
        faults = [error for error in validator.iter_errors(value) if error.validator not in ("maxLength", "maxItems")]
        assert not faults


@pytest.mark.parametrize(("schema", "why"), REFUSED, ids=lambda value: json.dumps(value)[:60])
def test_what_cannot_be_enforced_is_refused_by_name(schema, why):
    try:
        message = "no value" if grammar_of(schema) is None else "it was taken"
    except UnsupportedSchemaError as fault:
        message = str(fault)
    assert why in message


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "not a JSON document"),
        ("[1]", "a schema is an object"),
        ('{"const": NaN}', "NaN is not JSON"),
        ("[" * 5000, "nested deeper"),
        ('{"not": ' * 80 + "{}" + "}" * 80, "nested deeper"),
        (json.dumps({"enum": list(range(5000))}), "more than 4000 parts"),
        (json.dumps({"title": "x" * 70_000}), "the limit is 65536"),
    ],
)
def test_documents_out_of_bounds_are_refused(document, why):
    with pytest.raises(UnsupportedSchemaError, match=why):
        parse(document)


def test_bounds_are_exact():
    for low in (-13, -1, 0, 1, 7, 98):
        for high in (low, low + 1, low + 14, low + 905):
            sampler = Sampler(grammar_of({"type": "integer", "minimum": low, "maximum": high}), seed=low)
            found = {int(sampler.text()) for _ in range(600)}
            assert min(found) >= low
            assert max(found) <= high
            if high - low < 15:
                assert found == set(range(low, high + 1))
