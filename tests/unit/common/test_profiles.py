import pytest
from google.protobuf import text_format

from services.common import profiles
from services.common.machine import Gpu, Machine
from services.common.profiles import best_first, least_memory, misfits, parse_profile, profile_of, profile_of_all
from services.common.triton import model_config_pb2

GIB = 1 << 30
H100 = Gpu("NVIDIA H100 80GB HBM3", "9.0", 80 * GIB)
T4 = Gpu("Tesla T4", "7.5", 15 * GIB)
V100 = Gpu("Tesla V100", "7.0", 16 * GIB)
BACKENDS = frozenset({"python", "onnxruntime", "tensorrt", "vllm"})


def machine(*gpus, driver="580.65.06", **facts):
    given = {"platform": "linux-x86_64", "memory_bytes": 16 * GIB, "backends": BACKENDS, "tensorrt": "11.4.0.1"}
    return Machine(**{**given, **facts}, gpus=gpus, driver=driver if gpus else "")


def config(text='platform: "tensorrt_plan"'):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def why_not(name, on, weights=GIB, made=None, instances=1):
    return misfits(parse_profile(name), made or config(), weights, instances, on)


def test_a_profile_that_fits_has_no_reasons():
    assert why_not("tensorrt-fp16", machine(T4)) == []
    assert why_not("tensorrt-fp8", machine(H100, H100)) == []
    assert why_not("cpu-int8", machine(), made=config('backend: "python"')) == []


@pytest.mark.parametrize(
    ("name", "on", "reason"),
    [
        ("tensorrt-fp16", machine(), "there is no NVIDIA GPU"),
        ("tensorrt-fp16", machine(V100), "needs compute capability 7.5, Tesla V100 has 7.0"),
        ("tensorrt-fp8", machine(T4), "needs compute capability 8.9, Tesla T4 has 7.5"),
        ("tensorrt-fp16", machine(T4, driver="570.133.20"), "needs NVIDIA driver 580 or later, this is 570.133.20"),
        ("tensorrt-fp16", machine(T4, driver="525.1", forward_compatible=True), "needs NVIDIA driver 535"),
        ("tensorrt-fp16", machine(T4, H100), "one kind of GPU, there are NVIDIA H100 80GB HBM3, Tesla T4"),
        ("tensorrt-fp16", machine(T4, backends=frozenset({"python"})), "no backend 'tensorrt' (it has: python)"),
        ("tensorrt-fp16", machine(T4, backends=frozenset()), "it has: none"),
        ("vllm-bf16-tp1", machine(T4), "needs compute capability 8.0"),
        ("vllm-bf16-tp2-pp2", machine(H100, H100), "needs 4 GPUs, this machine has 2"),
    ],
)
def test_each_reason_names_what_is_needed_and_what_is_there(name, on, reason):
    assert any(reason in text for text in why_not(name, on))


def test_an_older_driver_will_do_with_forward_compatibility():
    assert why_not("tensorrt-fp16", machine(T4, driver="570.1", forward_compatible=True)) == []


def test_backends_that_nobody_can_see_are_not_missed():
    assert why_not("tensorrt-fp16", machine(T4, backends=None)) == []


def test_an_engine_that_a_python_model_runs_needs_its_package(monkeypatch):
    python = config('backend: "python"')
    monkeypatch.setattr(profiles, "find_spec", lambda name: None)
    assert "Python package 'tensorrt'" in why_not("tensorrt-fp16", machine(T4), made=python)[0]
    monkeypatch.setattr(profiles, "find_spec", lambda name: object())
    assert why_not("tensorrt-fp16", machine(T4), made=python) == []


def test_too_little_memory_is_refused_on_gpu_and_cpu():
    assert "at least 15.5 GiB of each GPU, there are 15.0 GiB" in why_not("tensorrt-fp16", machine(T4), 15 * GIB)[0]
    assert (
        "of main memory, there are 16.0 GiB"
        in why_not("cpu-fp32", machine(), 5 * GIB, config('backend: "python"'), instances=4)[0]
    )
    unknown = Gpu("a slice", "9.0", 0)
    assert why_not("tensorrt-fp16", machine(unknown), 200 * GIB) == []


def test_parallel_profiles_share_the_weights_out():
    name = "vllm-bf16-tp2-pp2"
    found = parse_profile(name)
    assert (found.name, found.tensor_parallel, found.pipeline_parallel, found.gpus) == (name, 2, 2, 4)
    one = parse_profile("vllm-bf16-tp1")
    assert least_memory(found, 8 * GIB, 1) < least_memory(one, 8 * GIB, 1)
    assert (one.gpus, one.engine, one.automatic) == (1, False, True)


@pytest.mark.parametrize("name", ["", "cpu-fp23", "tensorrt-fp16-tp2", "vllm-bf16", "vllm-bf16-tp0", "vllm-bf16-tp1x"])
def test_what_is_no_profile(name):
    assert parse_profile(name) is None


def test_only_what_computes_like_the_original_is_taken_by_itself():
    taken = {name for name in profiles.known_profiles() if parse_profile(name).automatic}
    assert taken == {"tensorrt-fp16", "vllm-bf16-tp1"}


def test_the_order_of_preference():
    names = ["cpu-fp32", "strange", "cpu-int8", "vllm-bf16-tp4", "tensorrt-fp16"]
    assert best_first(names) == ["tensorrt-fp16", "vllm-bf16-tp4", "cpu-int8", "cpu-fp32", "strange"]


def test_the_profile_of_a_configuration():
    named = config('parameters { key: "profile" value { string_value: "cpu-int8" } }')
    assert profile_of(config()) == "cpu-fp32"
    assert profile_of(named) == "cpu-int8"
    assert profile_of_all([named, named]) == "cpu-int8"
    assert profile_of_all([named, config(), named]) == "cpu-int8+cpu-fp32"
    assert profiles.is_quantised(named)
    assert not profiles.is_quantised(config())
