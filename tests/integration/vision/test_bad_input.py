"""Bad input over gRPC: the right code, the field by name, bounded memory, and the next call works."""

import grpc
import psutil
import pytest
from flotilla.vision.v1 import vision_pb2 as pb
from PIL import Image

from services.common.errors import Kind, from_rpc_error
from services.common.triton import service_pb2, service_pb2_grpc
from tests.bad_calls import assert_names, refused
from tests.integration.vision.known_pictures import images, page
from tests.unit.vision.pictures import encoded, png_header, scene

PNG, JPEG = encoded(scene()), encoded(scene(), "JPEG")
GOOD = images(PNG)
NAN = float("nan")
BAD = {
    "truncated JPEG": ("Classify", {"images": images(JPEG[:-100])}, "images[0].data"),
    "truncated PNG": ("Detect", {"images": images(PNG, PNG[:-60])}, "images[1].data"),
    "PNG bomb": ("ReadText", {"images": images(png_header(50_000, 50_000))}, "images[0].data"),
    "SVG": ("Classify", {"images": images(b'<?xml version="1.0"?><svg/>')}, "images[0].data"),
    "PDF": ("ReadText", {"images": images(b"%PDF-1.7 ...")}, "images[0].data"),
    "no bytes": ("DetectFaces", {"images": images(b"")}, "images[0].data"),
    "no pictures": ("DetectFaces", {}, "images"),
    "1,000 pictures": ("Classify", {"images": GOOD * 1000}, "images"),
    "NaN threshold": ("Detect", {"images": GOOD, "threshold": NAN}, "threshold"),
    "NaN iou_threshold": ("Detect", {"images": GOOD, "iou_threshold": NAN}, "iou_threshold"),
    "top_k 0": ("Classify", {"images": GOOD, "top_k": 0}, "top_k"),
    "top_k 100,000": ("DetectFaces", {"images": GOOD, "top_k": 100_000}, "top_k"),
    "unknown label": ("Detect", {"images": GOOD, "labels": ["unicorn"]}, "labels[0]"),
    "model of another task": ("Detect", {"images": GOOD, "model": "pp-ocrv6"}, "model"),
}


async def assert_works(stub):
    assert len((await stub.Classify(pb.ClassifyRequest(images=GOOD))).results) == 1


@pytest.mark.parametrize("case", BAD)
async def test_bad_calls_are_refused_by_name(stub, case):
    method, fields, field = BAD[case]
    error = await refused(getattr(stub, method)(getattr(pb, f"{method}Request")(**fields)))
    assert_names(error, field)
    await assert_works(stub)


async def test_an_unknown_model_is_not_found(stub):
    error = await refused(stub.ReadText(pb.ReadTextRequest(images=GOOD, model="x")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert_names(error, "model", Kind.NOT_FOUND)
    assert "pp-ocrv6" in error.details()


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
@pytest.mark.parametrize("method", ["Classify", "Detect", "ReadText", "DetectFaces"])
async def test_odd_sizes_are_answered(stub, method, size):
    file = encoded(Image.new("RGB", size, (90, 120, 200)))
    request = getattr(pb, f"{method}Request")(images=images(file), annotate=True)
    (result,) = (await getattr(stub, method)(request)).results
    assert (result.image.width, result.image.height) == size


async def test_a_wrong_extension_is_no_matter(stub):
    """Files have no names here: what counts is what they are."""
    files = images(*(encoded(scene(), file_format) for file_format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")))
    assert len((await stub.Classify(pb.ClassifyRequest(images=files))).results) == 6


async def test_bombs_cost_nothing(service, stub):
    await assert_works(stub)
    before = psutil.Process(service.pid).memory_info().rss
    bombs = images(*[png_header(50_000, 50_000)] * 64)
    for _ in range(10):
        await refused(stub.ReadText(pb.ReadTextRequest(images=bombs)))
    assert psutil.Process(service.pid).memory_info().rss - before < 20 * 2**20


async def test_the_largest_picture_leaves_no_memory_behind(service, stub):
    large = images(encoded(Image.new("RGB", (7000, 7000), "white"), "PNG"))
    process = psutil.Process(service.pid)

    async def rss():
        await stub.Classify(pb.ClassifyRequest(images=large))
        return process.memory_info().rss

    first = await rss()
    assert max([await rss() for _ in range(6)]) - first < 100 * 2**20


async def test_a_stream_tells_of_each_bad_picture(stub):
    files = images(JPEG, b"", JPEG[:-100], png_header(50_000, 50_000), b"text", page())
    *answers, last = [
        m async for m in stub.InferStream(pb.InferStreamRequest(classify=pb.ClassifyRequest(images=files)))
    ]
    bad = {m.error.index: m.error for m in answers if m.WhichOneof("result") == "error"}
    assert sorted(bad) == [1, 2, 3, 4]
    assert all(error.message.startswith(f"images[{index}].data") for index, error in bad.items())
    assert last.usage.images == 2


async def test_a_stream_with_a_bad_parameter_is_refused_whole(stub):
    request = pb.InferStreamRequest(detect=pb.DetectRequest(images=GOOD, threshold=NAN))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [_ async for _ in stub.InferStream(request)]
    assert_names(caught.value, "threshold")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [_ async for _ in stub.InferStream(pb.InferStreamRequest())]
    assert_names(caught.value, "request")


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("efficientnet_lite0", (1, 224, 225, 3)),
        ("pp_ocrv6_det", (1, 33, 32, 3)),
        ("centerface", (1, 32, 32, 4)),
        ("pp_ocrv6_rec", (1, 47, 320, 3)),
    ],
)
async def test_raw_tensors_that_do_not_fit_are_refused(channel, stub, model, shape):
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="pixels", datatype="UINT8", shape=shape)
    count = shape[1] * shape[2] * shape[3]
    request.raw_input_contents.append(bytes(count))
    error = await refused(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request))
    assert from_rpc_error(error).kind is Kind.INVALID_ARGUMENT
    await assert_works(stub)
