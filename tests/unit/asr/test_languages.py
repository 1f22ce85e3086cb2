import pytest

from services.asr.languages import code_of


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("en-US", "en"),
        ("zh_CN", "zh"),
        ("German", "de"),
        (" haitian creole ", "ht"),
        ("mandarin", "zh"),
        ("nb-NO", "no"),
        ("haw", "haw"),
        ("klingon", None),
        ("e", None),
        ("xx-US", None),
        ("deutsch", None),
    ],
)
def test_code_of(language: str, code: str | None) -> None:
    assert code_of(language) == code
