import io
import struct
import threading
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from services.common.errors import Kind, ServiceError
from services.vision.decoding import SizeLimits, decode, inspect, orient
from tests.unit.vision.pictures import TRANSPOSITIONS, encoded, oriented, png_header, scene

LIMITS = SizeLimits(bytes=1_000_000, pixels=1_000_000, side=20_000)
SCENE = scene()
RGB = np.asarray(SCENE)


def pixels(data, scale=1.0):
    return decode(data, inspect(data, "f", LIMITS), "f", scale)


def difference(data, expected=RGB):
    found = pixels(data)
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    return np.abs(found.astype(int) - expected).max()


def refused(data, limits=LIMITS):
    with pytest.raises(ServiceError) as caught:
        decode(data, inspect(data, "images[3].data", limits), "images[3].data")
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, "images[3].data")
    assert caught.value.message.startswith("images[3].data")
    return caught.value.message


LOSSLESS = {
    "PNG": {},
    "PNG interlaced": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF lzw": {"compression": "tiff_lzw"},
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_lossless_formats_give_the_very_pixels(case):
    assert difference(encoded(SCENE, case.split()[0], **LOSSLESS[case])) == 0


@pytest.mark.parametrize("options", [{"quality": 95, "subsampling": 0}, {"quality": 95, "progressive": True}])
def test_jpeg_gives_nearly_the_pixels(options):
    assert difference(encoded(SCENE, "JPEG", **options)) <= 8


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TRANSPOSITIONS)
def test_every_orientation_is_upright(file_format, orientation):
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    options |= {"lossless": True} if file_format == "WEBP" else {}
    data = oriented(SCENE, orientation, file_format, **options)
    header = inspect(data, "f", LIMITS)
    assert (header.width, header.height) == SCENE.size
    assert difference(data) <= (8 if file_format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    assert difference(encoded(SCENE, "PNG", exif=exif)) == 0


@pytest.mark.parametrize("orientation", TRANSPOSITIONS)
def test_orient_undoes_how_it_was_stored(orientation):
    how = TRANSPOSITIONS[orientation]
    stored = np.asarray(SCENE if how is None else SCENE.transpose(how))
    assert np.array_equal(orient(stored, orientation), RGB)


GREY = SCENE.convert("L")
GREY_RGB = np.repeat(np.asarray(GREY)[:, :, None], 3, axis=2)
SIXTEEN = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
FLOATS = Image.fromarray(np.asarray(GREY).astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("image", "file_format"),
    [(GREY, "PNG"), (GREY, "TIFF"), (GREY, "BMP"), (SIXTEEN, "PNG"), (SIXTEEN, "TIFF"), (FLOATS, "TIFF")],
)
def test_grey_of_any_depth(image, file_format):
    assert difference(encoded(image, file_format), GREY_RGB) <= 1


def test_grey_jpeg():
    assert difference(encoded(GREY, "JPEG", quality=95), GREY_RGB) <= 6


def test_black_and_white():
    image = GREY.point(lambda value: 255 * (value > 128)).convert("1")
    expected = np.repeat(np.asarray(image.convert("L"))[:, :, None], 3, axis=2)
    for file_format in ("PNG", "TIFF", "BMP"):
        assert difference(encoded(image, file_format), expected) == 0


def test_palettes_and_the_first_frame_of_several():
    palette = SCENE.quantize(64)
    expected = np.asarray(palette.convert("RGB"))
    assert difference(encoded(palette, "PNG"), expected) == 0
    assert difference(encoded(palette, "GIF"), expected) == 0
    black = Image.new("P", SCENE.size)
    assert difference(encoded(palette, "GIF", save_all=True, append_images=[black]), expected) == 0
    for file_format in ("TIFF", "PNG"):
        more = {"save_all": True, "append_images": [Image.new("RGB", SCENE.size)]}
        assert difference(encoded(SCENE, file_format, **more)) == 0
    moving = encoded(SCENE, "WEBP", save_all=True, append_images=[Image.new("RGB", SCENE.size)], lossless=True)
    assert difference(moving) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_alpha_lies_on_white(mode, file_format):
    image = SCENE.convert(mode)
    alpha = Image.new("L", SCENE.size, 255)
    alpha.paste(0, (0, 0, 48, 64))
    image.putalpha(alpha)
    options = {"lossless": True} if file_format == "WEBP" else {}
    found = pixels(encoded(image, file_format, **options))
    assert (found[:, :48] == 255).all()
    expected = GREY_RGB if mode == "LA" else RGB
    assert np.abs(found[:, 48:].astype(int) - expected[:, 48:]).max() <= 1


def test_a_transparent_colour_lies_on_white():
    image = Image.new("RGB", (8, 8), (10, 20, 30))
    image.paste((200, 0, 0), (0, 0, 4, 8))
    found = pixels(encoded(image, "PNG", transparency=(10, 20, 30)))
    assert (found[:, 4:] == 255).all()
    assert (found[:, :4] == (200, 0, 0)).all()


def test_cmyk():
    data = encoded(SCENE.convert("CMYK"), "JPEG", quality=95)
    assert not inspect(data, "f", LIMITS).direct
    assert difference(data) <= 12
    assert difference(encoded(SCENE.convert("CMYK"), "TIFF")) <= 2


def test_sixteen_bits_a_channel_are_the_upper_eight():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in RGB.astype(np.uint16) * 257)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", *SCENE.size, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert difference(b"\x89PNG\r\n\x1a\n" + body) == 0


def profile(kind):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_an_srgb_profile_changes_nothing(file_format):
    data = encoded(SCENE, file_format, icc_profile=profile("sRGB"))
    assert inspect(data, "f", LIMITS).direct
    assert difference(data) <= 8


@pytest.mark.parametrize("junk", [b"junk", profile("LAB"), profile("sRGB")[:200]])
def test_a_profile_that_does_not_fit_is_left_out(junk):
    assert difference(encoded(SCENE, "PNG", icc_profile=junk)) == 0


def swapped_primaries():
    """sRGB with the red and the green primary swapped: a conversion that cannot be missed."""
    raw = bytearray(profile("sRGB"))
    count = struct.unpack_from(">I", raw, 128)[0]
    tags = {bytes(raw[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    raw[red + 4 : red + 12], raw[green + 4 : green + 12] = raw[green + 4 : green + 12], raw[red + 4 : red + 12]
    at, size = struct.unpack_from(">II", raw, tags[b"desc"] + 4)
    raw[at : at + size] = bytes(raw[at : at + size]).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    return bytes(raw)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_another_profile_is_converted_to_srgb(file_format):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(file_format, {})
    data = encoded(SCENE, file_format, icc_profile=swapped_primaries(), **options)
    assert not inspect(data, "f", LIMITS).direct
    assert difference(data, RGB[:, :, [1, 0, 2]]) <= 12


def test_jpeg_is_decoded_at_a_fraction_where_that_is_enough():
    big = scene(640, 480)
    for options in ({}, {"icc_profile": swapped_primaries()}):
        data = encoded(big, "JPEG", quality=95, **options)
        sizes = {scale: pixels(data, scale).shape[:2] for scale in (1.0, 0.6, 0.5, 0.25, 0.1)}
        assert sizes == {1.0: (480, 640), 0.6: (480, 640), 0.5: (240, 320), 0.25: (120, 160), 0.1: (60, 80)}
    half = np.asarray(big.resize((320, 240), Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels(encoded(big, "JPEG", quality=95), 0.5) - half).max() <= 8


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (3, 5)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_odd_sizes(size, file_format):
    data = encoded(Image.new("RGB", size, (200, 100, 50)), file_format)
    assert pixels(data).shape == (size[1], size[0], 3)


# Refusals


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%PDF-1.7\n",
        b"hello",
        b"\0" * 100,
        b"GIF89a",
        b"\xff\xd8\xff",
        b"II*\0",
        b"BM",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        encoded(SCENE, "ICO"),
        encoded(SCENE, "PPM"),
        encoded(SCENE, "JPEG2000"),
    ],
)
def test_what_is_no_picture_names_the_formats(data):
    assert "JPEG, PNG, WebP, BMP, TIFF or GIF" in refused(data)


def test_an_empty_file():
    assert refused(b"") == "images[3].data is empty"


def test_too_many_bytes():
    assert "1000001 bytes; the limit is 1000000" in refused(b"\xff" * 1_000_001)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (png_header(50_000, 50_000), "20000 a side"),
        (png_header(20_001, 1), "20000 a side"),
        (png_header(2**31 - 1, 2**31 - 1), "20000 a side"),
        (png_header(10_000, 10_000), "1000000 in all"),
    ],
)
def test_a_bomb_is_refused_by_its_header(data, limit):
    assert limit in refused(data)


def test_a_gif_whose_frame_is_larger_than_its_screen():
    data = bytearray(encoded(Image.new("P", (4, 4)), "GIF"))
    place = data.index(b",\0\0\0\0\4\0\4\0")
    data[place + 5 : place + 9] = struct.pack("<HH", 60_000, 60_000)
    refused(bytes(data))


def test_a_tiff_whose_tiles_are_larger_than_itself():
    file = io.BytesIO()
    tifffile.imwrite(file, RGB, tile=(2048, 2048), compression="zlib", photometric="rgb")
    assert "tiles of 2048 x 2048" in refused(file.getvalue())
    small = io.BytesIO()
    tifffile.imwrite(small, RGB, tile=(32, 32), photometric="rgb")
    assert difference(small.getvalue()) == 0


CUT = {
    "JPEG": {"quality": 90},
    "JPEG progressive": {"quality": 90, "progressive": True},
    "JPEG CMYK": {},
    "PNG": {},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "GIF": {},
    "PNG alpha": {},
}


@pytest.mark.parametrize("case", CUT)
def test_a_file_cut_anywhere_is_refused(case):
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image = image.convert("CMYK") if "CMYK" in case else image.convert("RGBA") if "alpha" in case else image
    data = encoded(image, case.split()[0], **CUT[case])
    assert pixels(data).shape == (48, 64, 3)
    for part in (0.99, 0.9, 0.5, 0.2, 0.05):
        refused(data[: int(len(data) * part)])


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_bytes_are_refused_or_decoded_to_the_size_of_the_header(file_format):
    whole = encoded(scene(64, 48), file_format)
    random = np.random.default_rng(7)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 5):
            data[place] = random.integers(0, 256)
        try:
            header = inspect(bytes(data), "f", LIMITS)
            found = decode(bytes(data), header, "f")
        except ServiceError as error:
            assert error.kind is Kind.INVALID_ARGUMENT
        else:
            assert found.shape == (header.height, header.width, 3)


def test_decoding_in_threads():
    data, found = encoded(SCENE, "JPEG"), []
    threads = [threading.Thread(target=lambda: found.append(pixels(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.array_equal(found[0], other) for other in found)


def test_a_jpeg_of_several_pictures_is_its_first():
    file = io.BytesIO()
    SCENE.save(file, "MPO", save_all=True, append_images=[Image.new("RGB", SCENE.size)], quality=95, subsampling=0)
    assert difference(file.getvalue()) <= 8
