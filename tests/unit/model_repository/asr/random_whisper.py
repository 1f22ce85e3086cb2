"""A small Whisper of random weights in CTranslate2's format, as particular about its tokens as a real one."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from services.common.languages import NAMES

WIDTH, HEADS, MELS, LAYERS = 16, 2, 80, 2
END, START, ENGLISH, TRANSCRIBE, NO_SPEECH, NO_TIMES = 50257, 50258, 50259, 50359, 50362, 50363
VOCABULARY = NO_TIMES + 1 + 1501
CODES = ["en", *(code for code in NAMES if code != "en")][:99]
LANGUAGES = list(range(ENGLISH, ENGLISH + len(CODES)))
SPECIAL = {
    END: "<|endoftext|>",
    START: "<|startoftranscript|>",
    **{number: f"<|{code}|>" for number, code in zip(LANGUAGES, CODES, strict=True)},
    50358: "<|translate|>",
    TRANSCRIBE: "<|transcribe|>",
    50360: "<|startoflm|>",
    50361: "<|startofprev|>",
    NO_SPEECH: "<|nocaptions|>",
    NO_TIMES: "<|notimestamps|>",
}


def write_whisper(folder: Path, seed: int = 0) -> Path:
    """Write model.bin, config.json, tokenizer.json and vocabulary.txt."""
    (folder / "model.bin").write_bytes(_model(np.random.default_rng(seed)))
    config = {
        "lang_ids": LANGUAGES,
        "suppress_ids": [1, 2, 7, START, *range(50358, 50363)],
        "suppress_ids_begin": [220, END],
        "alignment_heads": [[0, 1], [1, 0]],
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokens = [{"id": number, "content": text} for number, text in SPECIAL.items()]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    words = (SPECIAL.get(number, f"t{number}") for number in range(VOCABULARY))
    (folder / "vocabulary.txt").write_text("\n".join(words) + "\n")
    return folder


def _model(chance: np.random.Generator) -> bytes:
    def weights(*shape: int) -> Any:
        return chance.normal(0, 1.5 / np.sqrt(shape[-1]), shape).astype(np.float16)

    tensors: dict[str, Any] = {"decoder/embeddings/weight": chance.normal(0, 1, (VOCABULARY, WIDTH)).astype(np.float16)}

    def linear(place: str, outputs: int, inputs: int) -> None:
        tensors[f"{place}/weight"], tensors[f"{place}/bias"] = weights(outputs, inputs), weights(outputs)

    def norm(place: str) -> None:
        tensors[f"{place}/gamma"], tensors[f"{place}/beta"] = np.ones(WIDTH, np.float16), weights(WIDTH)

    for number, inputs in ((1, MELS), (2, WIDTH)):
        tensors[f"encoder/conv{number}/weight"] = weights(WIDTH, inputs, 3)
        tensors[f"encoder/conv{number}/bias"] = weights(WIDTH)
    for part, positions in (("encoder", 1500), ("decoder", 448)):
        tensors[f"{part}/position_encodings/encodings"] = weights(positions, WIDTH)
        tensors[f"{part}/num_heads"] = np.int16(HEADS)
        norm(f"{part}/layer_norm")
        for layer in range(LAYERS):
            place = f"{part}/layer_{layer}"
            norm(f"{place}/self_attention/layer_norm")
            linear(f"{place}/self_attention/linear_0", 3 * WIDTH, WIDTH)
            linear(f"{place}/self_attention/linear_1", WIDTH, WIDTH)
            norm(f"{place}/ffn/layer_norm")
            linear(f"{place}/ffn/linear_0", 4 * WIDTH, WIDTH)
            linear(f"{place}/ffn/linear_1", WIDTH, 4 * WIDTH)
            if part == "decoder":
                norm(f"{place}/attention/layer_norm")
                for number, outputs in enumerate((WIDTH, 2 * WIDTH, WIDTH)):
                    linear(f"{place}/attention/linear_{number}", outputs, WIDTH)
    flags = {"activation": 3, "alibi": 0, "pre_norm": 1, "scale_embeddings": 0, "start_from_zero_embedding": 0}
    tensors |= {f"decoder/{name}": np.int8(value) for name, value in flags.items()}
    tensors |= {"decoder/alignment_heads": np.int16(1), "decoder/alignment_layer": np.int16(-1)}
    content = [struct.pack("<I", 6), _text("WhisperSpec"), struct.pack("<II", 3, len(tensors))]
    for name in sorted(tensors):
        values = np.asarray(tensors[name])
        kind = {"int8": 1, "int16": 2, "float16": 4}[values.dtype.name]
        content.append(_text(name) + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape))
        content.append(struct.pack("<BI", kind, values.nbytes) + values.tobytes())
    content.append(struct.pack("<I", 1) + _text("decoder/projection/weight") + _text("decoder/embeddings/weight"))
    return b"".join(content)


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"
