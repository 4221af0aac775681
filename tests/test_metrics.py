from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_slidesam.errors import VolumeError
from napari_slidesam.metrics import bounding_box, dice, iou, stability_score, surface_dice

MASKS = arrays(np.bool_, (4, 5, 6))


def slow_surface_dice(a, b, spacing, tolerance):
    """The definition, voxel by voxel."""

    def surface(mask):
        padded = np.pad(mask, 1)
        return np.argwhere((padded & ~ndimage.binary_erosion(padded))[1:-1, 1:-1, 1:-1])

    points_a, points_b = surface(a) * spacing, surface(b) * spacing
    if not len(points_a) and not len(points_b):
        return 1.0
    if not len(points_a) or not len(points_b):
        return 0.0
    distances = np.linalg.norm(points_a[:, None] - points_b[None], axis=-1)
    near = (distances.min(1) <= tolerance + 1e-9).sum() + (
        distances.min(0) <= tolerance + 1e-9
    ).sum()
    return near / (len(points_a) + len(points_b))


def test_dice_and_iou_by_hand():
    a = np.array([[1, 1, 0], [0, 0, 0]])
    b = np.array([[0, 1, 1], [1, 0, 0]])
    assert dice(a, b) == pytest.approx(2 / 5)
    assert iou(a, b) == pytest.approx(1 / 4)


@pytest.mark.parametrize("metric", [dice, iou, lambda a, b: surface_dice(a, b, (1, 1), 1)])
def test_empty_masks(metric):
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    assert metric(empty, empty) == 1.0
    assert metric(empty, full) == 0.0
    assert metric(full, empty) == 0.0


@given(MASKS, MASKS)
@settings(max_examples=50, deadline=None)
def test_dice_and_iou_are_two_views_of_one_number(a, b):
    overlap = iou(a, b)
    assert dice(a, b) == pytest.approx(2 * overlap / (1 + overlap))
    assert dice(a, b) == dice(b, a)
    assert dice(a, a) == iou(a, a) == 1.0


@given(
    MASKS,
    MASKS,
    st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3),
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 100.0]),
)
@settings(max_examples=50, deadline=None)
def test_surface_dice_is_its_definition(a, b, spacing, tolerance):
    expected = slow_surface_dice(a, b, np.array(spacing), tolerance)
    assert surface_dice(a, b, spacing, tolerance) == pytest.approx(expected)


def test_surface_dice_of_a_shifted_cube():
    a, b = np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12), bool)
    a[2:6, 2:6, 2:6] = True
    b[3:7, 2:6, 2:6] = True
    assert surface_dice(a, b, (2.0, 1.0, 1.0), 2.0) == 1.0
    # Without tolerance the shared faces alone agree: 2 rows of 12 and 2 of 4 inner voxels less.
    assert surface_dice(a, b, (2.0, 1.0, 1.0), 0.0) == pytest.approx(36 / 56)


def test_surface_dice_of_masks_far_apart():
    a, b = np.zeros((40, 4, 4), bool), np.zeros((40, 4, 4), bool)
    a[:3], b[-3:] = True, True
    assert surface_dice(a, b, (1, 1, 1), 5) == 0.0


def test_surface_dice_counts_the_volume_end_as_surface():
    a = np.ones((3, 3), bool)
    b = np.pad(np.ones((1, 1), bool), 1)
    assert surface_dice(a, b, (1, 1), 0.0) == 0.0
    assert surface_dice(a, b, (1, 1), 1.0) == pytest.approx((4 + 1) / 9)


@pytest.mark.parametrize(
    ("spacing", "tolerance"),
    [
        ((1, 1), 1.0),
        ((1, 1, 0), 1.0),
        ((1, 1, np.nan), 1.0),
        ((1, 1, 1), -1.0),
        ((1, 1, 1), np.nan),
    ],
)
def test_surface_dice_refuses_bad_distances(spacing, tolerance):
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(VolumeError):
        surface_dice(mask, mask, spacing, tolerance)


@pytest.mark.parametrize("metric", [dice, iou, lambda a, b: surface_dice(a, b, (1, 1), 1)])
def test_shapes_must_agree(metric):
    with pytest.raises(VolumeError, match="one shape"):
        metric(np.ones((2, 3)), np.ones((3, 2)))


def test_stability_by_hand():
    logits = np.array([-1.0, -0.05, 0.0, 0.05, 0.2, 3.0])
    assert stability_score(logits, 0.1) == pytest.approx(2 / 5)
    assert stability_score(logits, 0.0) == 1.0
    assert stability_score(np.full(4, -5.0), 0.1) == 1.0
    assert stability_score(np.full(4, 0.0), 0.1) == 0.0


def test_stability_refuses_a_negative_offset():
    with pytest.raises(VolumeError, match="offset"):
        stability_score(np.zeros(3), -0.1)


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_bounding_box_is_tight(mask):
    box = bounding_box(mask)
    if box is None:
        assert not mask.any()
        return
    inside = mask[box]
    assert inside.sum() == mask.sum()
    for axis in range(3):
        ends = np.moveaxis(inside, axis, 0)
        assert ends[0].any()
        assert ends[-1].any()
