from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation import planar
from napari_slidesam.evaluation.planar import grabcut_in_box, otsu_in_box, walker_in_box
from napari_slidesam.geometry import Box, mask_to_box
from napari_slidesam.metrics import dice

SEGMENTERS = [otsu_in_box, grabcut_in_box, walker_in_box]


def disk(shape, y, x, radius):
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    return (ys - y) ** 2 + (xs - x) ** 2 <= radius**2


def on_plane(found, shape):
    mask = np.zeros(shape, bool)
    mask[found.region.slices] = found.mask
    return mask


@pytest.fixture(params=[1, -1], ids=["bright", "dark"])
def contrast(request):
    return request.param


@pytest.mark.parametrize("segment", SEGMENTERS)
@pytest.mark.parametrize("radius", [9, 60], ids=["small", "shrunk"])
def test_a_disk_in_its_box(segment, radius, contrast):
    side = 3 * radius + 20
    truth = disk((side, side + 7), side / 2, side / 2 - 3, radius)
    noise = np.random.default_rng(1).normal(0, 0.08, truth.shape)
    plane = (contrast * (truth + noise) * 1000).astype(np.float32)
    box = mask_to_box(truth).enlarged(0.05)
    found = on_plane(segment(plane, box), plane.shape)
    assert dice(found, truth) > 0.95
    assert np.array_equal(found, on_plane(segment(plane, box), plane.shape)), "deterministic"


@pytest.mark.parametrize("segment", SEGMENTERS)
def test_a_constant_plane_gives_nothing(segment):
    assert not segment(np.full((30, 30), 7.0, np.float32), Box(5, 5, 20, 20)).mask.any()


@pytest.mark.parametrize("segment", SEGMENTERS)
def test_values_that_are_not_finite(segment):
    truth = disk((40, 40), 20, 20, 9)
    plane = np.where(truth, 10.0, 0.0).astype(np.float32)
    plane[0, 0], plane[12, 12], plane[28, 12] = np.nan, np.inf, -np.inf
    found = on_plane(segment(plane, Box(10, 10, 31, 31)), plane.shape)
    assert dice(found, truth) > 0.9


@pytest.mark.parametrize("segment", SEGMENTERS)
@pytest.mark.parametrize(
    "box",
    [Box(0, 0, 24, 30), Box(3.2, 4.1, 4.2, 5.1), Box(-5, -5, 40, 40), Box(23.5, 29, 24, 30)],
    ids=["whole plane", "one pixel", "beyond", "corner"],
)
def test_boxes_of_any_kind(segment, box):
    plane = np.random.default_rng(2).normal(size=(24, 30)).astype(np.float32)
    found = segment(plane, box)
    assert found.mask.shape == found.region.shape_yx
    assert found.region.y1 <= 24
    assert found.region.x1 <= 30


@pytest.mark.parametrize("segment", SEGMENTERS)
def test_integers_and_planes_of_one_pixel(segment):
    assert not segment(np.zeros((1, 1), np.uint8), Box(0, 0, 1, 1)).mask.any()
    big = np.where(disk((30, 30), 15, 15, 6), 60000, 100).astype(">u2")
    assert dice(on_plane(segment(big, Box(8, 8, 23, 23)), big.shape), big > 200) > 0.9


def test_otsu_fills_holes_and_keeps_the_largest():
    plane = np.zeros((40, 40), np.float32)
    plane[10:30, 10:30] = 1
    plane[18:20, 18:20] = 0
    plane[31:33, 31:33] = 1
    found = on_plane(otsu_in_box(plane, Box(9, 9, 34, 34)), plane.shape)
    assert found.sum() == 400


def test_without_opencv(monkeypatch):
    planar.load_cv2.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EvaluationError, match=r"napari-slidesam\[evaluation\]"):
        grabcut_in_box(np.zeros((5, 5)), Box(0, 0, 5, 5))
