from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.cli.parsing import (
    collect_prompts,
    parse_axes,
    parse_box,
    parse_channel,
    parse_intensity,
    parse_numbers,
    parse_pair,
    parse_point,
    parse_range,
)
from napari_slidesam.errors import ConfigError, PromptError, VolumeError
from napari_slidesam.geometry import Box
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts, PointPrompt
from napari_slidesam.volume import Intensity


def test_box_with_and_without_id() -> None:
    assert parse_box("4,1,2,3,5.5") == (None, BoxPrompt(4, Box(1, 2, 3, 5.5)))
    assert parse_box(" 7@4, 1, 2, 3, 5") == (7, BoxPrompt(4, Box(1, 2, 3, 5)))


@settings(max_examples=50, deadline=None)
@given(
    z=st.integers(0, 10_000),
    corner=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    size=st.tuples(st.floats(0.1, 1e4), st.floats(0.1, 1e4)),
    object_id=st.none() | st.integers(1, 99),
)
def test_box_round_trip(
    z: int, corner: tuple[float, float], size: tuple[float, float], object_id: int | None
) -> None:
    (y, x), (height, width) = corner, size
    box = Box(y, x, y + height, x + width)
    head = "" if object_id is None else f"{object_id}@"
    text = head + ",".join([str(z), *(repr(v) for v in box.yxyx)])
    assert parse_box(text) == (object_id, BoxPrompt(z, box))


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3,4", "1,2,3,4,5,6", "a,1,2,3,4", "1.5,1,2,3,4", "1,1,2,x,4", "z@1,1,2,3,4",
     "1,1,2,nan,4", "1,1,2,inf,4", "1,5,2,3,4", "1,1,2,1,4", "@1,1,2,3,4"],
)  # fmt: skip
def test_malformed_boxes_are_refused(text: str) -> None:
    with pytest.raises(PromptError):
        parse_box(text)


def test_points() -> None:
    assert parse_point("3,4,5") == (None, PointPrompt(3, 4, 5))
    assert parse_point("3,4,5,-") == (None, PointPrompt(3, 4, 5, positive=False))
    assert parse_point("2@3,4.5,5,+") == (2, PointPrompt(3, 4.5, 5))


@pytest.mark.parametrize("text", ["3,4", "3,4,5,*", "3,4,5,+,-", "3.2,4,5", "3,a,5"])
def test_malformed_points_are_refused(text: str) -> None:
    with pytest.raises(PromptError):
        parse_point(text)


def test_ranges() -> None:
    assert parse_range("2:5", 10) == (2, 5)
    assert parse_range(":5", 10) == (0, 5)
    assert parse_range("5:", 10) == (5, 10)
    assert parse_range(":", 10) == (0, 10)


@pytest.mark.parametrize("text", ["5", "a:b", "5:5", "6:5", "0:11", "-1:3", "1:2:3"])
def test_bad_ranges_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_range(text, 10)


def test_intensities() -> None:
    assert parse_intensity("CT") == Intensity("ct")
    assert parse_intensity("limits:-100:300") == Intensity("limits", -100, 300)
    assert parse_intensity("percentiles:1:99") == Intensity("percentiles", 1, 99)
    assert parse_intensity("percentiles").lower is not None


@pytest.mark.parametrize(
    "text", ["pet", "limits", "limits:1", "limits:a:b", "limits:3:1", "ct:1:2"]
)
def test_bad_intensities_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_intensity(text)


def test_channels() -> None:
    assert parse_channel("2") == 2
    assert parse_channel("0.5,0.5,0") == (0.5, 0.5, 0.0)
    with pytest.raises(ConfigError):
        parse_channel("red")


def test_each_box_is_an_object_of_its_own() -> None:
    first, second = collect_prompts(["3,0,0,5,5", "4,9,9,12,12"], [])
    assert (first.object_id, second.object_id) == (1, 2)
    assert first.boxes[0].slice_index == 3


def test_given_ids_are_kept_and_free_ones_found() -> None:
    found = collect_prompts(["2@3,0,0,5,5", "4,9,9,12,12", "2@6,0,0,5,5", "1,1,1,2,2"], [])
    assert {p.object_id: len(p.boxes) for p in found} == {1: 1, 2: 2, 3: 1}


def test_same_object_takes_all_boxes() -> None:
    (only,) = collect_prompts(["3,0,0,5,5", "9,0,0,5,5"], [], same_object=True)
    assert only.anchor_slices == (3, 9)


def test_a_point_belongs_to_the_only_object() -> None:
    (only,) = collect_prompts(["3,0,0,5,5"], ["4,1,1,-"])
    assert only.points == (PointPrompt(4, 1, 1, positive=False),)
    (alone,) = collect_prompts([], ["4,1,1"], axis=2)
    assert (alone.object_id, alone.axis) == (1, 2)


def test_a_point_among_several_objects_needs_an_id() -> None:
    with pytest.raises(PromptError, match="ID@"):
        collect_prompts(["3,0,0,5,5", "4,9,9,12,12"], ["4,1,1"])
    found = collect_prompts(["3,0,0,5,5", "4,9,9,12,12"], ["2@4,10,10"])
    assert found[1].points
    assert not found[0].points


def test_prompts_are_added_to_those_of_a_file() -> None:
    stored = ObjectPrompts(5, boxes=(BoxPrompt(1, Box(0, 0, 2, 2)),), axis=1)
    found = collect_prompts(["5@3,0,0,5,5", "4,9,9,12,12"], [], from_file=[stored])
    assert {p.object_id: p.anchor_slices for p in found} == {1: (4,), 5: (1, 3)}
    assert {p.axis for p in found} == {1}
    with pytest.raises(PromptError, match="axis 1"):
        collect_prompts([], [], axis=0, from_file=[stored])


def test_no_prompt_and_contradictions_are_refused() -> None:
    with pytest.raises(PromptError, match="--box"):
        collect_prompts([], [])
    with pytest.raises(PromptError, match="two boxes"):
        collect_prompts(["3,0,0,5,5", "3,1,1,5,5"], [], same_object=True)
    with pytest.raises(PromptError, match="positive"):
        collect_prompts([], ["3,1,1,-"])


def test_pairs_axes_and_numbers() -> None:
    assert parse_pair("a b.nii.gz, c.nii.gz") == (Path("a b.nii.gz"), Path("c.nii.gz"))
    assert parse_axes("zyx") == parse_axes("z,y,x") == (0, 1, 2)
    assert parse_axes("xzx") == (2, 0)
    assert parse_numbers("3,1, 7") == (3, 1, 7)
    for text in ("a", "a,", ",b", "a,b,c"):
        with pytest.raises(ConfigError, match="IMAGE,LABELS"):
            parse_pair(text)
    for text in ("", "q", "zq"):
        with pytest.raises(VolumeError):
            parse_axes(text)
    with pytest.raises(ConfigError, match="whole numbers"):
        parse_numbers("1,b")
