import re

import pytest

from services.llm.ebnf import Grammar
from services.llm.regex import RegexError, compile_regex
from tests.unit.llm.grammar_sampler import Sampler

SAME_EVERYWHERE = [
    r"[a-z]+",
    r"(red|dark green)",
    r"\d{3}-\d{4}",
    r"^x{2,}$",
    r"a?b*c+",
    r"[^abc]{2}",
    r"\w+@\w+\.(com|org)",
    r"(a|b|)c",
    r"\s\S",
    r".{1,5}",
    r"\"\\\{\}\[\]",
    r"[\]\-\\^]",
    r"[+-]?\d+(\.\d+)?",
    r"\x41é\t",
    r"(?:ab){3}",
    r"^a$|^b$",
    r"[^\W\d]",
    r"([01]\d|2[0-3]):[0-5]\d",
    r"(?P<word>\w)",
    r"((a)(b(c)))",
    r"[-a-c]",
    r"[a\-z]",
    r"日本[語人]",
    "😀{2}",
    r"(x*)*y",
]
REFUSED = [
    (r"(?=a)", "lookaround"),
    (r"(?i)a", "special groups"),
    (r"\1", "not supported"),
    (r"a\b", "not supported"),
    (r"\p{L}", "not supported"),
    (r"(a", "without its )"),
    (r"a)", "unmatched )"),
    (r"[a", "without its ]"),
    (r"*", "nothing before"),
    (r"a**", "second quantifier"),
    (r"a{2}{3}", "second quantifier"),
    (r"a{,3}", "no quantifier"),
    (r"a{3,2}", "least is above"),
    (r"a{9999}", "more than 256"),
    (r"[z-a]", "malformed range"),
    (r"a$b", "at the end only"),
    (r"a^", "at the start only"),
    ("a\\", "a \\\\ at the end"),
    ("(" * 60 + ")" * 60, "nested deeper"),
    (r"\u12", "hexadecimal"),
    (r"[[:alpha:]]", "POSIX"),
    (r"[^\s\S]", "nothing in it"),
    (r"\ud800", "no character"),
]


@pytest.mark.parametrize("pattern", SAME_EVERYWHERE)
def test_every_text_of_the_grammar_matches(pattern):
    grammar = Grammar()
    found = compile_regex(pattern, grammar)
    sampler = Sampler(grammar.text(found.node), seed=3)
    for _ in range(60):
        text = sampler.text(60)
        assert re.fullmatch(pattern, text), text
        assert len(text) >= found.shortest
        assert found.longest is None or len(text) <= found.longest


@pytest.mark.parametrize(("pattern", "why"), REFUSED)
def test_what_is_not_regular_or_not_clear_is_refused(pattern, why):
    with pytest.raises(RegexError, match=re.escape(why).replace("\\\\\\\\", "\\\\")):
        compile_regex(pattern, Grammar())
