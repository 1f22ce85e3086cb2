"""Pictures whose content is known, and pages rendered with a known text."""

import numpy as np
from flotilla.vision.v1 import vision_pb2 as pb
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from sklearn.datasets import load_sample_images

from tests.unit.vision.pictures import encoded

LINES = [
    "Flotilla reads this page",
    "The quick brown fox jumps over 13 lazy dogs",
    "Total: 1,234.56 EUR (VAT 19 %)",
    "2026-11-22 at 08:30 in room B-207",
    "contact: crew@example.org",
]


def pictures() -> dict[str, Image.Image]:
    china, flower = load_sample_images().images
    arrays = {
        "coffee": data.coffee(),
        "chelsea": data.chelsea(),
        "astronaut": data.astronaut(),
        "china": china,
        "flower": flower,
    }
    return {name: Image.fromarray(array) for name, array in arrays.items()}


def page(lines=LINES, size=28, width=800, angle=0) -> Image.Image:
    """Black lines on white."""
    image = Image.new("RGB", (width, 60 + 2 * size * len(lines)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for number, line in enumerate(lines):
        draw.text((40, 30 + 2 * size * number), line, fill="black", font=font)
    return image.rotate(angle, expand=True, fillcolor="white", resample=Image.Resampling.BICUBIC)


def scan() -> Image.Image:
    """A photographed page of a manual."""
    return Image.fromarray(np.asarray(data.page()))


def images(*pictures: Image.Image | bytes) -> list[pb.Image]:
    return [pb.Image(data=p if isinstance(p, bytes) else encoded(p)) for p in pictures]
