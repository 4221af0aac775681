"""Prompts of an object: what is accepted, and what is refused in clear words."""

from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import Box
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt

BOX = Box(1, 1, 4, 5)
MASK = np.zeros((6, 8), bool)
MASK[2:4, 3:6] = True


def prompts(**parts) -> ObjectPrompts:
    return ObjectPrompts(1, **parts)


def test_prompts_of_any_mix_on_any_slices():
    mixed = prompts(
        boxes=[BoxPrompt(7, BOX)],
        points=[PointPrompt(2, 1, 1), PointPrompt(9, 0, 0, positive=False)],
        masks=[MaskPrompt(4, MASK)],
        axis=2,
    )
    assert mixed.anchor_slices == (2, 4, 7)
    assert mixed.slice_indices == (2, 4, 7, 9)
    assert mixed.box_on(7) == BOX
    assert mixed.box_on(4) == Box(2, 3, 4, 6)
    assert mixed.box_on(2) is None
    assert mixed.mask_on(7) is None
    np.testing.assert_array_equal(mixed.mask_on(4), MASK)
    assert [p.positive for p in mixed.points_on(9)] == [False]
    mixed.check_against(10, (6, 8))


def test_a_drawn_box_goes_before_the_masks():
    both = prompts(boxes=[BoxPrompt(4, BOX)], masks=[MaskPrompt(4, MASK)])
    assert both.box_on(4) == BOX


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({}, "where it is"),
        ({"points": [PointPrompt(0, 1, 1, positive=False)]}, "Negative points alone"),
        ({"boxes": [BoxPrompt(3, BOX), BoxPrompt(3, BOX)]}, "two boxes on slice 3"),
        ({"masks": [MaskPrompt(3, MASK), MaskPrompt(3, MASK)]}, "two masks on slice 3"),
        ({"boxes": [BoxPrompt(0, BOX)], "axis": 3}, "axis is 0, 1 or 2"),
        (
            {"points": [PointPrompt(0, 1, 2), PointPrompt(0, 1, 2, positive=False)]},
            "both positive and negative",
        ),
    ],
)
def test_missing_doubled_and_contradicting_prompts_are_refused(parts, says):
    with pytest.raises(PromptError, match=says):
        prompts(**parts)


@pytest.mark.parametrize("object_id", [0, -1])
def test_ids_are_positive(object_id):
    with pytest.raises(PromptError, match="positive integer"):
        ObjectPrompts(object_id, boxes=(BoxPrompt(0, BOX),))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"boxes": [BoxPrompt(10, BOX)]}, "slices 0 to 9"),
        ({"boxes": [BoxPrompt(-1, BOX)]}, "slices 0 to 9"),
        ({"points": [PointPrompt(99, 1, 1)]}, "slices 0 to 9"),
        ({"masks": [MaskPrompt(99, MASK)]}, "slices 0 to 9"),
        ({"boxes": [BoxPrompt(0, Box(6, 0, 7, 1))]}, "outside the plane"),
        ({"boxes": [BoxPrompt(0, Box(0, -5, 1, 0))]}, "outside the plane"),
        ({"points": [PointPrompt(0, 6, 1)]}, "outside the plane"),
        ({"points": [PointPrompt(0, 1, -0.6)]}, "outside the plane"),
        ({"masks": [MaskPrompt(0, np.ones((8, 6), bool))]}, "has shape"),
    ],
)
def test_prompts_beyond_the_volume_are_refused(parts, says):
    with pytest.raises(PromptError, match=says):
        prompts(**parts).check_against(10, (6, 8))


def test_a_box_that_touches_the_plane_is_accepted():
    prompts(boxes=[BoxPrompt(0, Box(-3, -3, 1, 1))]).check_against(10, (6, 8))


@pytest.mark.parametrize("point", [(0.0, float("nan")), (float("inf"), 1.0)])
def test_points_are_finite(point):
    with pytest.raises(PromptError, match="finite"):
        PointPrompt(0, *point)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.zeros((4, 4), bool), "empty"),
        (np.ones((4, 4, 1), bool), "2 dimensions"),
        (np.ones((4, 4)), "bool or integer"),
    ],
)
def test_unusable_masks_are_refused(mask, says):
    with pytest.raises(PromptError, match=says):
        MaskPrompt(0, mask)


def test_label_values_are_a_mask():
    np.testing.assert_array_equal(MaskPrompt(0, MASK.astype(np.uint16) * 7).mask, MASK)
