"""Any picture Pillow reads to RGB: palettes, grey, 16 bits, floats, CMYK, alpha on white, ICC profiles to sRGB."""

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_MODE_OF_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return a loaded picture as RGB [height, width, 3] uint8."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = _on_white(image.convert("RGBA"), image.info.get("icc_profile"))
    return np.array(_to_srgb(image))


def is_srgb(profile: bytes | None) -> bool:
    """Whether pixels with this ICC profile need no conversion; a broken profile counts as none."""
    if not profile:
        return True
    opened = _profile(profile)
    return opened is None or "srgb" in ImageCms.getProfileDescription(opened).lower()


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return grey values as 8 bits: integers are taken as 16 bits wide, floats as 0 to 1, or to 255 where above."""
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=255.0, neginf=0.0)
        scale = 255.0 if finite.max() <= 1 else 1.0
        return np.asarray(np.clip(np.rint(finite * scale), 0, 255), dtype=np.uint8)
    return np.asarray(np.clip(values, 0, 65535).astype(np.uint16) >> 8, dtype=np.uint8)


def _on_white(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the RGBA picture on a white ground."""
    ground = Image.new("RGB", image.size, (255, 255, 255))
    ground.paste(image, mask=image.getchannel("A"))
    if profile:
        ground.info["icc_profile"] = profile
    return ground


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    opened = None if is_srgb(profile) else _profile(profile)
    if opened is not None:
        mode = _MODE_OF_SPACE.get(opened.profile.xcolor_space.strip())
        matching = image if image.mode == mode else image.convert("RGB") if mode == "RGB" else None
        try:
            if matching is not None:
                converted = ImageCms.profileToProfile(matching, opened, _srgb(), outputMode="RGB")
                return image.convert("RGB") if converted is None else converted
        except ImageCms.PyCMSError:
            pass  # a profile that cannot be used says nothing
    return image.convert("RGB")


@lru_cache(maxsize=16)
def _profile(raw: bytes) -> ImageCms.ImageCmsProfile | None:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(raw))
    except OSError:
        return None


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
