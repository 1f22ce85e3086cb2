"""Languages as callers write them."""

from services.common.languages import NAMES

_ALIASES = {
    "burmese": "my",
    "castilian": "es",
    "filipino": "tl",
    "flemish": "nl",
    "haitian": "ht",
    "iw": "he",
    "jv": "jw",
    "letzeburgesch": "lb",
    "mandarin": "zh",
    "moldavian": "ro",
    "moldovan": "ro",
    "nb": "no",
    "panjabi": "pa",
    "pushto": "ps",
    "sinhalese": "si",
    "valencian": "ca",
}
_CODES = {**{name: code for code, name in NAMES.items()}, **_ALIASES}


def code_of(language: str) -> str | None:
    """Return the code of a language given by its code, with a region or without, or by its English name."""
    wanted = language.strip().lower()
    code = wanted.replace("_", "-").split("-")[0]
    return next((found for found in (_CODES.get(wanted), _CODES.get(code)) if found), code if code in NAMES else None)
