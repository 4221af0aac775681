from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_slidesam.engine.objects import PlaneMask
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.geometry import Region

MASKS = arrays(np.bool_, (3, 4, 5), elements=st.sampled_from([False, False, False, True]))


@given(MASKS, st.sampled_from([0, 1, 2]))
@settings(max_examples=50, deadline=None)
def test_round_trip_along_any_axis(mask, axis):
    placed = PlacedMask.from_array(mask, axis)
    assert np.array_equal(placed.to_array(mask.shape, axis), mask)
    assert placed.slice_indices == tuple(np.flatnonzero(np.moveaxis(mask, axis, 0).any((1, 2))))


@given(MASKS, MASKS)
@settings(max_examples=50, deadline=None)
def test_common_grid_keeps_every_voxel_in_place(a, b):
    first, second = PlacedMask.from_array(a).on_common_grid(PlacedMask.from_array(b))
    assert first.shape == second.shape
    assert first.sum() == a.sum()
    assert second.sum() == b.sum()
    assert (first & second).sum() == (a & b).sum()


def test_from_planes_puts_regions_where_they_belong():
    planes = {
        4: PlaneMask(Region(1, 2, 3, 4), np.array([[True, False], [False, False]])),
        6: PlaneMask(Region(0, 3, 1, 5), np.array([[True, True]])),
    }
    placed = PlacedMask.from_planes(planes)
    full = placed.to_array((8, 4, 6))
    assert np.argwhere(full).tolist() == [[4, 1, 2], [6, 0, 3], [6, 0, 4]]
    assert placed.slice_indices == (4, 6)


def test_plane_is_one_slice():
    mask = np.zeros((5, 4, 4), bool)
    mask[2, 1:3, 1] = True
    mask[3, 3, 3] = True
    plane = PlacedMask.from_array(mask).plane(2)
    assert plane.start_syx == (2, 1, 1)
    assert plane.mask.shape == (1, 2, 1)


@pytest.mark.parametrize("slice_index", [-1, 0, 4, 100])
def test_plane_beside_the_object_is_empty(slice_index):
    mask = np.zeros((5, 4, 4), bool)
    mask[2, 1, 1] = True
    assert not PlacedMask.from_array(mask).plane(slice_index).mask.size


def test_nothing_is_empty():
    nothing = PlacedMask.from_planes({})
    assert nothing.slice_indices == ()
    assert not nothing.to_array((2, 2, 2)).any()
