"""Read a Whisper in CTranslate2's own format: a flat list of named tensors, and the shape of the network they make."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tools.export.command import ExportRefusedError

Floats = NDArray[np.float32]
FORMAT, SPECIFICATION = 6, "WhisperSpec"
DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
FLOATS = {0, 4}
EXACT_GELU = 3
"""The number that the format has for this activation."""


@dataclass(frozen=True, slots=True)
class Network:
    """Sizes of an encoder and a decoder, and their weights in float32."""

    encoder_layers: int
    decoder_layers: int
    heads: int
    width: int
    mels: int
    vocabulary: int
    positions: int
    """Of the decoder."""
    audio_positions: int
    alignment_heads: tuple[tuple[int, int], ...]
    """Layer and head of the decoder whose attention follows the sound."""
    weights: Mapping[str, Floats]

    @property
    def head_width(self) -> int:
        """Components of a head."""
        return self.width // self.heads


def read_network(folder: Path) -> Network:
    """Read model.bin and config.json. ExportRefusedError when they are no Whisper in version 6 of the format."""
    try:
        with (folder / "model.bin").open("rb") as file:
            tensors = _tensors(file)
        heads = json.loads((folder / "config.json").read_text(encoding="utf-8"))["alignment_heads"]
        if any(name.endswith("/weight_scale") for name in tensors):
            raise ExportRefusedError("model.bin has quantised weights; graphs are made of those in 16 or 32 bits")
        network = _network(tensors, tuple((int(layer), int(head)) for layer, head in heads))
    except (struct.error, KeyError, ValueError, IndexError) as error:
        raise ExportRefusedError(f"model.bin or config.json is damaged or cut short ({error})") from error
    if int(tensors["decoder/activation"]) != EXACT_GELU or int(tensors["decoder/scale_embeddings"]):
        raise ExportRefusedError("model.bin is a variant of Whisper that is not known: activation or scaled embeddings")
    return network


def _network(tensors: Mapping[str, NDArray[Any]], alignment_heads: tuple[tuple[int, int], ...]) -> Network:
    weights = {name: values.astype(np.float32) for name, values in tensors.items() if values.dtype.kind == "f"}
    vocabulary, width = weights["decoder/embeddings/weight"].shape
    return Network(
        encoder_layers=_layers(weights, "encoder"),
        decoder_layers=_layers(weights, "decoder"),
        heads=int(tensors["decoder/num_heads"]),
        width=width,
        mels=weights["encoder/conv1/weight"].shape[1],
        vocabulary=vocabulary,
        positions=len(weights["decoder/position_encodings/encodings"]),
        audio_positions=len(weights["encoder/position_encodings/encodings"]),
        alignment_heads=alignment_heads,
        weights=weights,
    )


def _layers(weights: Mapping[str, Floats], part: str) -> int:
    return sum(name.startswith(f"{part}/layer_") and name.endswith("/ffn/linear_0/weight") for name in weights)


def _tensors(file: BinaryIO) -> dict[str, NDArray[Any]]:
    (version,) = _unpack(file, "I")
    name = _text(file)
    if (version, name) != (FORMAT, SPECIFICATION):
        raise ExportRefusedError(f"model.bin is a {name} of format {version}, not a {SPECIFICATION} of format {FORMAT}")
    _revision, count = _unpack(file, "2I")
    tensors = {}
    for _ in range(count):
        name = _text(file)
        (rank,) = _unpack(file, "B")
        shape = _unpack(file, f"{rank}I")
        dtype, size = _unpack(file, "=BI")
        tensors[name] = np.frombuffer(file.read(size), DTYPES[dtype]).reshape(shape)
    (aliases,) = _unpack(file, "I")
    for _ in range(aliases):
        alias, name = _text(file), _text(file)
        tensors[alias] = tensors[name]
    return tensors


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "H")
    return file.read(length)[:-1].decode()


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    layout = layout if layout[0] == "=" else f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
