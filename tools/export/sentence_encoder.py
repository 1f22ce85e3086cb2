"""Export a sentence-transformers encoder to ONNX and prove that it computes the same.

Runs in the environment `export`: `python -m tools.export.sentence_encoder --source DIR --out DIR --facts JSON`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.export.command import ExportRefusedError, run_exporter, versions
from tools.export.texts import parity_texts, selftest_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_DIFFERENCE = 1e-5
OPSET = 17
TOOLS = ("torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "numpy")


def build_graph(original: Any) -> Any:
    """Wrap transformer, pooling and L2 normalisation of a SentenceTransformer into one torch module.

    The module maps input_ids and attention_mask, int64 [batch, sequence], to float32 [batch, dimensions].
    """
    import torch  # noqa: PLC0415

    transformer, pooling = original[0].auto_model, original[1]
    mode = pooling.pooling_mode
    if mode not in {"mean", "cls"}:
        raise ExportRefusedError(f"pooling '{mode}' is not supported; supported are 'mean' and 'cls'")
    known = {"Transformer", "Pooling", "Normalize"}
    if others := {type(module).__name__ for module in original} - known:
        raise ExportRefusedError(f"modules {sorted(others)} are not supported; supported are {sorted(known)}")

    class SentenceEncoder(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        """Token type ids are left to the transformer, whose default is zeros."""

        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            tokens = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            if mode == "cls":
                pooled = tokens[:, 0]
            else:
                weights = attention_mask.unsqueeze(-1).to(tokens.dtype)
                pooled = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, p=2.0, dim=1)

    return SentenceEncoder().eval()


def write_onnx(graph: Any, path: Path) -> None:
    """Trace the graph with a dynamic batch and sequence and check the file."""
    import onnx  # noqa: PLC0415
    import torch  # noqa: PLC0415

    example = torch.ones((2, 7), dtype=torch.int64)
    with torch.inference_mode():
        torch.onnx.export(
            graph,
            (example, example.clone()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_embedding"],
            dynamic_axes={
                "input_ids": {0: "batch", 1: "sequence"},
                "attention_mask": {0: "batch", 1: "sequence"},
                "sentence_embedding": {0: "batch"},
            },
        )
    onnx.checker.check_model(str(path), full_check=True)


def encode_with_onnx(path: Path, features: list[dict[str, Any]]) -> NDArray[np.float32]:
    """Run the exported graph, one batch per element of features; float32 [texts, dimensions]."""
    import numpy as np  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batches = [
        session.run(
            ["sentence_embedding"],
            {name: batch[name].numpy().astype(np.int64) for name in ("input_ids", "attention_mask")},
        )[0]
        for batch in features
    ]
    return np.concatenate(batches)


def check_parity(original: Any, path: Path) -> tuple[float, int]:
    """Largest absolute difference to the original over varied texts, and their number; refused over the limit."""
    import numpy as np  # noqa: PLC0415

    texts = parity_texts()
    expected = original.encode(texts, batch_size=1, normalize_embeddings=True, convert_to_numpy=True)
    worst = 0.0
    for size in (1, 8, 64):
        batches = [original.preprocess(texts[start : start + size]) for start in range(0, len(texts), size)]
        actual = encode_with_onnx(path, batches)
        worst = max(worst, float(np.abs(actual - expected).max()))
    if not worst <= MAX_DIFFERENCE:
        raise ExportRefusedError(
            f"the exported graph differs from the original by {worst:.2e} on {len(texts)} texts; "
            f"allowed are {MAX_DIFFERENCE:.0e}"
        )
    return worst, len(texts)


def check_shapes(path: Path, dimensions: int, positions: int) -> None:
    """Run the corners of what serving sends: batch 1 and 64, sequence 3 and the last position."""
    import numpy as np  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch, sequence in ((1, 3), (64, 3), (1, positions), (2, positions)):
        ones = np.ones((batch, sequence), dtype=np.int64)
        (vectors,) = session.run(["sentence_embedding"], {"input_ids": ones, "attention_mask": ones})
        if vectors.shape != (batch, dimensions) or vectors.dtype != np.float32:
            raise ExportRefusedError(f"[{batch}, {sequence}] gave {vectors.dtype} {vectors.shape}")


def write_selftest(original: Any, path: Path) -> None:
    """Write short texts, their token ids and the original's vectors, for a runtime to prove itself with."""
    texts = selftest_texts()
    vectors = original.encode(texts, batch_size=1, normalize_embeddings=True, convert_to_numpy=True)
    cases = [
        {
            "text": text,
            "token_ids": original.preprocess([text])["input_ids"][0].tolist(),
            "vector": [float(value) for value in vector],
        }
        for text, vector in zip(texts, vectors, strict=True)
    ]
    path.write_text(json.dumps({"format": 1, "cases": cases}) + "\n", encoding="utf-8")


def export(source: Path, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.onnx and selftest.json into out; returns the facts for the recipe."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    original = SentenceTransformer(str(source), device="cpu", model_kwargs={"attn_implementation": "eager"})
    original.max_seq_length = int(facts["max_tokens"])
    dimensions, actual = int(facts["dimensions"]), original.get_embedding_dimension()
    if actual != dimensions:
        raise ExportRefusedError(f"the model has {actual} dimensions, the manifest says {dimensions}")
    onnx_path = out / "model.onnx"
    write_onnx(build_graph(original), onnx_path)
    check_shapes(onnx_path, dimensions, int(original[0].auto_model.config.max_position_embeddings))
    difference, texts = check_parity(original, onnx_path)
    write_selftest(original, out / "selftest.json")
    return {
        "opset": OPSET,
        "parity": {"max_abs_difference": difference, "texts": texts},
        "tools": versions(TOOLS),
    }


if __name__ == "__main__":
    sys.exit(run_exporter(export, __doc__))
