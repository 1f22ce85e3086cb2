"""Optimisation profiles: what they cover of the configurations' limits, and what has no bounds."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.common.runtime_repository import MODEL_REPOSITORY, read_config
from services.common.triton import model_config_pb2
from tools.cli.console import Problem
from tools.engines.shapes import Range, covering, from_json, optimisation_profiles, to_json

GRAPHS = {
    "embedding/all_minilm_l6_v2": ["input_ids", "attention_mask"],
    "vision/centerface": ["pixels"],
    "vision/efficientnet_lite0": ["pixels"],
    "vision/pp_ocrv6_cls": ["pixels"],
    "vision/pp_ocrv6_det": ["pixels"],
    "vision/pp_ocrv6_rec": ["pixels"],
    "vision/ssd_mobilenet_v2": ["pixels"],
}


def profiles_of(folder: str) -> tuple[Mapping[str, Range], ...]:
    return optimisation_profiles(read_config(MODEL_REPOSITORY / folder / "config.pbtxt"))


@pytest.mark.parametrize("folder", GRAPHS)
def test_every_default_graph_has_profiles_that_survive_json(folder: str) -> None:
    profiles = profiles_of(folder)
    assert from_json(to_json(profiles)) == profiles
    for profile in profiles:
        assert sorted(profile) == sorted(GRAPHS[folder])
        for one in profile.values():
            assert one.covers(one.least) and one.covers(one.tuned) and one.covers(one.greatest)


@pytest.mark.parametrize("batch", [1, 7, 32])
@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 128, 129, 512])
def test_the_encoder_takes_every_length_and_batch(batch: int, length: int) -> None:
    fitting = covering(
        profiles_of("embedding/all_minilm_l6_v2"), {"input_ids": (batch, length), "attention_mask": (batch, length)}
    )
    assert fitting
    assert fitting[0] == [32, 64, 128, 256, 512].index(next(end for end in (32, 64, 128, 256, 512) if end >= length))


@pytest.mark.parametrize(
    ("batch", "length"), [(0, 8), (33, 8), (1, 0), (1, 513)], ids=["no row", "rows", "no token", "tokens"]
)
def test_no_profile_takes_what_the_configuration_forbids(batch: int, length: int) -> None:
    shapes = {"input_ids": (batch, length), "attention_mask": (batch, length)}
    assert covering(profiles_of("embedding/all_minilm_l6_v2"), shapes) == ()


@pytest.mark.parametrize("side", [(32, 32), (736, 992), (2016, 2016), (736, 4096), (4096, 736), (32, 4096)])
def test_pages_as_the_service_sends_them_are_covered(side: tuple[int, int]) -> None:
    assert covering(profiles_of("vision/pp_ocrv6_det"), {"pixels": (4, *side, 3)})


@pytest.mark.parametrize("width", [32, 320, 321, 1024, 1025, 4096])
def test_lines_of_every_width_are_covered(width: int) -> None:
    assert covering(profiles_of("vision/pp_ocrv6_rec"), {"pixels": (8, 48, width, 3)})


def test_names_and_ranks_count() -> None:
    profiles = profiles_of("vision/efficientnet_lite0")
    assert covering(profiles, {"pixels": (32, 224, 224, 3)}) == (0,)
    assert covering(profiles, {"picture": (32, 224, 224, 3)}) == ()
    assert covering(profiles, {"pixels": (32, 224, 224)}) == ()
    assert covering(profiles, {}) == ()


def test_free_axes_without_bounds_are_refused(tmp_path: Path) -> None:
    config = model_config_pb2.ModelConfig(name="toy", max_batch_size=8)
    config.input.add(name="x", dims=[-1])
    with pytest.raises(Problem, match="toy: nothing bounds the free axes of x") as raised:
        optimisation_profiles(config)
    assert "max_sequence_length" in raised.value.next_step


def test_a_shorter_limit_leaves_out_the_buckets_beyond() -> None:
    config = model_config_pb2.ModelConfig(name="toy", max_batch_size=4)
    config.input.add(name="x", dims=[-1])
    config.parameters["max_sequence_length"].string_value = "100"
    assert [profile["x"].greatest for profile in optimisation_profiles(config)] == [(4, 32), (4, 64), (4, 100)]
