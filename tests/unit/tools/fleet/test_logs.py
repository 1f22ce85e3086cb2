import pytest

from tools.fleet.logs import last_error, rotate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        ('{"level": "ERROR", "message": "no model"}\n{"level": "INFO", "message": "bye"}\n', "no model"),
        ('{"levelname": "error", "message": "first\\nTraceback"}\nplain\n', "first"),
        ("[1, 2]\n", "[1, 2]"),
    ],
)
def test_the_line_that_says_why(tmp_path, text, expected):
    log = tmp_path / "a.log"
    log.write_text(text)
    assert last_error(log) == expected


def test_a_missing_log_says_nothing(tmp_path):
    assert last_error(tmp_path / "none.log") == ""


def test_the_log_of_the_last_start_is_kept(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("old")
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_text() == "old"
