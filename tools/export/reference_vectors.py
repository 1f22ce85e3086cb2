"""Write what sentence-transformers itself computes for varied texts, as the reference of the tests.

Run in an environment with the `export` extra: `python -m tools.export.reference_vectors --source DIR --out FILE`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from tools.export.texts import reference_texts


def main() -> None:
    """Encode each text alone into `texts` (a JSON list in one string) and float32 `vectors` [texts, dimensions]."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the sentence-transformers model")
    parser.add_argument("--out", type=Path, default=Path("tests/data/minilm_reference.npz"), help="file to write")
    arguments = parser.parse_args()
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - only in the torch environment

    texts = reference_texts()
    original = SentenceTransformer(str(arguments.source), device="cpu")
    vectors = original.encode(texts, batch_size=1, normalize_embeddings=True, convert_to_numpy=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out, texts=np.array(json.dumps(texts)), vectors=vectors.astype(np.float32))


if __name__ == "__main__":
    main()
