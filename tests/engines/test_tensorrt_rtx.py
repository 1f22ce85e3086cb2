"""The real builder of TensorRT-RTX, which needs no GPU, in an environment of its own that is made once and kept.

Not part of a plain tools/test: 400 MB are installed. Run: tools/test tests/engines
"""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from services.common.settings import CommonSettings
from tools.benchmark.peer_environment import environment, pinned
from tools.cli.console import Problem
from tools.engines.builders import EnvironmentBuilder
from tools.engines.tensorrt import BuildRequest
from tools.engines.tensorrt_runtime import RunRequest

PACKAGES = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "cuda-bindings", "numpy")
WIDTH = 16
PROFILES = [
    {"x": [[1, 1, WIDTH], [2, 8, WIDTH], [4, 32, WIDTH]]},
    {"x": [[1, 1, WIDTH], [2, 64, WIDTH], [4, 128, WIDTH]]},
]
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="session")
async def python() -> Path:
    requirements = [f"{name}=={pinned(name)}" for name in PACKAGES]
    return await environment(CommonSettings().state_dir.resolve() / "engines" / "tensorrt-rtx", requirements, print)


@pytest.fixture
def builder(python: Path, tmp_path: Path) -> EnvironmentBuilder:
    return EnvironmentBuilder("tensorrt-rtx", python, tmp_path)


def write_graph(path: Path, operator: str = "Relu", **attributes: object) -> Path:
    """Write x [batch, steps, 16] -> matrix product -> one operator -> y."""
    shape = ["batch", "steps", WIDTH]
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["product"], name="product"),
        helper.make_node(operator, ["product"], ["y"], name="last", **attributes),
    ]
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [WIDTH, WIDTH], [0.5] * WIDTH * WIDTH)
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def request(graph: Path, **changes: object) -> BuildRequest:
    fields = {
        "builder": "tensorrt-rtx",
        "graph": str(graph),
        "out": str(graph.with_suffix(".engine")),
        "profiles": PROFILES,
        "workspace_bytes": 1 << 30,
    }
    return BuildRequest(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_graph_with_two_profiles_is_serialised_and_described(builder: EnvironmentBuilder, tmp_path: Path) -> None:
    graph, lines = write_graph(tmp_path / "toy.onnx"), list[str]()
    facts = builder.build(request(graph), lines.append)
    assert facts["builder"] == builder.version() == f"tensorrt-rtx {pinned('tensorrt-rtx-cu13-libs')}"
    assert facts["inputs"] == {"x": ["FP32", [-1, -1, WIDTH]]} and facts["outputs"] == {"y": ["FP32", [-1, -1, WIDTH]]}
    assert facts["cuda_graph_obstacles"] == []
    assert (tmp_path / "toy.engine").stat().st_size > WIDTH * WIDTH
    assert any(" of " in line for line in lines), "progress is shown"


def refusal(builder: EnvironmentBuilder, asked: BuildRequest) -> str:
    with pytest.raises(Problem) as raised:
        builder.build(asked, lambda _line: None)
    assert "\n" not in raised.value.message
    assert not Path(asked.out).exists()
    return raised.value.message


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None], ids=["empty", "garbage", "cut"])
def test_a_corrupt_graph_is_one_clear_line(builder: EnvironmentBuilder, tmp_path: Path, content: bytes | None) -> None:
    graph = write_graph(tmp_path / "toy.onnx")
    graph.write_bytes(graph.read_bytes()[:500] if content is None else content)
    assert "no ONNX file, or a corrupt one" in refusal(builder, request(graph))


def test_an_operator_that_is_not_supported_is_named(builder: EnvironmentBuilder, tmp_path: Path) -> None:
    said = refusal(builder, request(write_graph(tmp_path / "toy.onnx", "Det")))
    assert "operator Det (node 'last', number 1) is not supported: UNSUPPORTED_NODE" in said


def test_a_profile_beyond_the_memory_is_refused(builder: EnvironmentBuilder, tmp_path: Path) -> None:
    large = [{"x": [[1, 1, WIDTH], [4096, 4096, WIDTH], [4096, 4096, WIDTH]]}]
    graph = write_graph(tmp_path / "toy.onnx", "Softmax", axis=1)
    said = refusal(builder, request(graph, profiles=large, workspace_bytes=1 << 20))
    assert "needs more memory than the limit allows" in said or "no engine could be built" in said


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ([{"y": [[1, 1, WIDTH]] * 3}], "profile 0 is for inputs y; the graph has x"),
        ([{"x": [[1, 1, WIDTH], [2, 2, WIDTH], [1, 1, WIDTH]]}], "profile 0 does not fit the graph"),
        ([{"x": [[1, 1, WIDTH + 1]] * 3}], "Dimension mismatch for tensor x"),
        ([{"x": [[1, WIDTH]] * 3}], "has 3 dimensions but profile 0 has 2 dimensions"),
    ],
    ids=["name", "order", "width", "rank"],
)
def test_profiles_that_do_not_fit_the_graph_are_refused(
    builder: EnvironmentBuilder, tmp_path: Path, profiles: list[object], message: str
) -> None:
    assert message in refusal(builder, request(write_graph(tmp_path / "toy.onnx"), profiles=profiles))


def test_a_gpu_it_does_not_build_for_is_named(builder: EnvironmentBuilder, tmp_path: Path) -> None:
    said = refusal(builder, request(write_graph(tmp_path / "toy.onnx"), compute_capabilities=["9.0"]))
    assert said == "tensorrt-rtx: tensorrt-rtx does not build for compute capability 9.0"


def test_running_without_a_gpu_is_one_clear_line(builder: EnvironmentBuilder, tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("there is a GPU")
    asked = RunRequest("tensorrt-rtx", str(tmp_path / "none"), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), [0])
    with pytest.raises(Problem, match=r"cudaGetDeviceCount: .* no usable NVIDIA GPU"):
        builder.run(asked, lambda _line: None)
