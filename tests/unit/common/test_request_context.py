import pytest

from services.common.request_context import PRIORITY, adopt_request_id, priority_of


class Context:
    def __init__(self, *metadata):
        self._metadata = metadata

    def invocation_metadata(self):
        return self._metadata


@pytest.mark.parametrize(
    ("value", "priority"), [("3", 3), ("-2", -2), ("--5", 0), ("x", 0), ("", 0), ("9" * 40, 0), ("\u00b2", 0), ("-", 0)]
)
def test_priority(value, priority):
    assert priority_of(Context(("other", "1"), (PRIORITY, value))) == priority


def test_no_metadata_no_priority():
    assert priority_of(Context()) == 0


def test_a_well_formed_request_id_is_kept():
    assert adopt_request_id("abc-1") == "abc-1"


@pytest.mark.parametrize("offered", [None, "", "a b", "x" * 129, "line\n", "ü"])
def test_any_other_is_replaced(offered):
    assert adopt_request_id(offered) != offered
