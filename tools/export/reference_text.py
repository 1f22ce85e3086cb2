"""Write what RapidOCR itself reads on many pages, as the reference of the tests.

Run in an environment with rapidocr 3.10.0, scikit-image, scikit-learn and the Pillow and OpenCV of constraints.txt:
`python -m tools.export.reference_text`.

How wide a line is padded, which depends on the other lines of its batch, changes what the graph reads where it is
unsure: a space, or a line upside down that was not turned. So every line is read with several paddings too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tools.export.pages import files

PADDED_WIDTHS = (320, 640, 960, 1280)


class Reader:
    """RapidOCR, and what it makes of the same lines when they are padded differently."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR  # noqa: PLC0415 - only in its own environment

        self._original = RapidOCR(params={"Global.log_level": "error"})
        self._recognise = self._original.recognize_txt
        self._original.recognize_txt = self._recognise_several_times
        self._others: list[Sequence[str]] = []

    def read(self, file: Path) -> list[list[str]]:
        """Return the lines in RapidOCR's order: first what it reads, then what it reads otherwise."""
        self._others = []
        result = self._original(str(file))  # a path: RapidOCR looks at the EXIF orientation of files only
        lines = []
        for text in result.txts or ():
            others = {other[self._others[0].index(text)] for other in self._others}
            lines.append([text, *sorted(others - {text})])
        return lines

    def _recognise_several_times(self, images: Any) -> Any:
        result, graph = self._recognise(images), self._original.text_rec
        self._others = [result.txts]
        kept = graph.rec_image_shape, graph.rec_batch_num
        for width in PADDED_WIDTHS:
            graph.rec_image_shape, graph.rec_batch_num = [*kept[0][:2], width], 1
            self._others.append(self._recognise(images).txts)
        graph.rec_image_shape, graph.rec_batch_num = kept
        return result


def _stored(file: Path, content: bytes) -> Path:
    """Return a file with the content. RapidOCR takes the numbers of a palette for grey values: those become PNG."""
    file.write_bytes(content)
    with Image.open(file) as image:
        if image.mode != "P":
            return file
        image.convert("RGB").save(file.with_suffix(".png"))
    return file.with_suffix(".png")


def main() -> None:
    """Write the readings of each line of each file by the name of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tests/data/rapidocr_reference.json"), help="file to write")
    arguments = parser.parse_args()
    reader, read = Reader(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, content) in files().items():
            read[name] = reader.read(_stored(Path(folder) / f"page.{kind.lower()}", content))
    arguments.out.write_text(json.dumps(read, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
