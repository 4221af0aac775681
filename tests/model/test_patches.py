"""Logits of a part of a plane."""

from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.geometry import Region
from napari_slidesam.model.patches import LogitPatch


def patch(y0, x0, y1, x1, value=1.0):
    shape = (y1 - y0, x1 - x0)
    return LogitPatch(Region(y0, x0, y1, x1), np.full(shape, value, dtype=np.float32))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (patch(0, 0, 4, 4), 1.0),
        (patch(0, 2, 4, 6), 1 / 3),
        (patch(10, 10, 12, 12), 0.0),
        (patch(0, 0, 4, 4, -1.0), 0.0),
        (patch(0, 0, 4, 4, np.nan), 0.0),
    ],
)
def test_iou_of_masks_on_different_regions(other, expected):
    one = patch(0, 0, 4, 4)
    assert one.iou(other) == pytest.approx(expected)
    assert other.iou(one) == pytest.approx(expected)


def test_two_empty_masks_agree():
    assert patch(0, 0, 4, 4, -1.0).iou(patch(2, 2, 9, 9, -3.0)) == 1
