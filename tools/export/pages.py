"""Pages of text as pictures, rendered with Pillow's own font or carried by scikit-image, the same in every run.

Needs scikit-image and Pillow: those of the `test` extra.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tools.export.photographs import carried

LINES = (
    "Harbour master's log, 14 March 1887",
    "The Adelaide left the quay at half past six",
    "with 42 barrels of oil and 1,250 sacks of grain.",
    "Wind north by west, force 4; barometer 29.87.",
    "Two sailors were put ashore: J. Brown and P. Lee.",
    "Paid to the pilot: $18.50 (receipt no. 7731).",
    "QUIET NIGHT, NO SIGNALS FROM THE LIGHTHOUSE",
    "Expected in Bristol on Friday, tide permitting",
)
BLACK, WHITE = (20, 20, 24), (250, 249, 245)
TRANSPOSITIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How upright pixels are stored under each EXIF orientation (TIFF 6.0, tag 274)."""
ORIENTATION_TAG = 274
FORMATS: Mapping[str, Mapping[str, int]] = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "WEBP": {"quality": 90},
    "BMP": {},
    "TIFF": {},
    "GIF": {},
}

Colour = tuple[int, int, int]


def page(
    lines: Sequence[str] = LINES, size: float = 24, ink: Colour = BLACK, paper: Colour = WHITE, columns: int = 1
) -> Image.Image:
    """Return lines of text, `size` pixels high, in one column or several, read one column after the other."""
    font = ImageFont.load_default(size)
    margin, pitch = round(2 * size), round(1.8 * size)
    across = round(max(font.getlength(line) for line in lines) + margin)
    rows = -(-len(lines) // columns)
    image = Image.new("RGB", (margin + across * columns, 2 * margin + pitch * rows), paper)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        column, row = divmod(number, rows)
        draw.text((margin + across * column, margin + pitch * row), line, fill=ink, font=font)
    return image


def pages() -> dict[str, Image.Image]:
    """Return pages by name: sizes, rotations, columns, dark and pale ones, and scikit-image's scans."""
    plain = page()
    return {
        **{f"size {size}": page(size=size) for size in (12, 16, 24, 40)},
        **{
            f"rotated by {degrees}": plain.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=WHITE)
            for degrees in (3, 90, 180)
        },
        "two columns": page(columns=2),
        "dark": page(ink=(235, 235, 220), paper=(25, 30, 45)),
        "pale": page(ink=(178, 178, 178), paper=(225, 225, 225)),
        "scan": carried("page"),
        "photograph": carried("text"),
    }


def encoded(image: Image.Image, file_format: str, orientation: int = 1) -> bytes:
    """Return a file whose pixels are stored so that its EXIF orientation makes them upright."""
    how = TRANSPOSITIONS[orientation]
    stored = image if how is None else image.transpose(how)
    options: dict[str, Any] = dict(FORMATS[file_format])
    if orientation > 1:
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    stored.save(file, file_format, **options)
    return file.getvalue()


def files() -> dict[str, tuple[str, bytes]]:
    """Return format and bytes of files by name: every page, one in every format, one in every orientation."""
    plain = page(size=20)
    return {
        **{name: ("PNG", encoded(image, "PNG")) for name, image in pages().items()},
        **{f"as {kind}": (kind, encoded(plain, kind)) for kind in FORMATS},
        **{f"orientation {number}": ("JPEG", encoded(plain, "JPEG", number)) for number in TRANSPOSITIONS},
    }
