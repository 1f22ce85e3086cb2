"""Images of a request: data URLs and base64 turned into the bytes of files. What they show is the service's matter."""

from collections.abc import Sequence

import pybase64

from services.common.errors import invalid
from services.gateway.remote_images import RemoteImages
from services.gateway.schemas.vision import ImageSource

LONGEST_HEAD = 256  # characters of a data URL before its comma
_USE_BASE64 = "send the file as base64 without line breaks (base64 -w0)"


async def load(sources: Sequence[ImageSource], remote: RemoteImages) -> list[bytes]:
    """Return the bytes of every image. Raises INVALID_ARGUMENT that names the field at fault."""
    loaded = [None if _is_remote(source) else _local(source) for source in sources]
    fetched = iter(await remote.fetch([source for source in sources if _is_remote(source)]))
    return [next(fetched) if data is None else data for data in loaded]


def check_media_type(field: str, media_type: str) -> None:
    """Refuse what says of itself that it is no image, or an image without pixels."""
    kind = media_type.strip().lower()
    if kind.startswith("image/svg"):
        raise invalid(field, f"{field} is SVG, which has no pixels; send JPEG, PNG, WebP, BMP, TIFF or GIF")
    if not kind.startswith("image/"):
        raise invalid(field, f"{field} must be an image; its media type is '{media_type[:64]}'")


def _is_remote(source: ImageSource) -> bool:
    return isinstance(source.value, str) and source.value[:8].lower().startswith(("http://", "https://"))


def _local(source: ImageSource) -> bytes:
    data = source.value if isinstance(source.value, bytes) else _decoded(source.field, source.value)
    if not data:
        raise invalid(source.field, f"{source.field} is empty; it must be an image")
    return data


def _decoded(field: str, text: str) -> bytes:
    begin = 0
    if text[:5].lower() == "data:":
        begin = text.find(",", 0, LONGEST_HEAD) + 1
        media_type, _, coding = text[5 : begin - 1 if begin else LONGEST_HEAD].partition(";")
        check_media_type(field, media_type)
        if not begin or coding.rpartition(";")[2].strip().lower() != "base64":
            raise invalid(field, f"{field} must be a data URL with base64: data:image/png;base64,...")
    elif "://" in text[:LONGEST_HEAD]:
        raise invalid(field, f"{field} must be a data URL, base64, or a URL with http or https")
    if begin == len(text):
        return b""
    if (len(text) - begin) % 4:
        raise invalid(field, f"{field} is not base64: its length is not a multiple of 4; {_USE_BASE64}")
    try:
        return pybase64.b64decode(text[begin:], validate=True)
    except ValueError:
        raise invalid(field, f"{field} is not base64; {_USE_BASE64}") from None
