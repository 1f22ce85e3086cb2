"""Pictures for tests: rendered, or from the packages that carry some; and how files are made of them."""

import io
import zlib

import numpy as np
from PIL import Image
from skimage import data

ASTRONAUT = data.astronaut()
TRANSPOSITIONS = {
    # EXIF orientation: how upright pixels are stored under it
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width=96, height=64) -> Image.Image:
    """A smooth picture of which no two corners look alike."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([40 + 180 * x, 220 - 170 * y, 60 + 150 * x * y], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, file_format="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def oriented(image: Image.Image, orientation: int, file_format="JPEG", **options) -> bytes:
    """A file whose pixels are stored so that the EXIF orientation makes them upright."""
    how = TRANSPOSITIONS[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    stored = image if how is None else image.transpose(how)
    return encoded(stored, file_format, exif=exif, **options)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""
    whole = bytearray(encoded(Image.new("L", (1, 1))))
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    whole[29:33] = zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big")
    return bytes(whole)
