"""Prompts as JSON: there and back, and errors that name the place."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_slidesam.errors import FileFormatError, PromptError
from napari_slidesam.geometry import Box
from napari_slidesam.io import prompts_from_dict, prompts_to_dict, read_prompts, write_prompts
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt

MASK = np.zeros((4, 5), bool)
MASK[1:3, 2:5] = True
PROMPTS = [
    ObjectPrompts(
        3,
        boxes=(BoxPrompt(30, Box(1.5, 2, 10, 12.25)), BoxPrompt(40, Box(0, 0, 1, 1))),
        points=(PointPrompt(31, 4.5, 5), PointPrompt(31, 0, 0, positive=False)),
        axis=2,
    ),
    ObjectPrompts(9, masks=(MaskPrompt(7, MASK),)),
]


def same(first, second):
    assert prompts_to_dict(first) == prompts_to_dict(second)


def test_there_and_back(tmp_path):
    path = write_prompts(tmp_path / "p.json", PROMPTS)
    found = read_prompts(path)
    same(found, PROMPTS)
    assert found[0].boxes == PROMPTS[0].boxes
    assert found[0].points == PROMPTS[0].points
    np.testing.assert_array_equal(found[1].masks[0].mask, MASK)


def test_the_format_is_the_documented_one():
    found = prompts_to_dict(PROMPTS)
    assert (found["format"], found["version"]) == ("napari-slidesam/prompts", 1)
    first, second = found["objects"]
    assert first["boxes"][0] == {"slice": 30, "box": [1.5, 2, 10, 12.25]}
    assert first["points"][1] == {"slice": 31, "point": [0, 0], "positive": False}
    assert (first["id"], first["axis"]) == (3, 2)
    rle = second["masks"][0]["rle"]
    assert rle == {"shape": [4, 5], "counts": [7, 3, 2, 3, 5]}


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
@settings(max_examples=50, deadline=None)
def test_any_mask_there_and_back(mask):
    mask[0, -1] = True  # a mask prompt is never empty
    prompts = [ObjectPrompts(1, masks=(MaskPrompt(0, mask),))]
    values = json.loads(json.dumps(prompts_to_dict(prompts)))
    np.testing.assert_array_equal(prompts_from_dict(values)[0].masks[0].mask, mask)


@given(
    box=st.tuples(*[st.floats(-1e6, 1e6)] * 2, *[st.floats(0.01, 1e6)] * 2),
    slice_index=st.integers(0, 10**6),
    axis=st.sampled_from([0, 1, 2]),
)
@settings(max_examples=50, deadline=None)
def test_any_box_there_and_back(box, slice_index, axis):
    y, x, height, width = box
    prompt = BoxPrompt(slice_index, Box(y, x, y + height, x + width))
    text = json.dumps(prompts_to_dict([ObjectPrompts(1, boxes=(prompt,), axis=axis)]))
    (found,) = prompts_from_dict(json.loads(text))
    assert (found.boxes, found.axis) == ((prompt,), axis)


def test_what_may_be_left_out():
    values = {
        "format": "napari-slidesam/prompts",
        "version": 1,
        "objects": [
            {"id": 1, "points": [{"slice": 2, "point": [3, 4]}]},
            {"id": 2, "axis": "x", "boxes": [{"slice": 0, "box": [0, 0, 1, 1]}]},
        ],
    }
    first, second = prompts_from_dict(values)
    assert (first.axis, first.points) == (0, (PointPrompt(2, 3, 4),))
    assert second.axis == 2


def test_no_objects_is_no_error():
    assert prompts_from_dict(prompts_to_dict([])) == []


WRONG = [
    (("format",), "other", "format"),
    (("version",), 2, "Update napari-slidesam"),
    (("objects",), None, "the file.objects: expected a list"),
    (("objects",), {}, "the file.objects: expected a list"),
    (("extra",), 1, "unknown names"),
    (("objects", 0), 5, r"objects\[0\]: expected an object"),
    (("objects", 0, "id"), "one", r"objects\[0\]\.id"),
    (("objects", 0, "id"), True, r"objects\[0\]\.id"),
    (("objects", 0, "id"), 0, "positive integer"),
    (("objects", 1, "id"), 3, r"objects\[1\]\.id: 3 is there twice"),
    (("objects", 0, "axis"), 3, r"objects\[0\]\.axis"),
    (("objects", 0, "point"), [], r"objects\[0\]: unknown names \['point'\]"),
    (("objects", 0, "boxes"), {}, r"objects\[0\]\.boxes: expected a list"),
    (("objects", 0, "boxes", 1, "slice"), 1.5, r"objects\[0\]\.boxes\[1\]\.slice"),
    (("objects", 0, "boxes", 0, "box"), [0, 0, 1], r"boxes\[0\]\.box: expected 4 finite"),
    (("objects", 0, "boxes", 0, "box"), [0, 0, 1, "a"], r"boxes\[0\]\.box: expected 4 finite"),
    (("objects", 0, "boxes", 0, "box"), [0, 0, 1, float("nan")], r"boxes\[0\]\.box: expected 4"),
    (("objects", 0, "boxes", 0, "box"), [0, 0, 1, 10**400], r"boxes\[0\]\.box: expected 4"),
    (("objects", 0, "boxes", 0, "box"), [5, 5, 1, 1], r"boxes\[0\]\.box: A box needs y1 > y0"),
    (("objects", 0, "boxes", 1, "slice"), 30, r"objects\[0\]: .*two boxes"),
    (("objects", 0, "points", 0, "point"), [1], r"points\[0\]\.point: expected 2"),
    (("objects", 0, "points", 0, "positive"), 1, r"points\[0\]\.positive: expected true"),
    (("objects", 1, "masks", 0, "rle"), [], r"masks\[0\]\.rle: expected an object"),
    (("objects", 1, "masks", 0, "rle", "shape"), [4], r"rle\.shape: expected two"),
    (("objects", 1, "masks", 0, "rle", "shape"), [4, 0], r"rle\.shape: expected two"),
    (("objects", 1, "masks", 0, "rle", "counts"), [7, 3], r"add up to 10.*20 pixels"),
    (("objects", 1, "masks", 0, "rle", "counts"), [-1, 21], r"counts: expected whole"),
    (("objects", 1, "masks", 0, "rle", "counts"), [20], r"masks\[0\]\.rle: .*empty"),
]


@pytest.mark.parametrize(("where", "value", "says"), WRONG)
def test_errors_name_the_place(tmp_path, where, value, says):
    values = copy.deepcopy(prompts_to_dict(PROMPTS))
    part = values
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(PromptError, match=says):
        prompts_from_dict(values)
    path = tmp_path / "p.json"
    path.write_text(json.dumps(values))
    with pytest.raises(PromptError, match=rf"(?s)p\.json.*{says}"):
        read_prompts(path)


def test_text_that_is_no_json(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"format": "napari-slidesam/prompts",\n "version": 1, "obj')
    with pytest.raises(PromptError, match=r"p\.json, line 2, column 16"):
        read_prompts(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="cannot be read as text"):
        read_prompts(path)
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_prompts(tmp_path / "missing.json")


def test_an_existing_file_stays(tmp_path, folder_content):
    path = tmp_path / "p.json"
    path.write_text("mine")
    with pytest.raises(FileFormatError, match="overwrite"):
        write_prompts(path, PROMPTS)
    assert path.read_text() == "mine"
    write_prompts(path, PROMPTS, overwrite=True)
    same(read_prompts(path), PROMPTS)
    assert folder_content(tmp_path) == ["p.json"]
