"""Files to pixels: what a picture is by its header, its limits, and its decoding. Knows no task and no model.

Nothing is decoded before the header has passed every limit. Plain 8-bit JPEG, PNG and WebP go through OpenCV, JPEG at a
fraction of its size where that is enough; everything else goes through Pillow. Both refuse truncated files.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from services.common.errors import ServiceError, invalid
from services.vision.conversion import is_srgb, to_rgb

Pixels = NDArray[np.uint8]
"""RGB [height, width, 3]."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_NAMES = "JPEG, PNG, WebP, BMP, TIFF or GIF"
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF 6.0, section 15
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_PILLOW_BLOCK = 256 * 1024 * 1024  # a large picture in one block goes back to the system, in small ones it would not
_PNG_BIT_DEPTH = 24  # offset in the file


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """What a picture may be."""

    bytes: int
    """Of the file."""
    pixels: int
    side: int
    """Width and height."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a file says."""

    format: str
    width: int
    """As a person sees it: after the EXIF orientation."""
    height: int
    orientation: int
    """EXIF orientation (1 to 8) that decoded pixels still need."""
    direct: bool
    """OpenCV decodes it to what a person sees."""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def configure() -> None:
    """Set up the decoders of this process: our limits instead of theirs, one thread a picture, no words on stderr."""
    Image.MAX_IMAGE_PIXELS = None
    Image.core.set_block_size(_PILLOW_BLOCK)  # type: ignore[attr-defined]
    warnings.filterwarnings("ignore", module="PIL")
    cv2.setNumThreads(1)
    cv2.setLogLevel(0)


def inspect(data: bytes, field: str, limits: SizeLimits) -> Header:
    """Return the header of a file. Raises INVALID_ARGUMENT that names `field` for one that cannot be accepted."""
    if not data:
        raise invalid(field, f"{field} is empty")
    if len(data) > limits.bytes:
        raise invalid(field, f"{field} has {len(data)} bytes; the limit is {limits.bytes}")
    with _opened(data, field) as image:
        _check_size(image.size, field, limits)
        _check_tiles(image, field, limits)
        try:
            return _header(image, data)
        except Exception as error:  # Pillow's parsers fail in many ways on hostile bytes
            raise invalid(field, f"{field}: the header is broken ({error})") from None


def decode(data: bytes, header: Header, field: str, scale: float = 1.0) -> Pixels:
    """Return the picture as a person sees it.

    It may be smaller, but by no less than `scale` (0 to 1), where that is cheaper. Raises INVALID_ARGUMENT that names
    `field` for a file that is truncated or broken.
    """
    pixels = _by_opencv(data, header, scale) if header.direct else _by_pillow(data, header, field, scale)
    if pixels is None:
        raise _broken(field)
    return orient(_shrunk(pixels, header, scale), header.orientation)


def orient(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation (TIFF 6.0, tag 274)."""
    match orientation:
        case 2:
            turned = cv2.flip(pixels, 1)
        case 3:
            turned = cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(pixels, 0)
        case 5:
            turned = cv2.transpose(pixels)
        case 6:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
        case 8:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return pixels
    return np.asarray(turned, dtype=np.uint8)


def _opened(data: bytes, field: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # see inspect
        raise invalid(field, f"{field} is not a {_NAMES} file, or its header is broken") from None


def _check_size(size: tuple[int, int], field: str, limits: SizeLimits) -> None:
    width, height = size
    if min(size) < 1:
        raise invalid(field, f"{field} has {width} x {height} pixels")
    if max(size) > limits.side:
        raise invalid(field, f"{field} has {width} x {height} pixels; the limit is {limits.side} a side")
    if width * height > limits.pixels:
        raise invalid(field, f"{field} has {width} x {height} pixels; the limit is {limits.pixels} in all")


def _check_tiles(image: Image.Image, field: str, limits: SizeLimits) -> None:
    """A TIFF may lie in tiles that are far larger than itself, each of which is decoded whole."""
    tags = getattr(image, "tag_v2", {})
    sides = [tags.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
    if all(isinstance(side, int) for side in sides) and sides[0] * sides[1] <= limits.pixels:
        return
    raise invalid(field, f"{field} has tiles of {sides[0]} x {sides[1]} pixels; the limit is {limits.pixels}")


def _header(image: Image.Image, data: bytes) -> Header:
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    orientation = 1 if file_format == "TIFF" else _orientation(image)  # Pillow turns a TIFF itself
    width, height = image.size if orientation < 5 else image.size[::-1]
    return Header(file_format, width, height, orientation, _is_direct(image, file_format, data))


def _orientation(image: Image.Image) -> int:
    # that of the base class, as PNG's own decodes the whole file first
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_direct(image: Image.Image, file_format: str, data: bytes) -> bool:
    match file_format:
        case "JPEG":
            plain = image.mode in ("L", "RGB")
        case "PNG":
            eight_bits = data[_PNG_BIT_DEPTH] == 8
            plain = eight_bits and image.mode in ("L", "RGB") and "transparency" not in image.info
        case "WEBP":
            plain = image.mode == "RGB"
        case _:
            plain = False
    still = file_format == "JPEG" or not getattr(image, "is_animated", False)
    return plain and still and is_srgb(image.info.get("icc_profile"))


def _by_opencv(data: bytes, header: Header, scale: float) -> Pixels | None:
    """Return the pixels, or None for a file that is truncated or broken."""
    reduction = _reduction(scale) if header.format == "JPEG" else 1
    flags = _REDUCED.get(reduction, cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    expected = (-(-header.height // reduction), -(-header.width // reduction))
    if decoded is None or decoded.shape[:2] != (expected if header.orientation < 5 else expected[::-1]):
        return None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded), dtype=np.uint8)


def _shrunk(pixels: Pixels, header: Header, scale: float) -> Pixels:
    """Return what was decoded at full size at the fraction a JPEG would have been: formats make no difference."""
    reduction = _reduction(scale)
    if reduction == 1 or max(pixels.shape) < max(header.width, header.height):
        return pixels
    size = (-(-pixels.shape[1] // reduction), -(-pixels.shape[0] // reduction))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _reduction(scale: float) -> int:
    return next((reduction for reduction in _REDUCED if reduction * scale <= 1), 1)


def _by_pillow(data: bytes, header: Header, field: str, scale: float) -> Pixels:
    with _opened(data, field) as image:
        try:
            if header.format == "JPEG":
                image.draft(None, (round(image.width * scale), round(image.height * scale)))
            image.load()
        except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, struct.error):
            raise _broken(field) from None
        return to_rgb(image)


def _broken(field: str) -> ServiceError:
    return invalid(field, f"{field} is truncated or broken")
