"""The tokens of Whisper that are no text, by name, read from the model's files. Knows nothing of the engine."""

import json
from dataclasses import dataclass

NOT_WRITTEN = (
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nocaptions|>",
)
"""Tokens that no transcript has."""
TIMESTAMPS = 1501
"""0 to 30 s in steps of 20 ms; the highest ids."""
MULTILINGUAL = 51865
"""Ids that a model of several languages has at least; one of English only has fewer."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of one model. Text has lower ids than all of these, time stamps have higher ones than `no_timestamps`."""

    end_of_text: int
    start: int
    no_timestamps: int
    languages: tuple[str, ...]
    """Texts of the language tokens in the order of their ids, "<|en|>" first."""
    suppressed: tuple[int, ...]
    """Ids that are never to be chosen: signs for sounds, and what only a prompt has."""
    vocabulary_size: int
    suppressed_first: tuple[int, ...] = ()
    """Ids that no text begins with: a blank, the end."""
    no_speech: int = 0
    language_ids: tuple[int, ...] = ()
    """Of `languages`, in that order; none where the model knows English only."""


def read_special_tokens(folder):
    """Return the tokens that the model in `folder` has."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    entries = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {entry["content"]: entry["id"] for entry in entries}
    texts = {number: text for text, number in ids.items()}
    vocabulary_size = ids["<|notimestamps|>"] + 1 + TIMESTAMPS
    return SpecialTokens(
        end_of_text=ids["<|endoftext|>"],
        start=ids["<|startoftranscript|>"],
        no_timestamps=ids["<|notimestamps|>"],
        languages=tuple(texts[number] for number in sorted(config["lang_ids"])),
        suppressed=tuple(sorted({*config["suppress_ids"], *(ids[text] for text in NOT_WRITTEN if text in ids)})),
        vocabulary_size=vocabulary_size,
        suppressed_first=tuple(config["suppress_ids_begin"]),
        no_speech=ids.get("<|nospeech|>", ids.get("<|nocaptions|>", 0)),
        language_ids=tuple(sorted(config["lang_ids"])) if vocabulary_size >= MULTILINGUAL else (),
    )
