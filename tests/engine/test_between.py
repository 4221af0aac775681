"""Shapes between two known slices."""

from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.engine.between import shape_between
from napari_slidesam.geometry import Box, mask_to_box
from napari_slidesam.metrics import dice
from napari_slidesam.model.patches import LogitPatch

SHAPE = (80, 100)


def disk(y, x, radius):
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (yy + 0.5 - y) ** 2 + (xx + 0.5 - x) ** 2 < radius**2


def known(mask):
    box = mask_to_box(mask)
    assert box is not None
    return LogitPatch.from_mask(mask), box


def on_plane(patch):
    out = np.zeros(SHAPE, dtype=bool)
    out[patch.region.slices] = patch.mask
    return out


def test_at_the_ends_it_is_the_known_mask():
    first, second = disk(30, 30, 12), disk(50, 60, 20)
    for share, expected in ((0.0, first), (1.0, second)):
        found = on_plane(shape_between(known(first), known(second), share, SHAPE))
        assert dice(found, expected) > 0.97


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_a_disk_that_moves_and_grows_stays_a_disk(share):
    found = shape_between(known(disk(30, 30, 12)), known(disk(50, 70, 20)), share, SHAPE)
    expected = disk(30 + 20 * share, 30 + 40 * share, 12 + 8 * share)
    assert dice(on_plane(found), expected) > 0.95


def test_a_square_turns_into_a_disk():
    square = np.zeros(SHAPE, dtype=bool)
    square[28:52, 38:62] = True
    round_one = disk(40, 50, 12)
    between = on_plane(shape_between(known(square), known(round_one), 0.5, SHAPE))
    assert round_one.sum() < between.sum() < square.sum()


def test_at_the_plane_s_edge_it_is_cut():
    first, second = disk(5, 30, 12), disk(2, 32, 12)
    found = shape_between(known(first), known(second), 0.5, SHAPE)
    assert found.region.y0 == 0
    assert found.mask[0].any()


def test_nothing_known_gives_nothing():
    empty = LogitPatch.from_mask(np.zeros(SHAPE, dtype=bool))
    box = Box(20, 20, 40, 40)
    assert not shape_between((empty, box), (empty, box), 0.5, SHAPE).mask.any()
    one = shape_between(known(disk(30, 30, 10)), (empty, box), 0.1, SHAPE)
    assert one.mask.any()
