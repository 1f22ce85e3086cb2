"""Write what RapidOCR itself reads on many pages, as the reference of the tests.

Run in an environment with rapidocr 3.10.0, scikit-image and the Pillow and OpenCV of constraints.txt:
`python -m tools.export.reference_text`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tools.export.pages import files


def main() -> None:
    """Write the lines that RapidOCR reads in each file, in its order, by the name of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tests/data/rapidocr_reference.json"), help="file to write")
    arguments = parser.parse_args()
    from rapidocr import RapidOCR  # noqa: PLC0415 - only in its own environment

    reader = RapidOCR(params={"Global.log_level": "error"})
    read: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, content) in files().items():
            file = Path(folder) / f"page.{kind.lower()}"  # a path: RapidOCR looks at the EXIF orientation of files only
            file.write_bytes(content)
            read[name] = list(reader(str(file)).txts or ())
    arguments.out.write_text(json.dumps(read, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
