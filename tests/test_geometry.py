"""Boxes, regions and viewports: half-open, and there and back again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import Box, Region, Viewport, mask_to_box

COORDINATE = st.floats(-1e4, 1e4, allow_nan=False)
LENGTH = st.floats(1e-2, 1e4, allow_nan=False)
PLANE = st.tuples(st.integers(1, 60), st.integers(1, 60))
few = settings(max_examples=50, deadline=None)


@st.composite
def boxes(draw):
    y0, x0 = draw(COORDINATE), draw(COORDINATE)
    return Box(y0, x0, y0 + draw(LENGTH), x0 + draw(LENGTH))


@st.composite
def regions(draw):
    y0, x0 = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    return Region(y0, x0, y0 + draw(st.integers(1, 20)), x0 + draw(st.integers(1, 20)))


@pytest.mark.parametrize(
    "yxyx",
    [
        (0, 0, 0, 5),
        (0, 0, 5, 0),
        (5, 5, 1, 9),
        (1, 9, 5, 5),
        (np.nan, 0, 1, 1),
        (0, 0, np.inf, 1),
        (0, -np.inf, 1, 1),
    ],
)
def test_zero_area_inverted_and_non_finite_boxes_are_refused(yxyx):
    with pytest.raises(PromptError):
        Box(*yxyx)


@given(boxes())
@few
def test_corners_in_any_order_give_the_box(box):
    y0, x0, y1, x1 = box.yxyx
    assert Box.from_corners([(y1, x0), (y0, x1)]) == box
    assert Box.from_corners([(y0, x0), (y0, x1), (y1, x1), (y1, x0)]) == box
    assert box.xyxy == (x0, y0, x1, y1)


def test_a_line_has_no_corners_of_a_box():
    with pytest.raises(PromptError):
        Box.from_corners([(1, 2), (1, 9)])


@given(boxes(), st.floats(0, 2))
@few
def test_enlarging_moves_all_four_sides_out(box, share):
    large = box.enlarged(share)
    assert large.centre_yx == pytest.approx(box.centre_yx, abs=1e-6)
    assert large.height == pytest.approx(box.height * (1 + 2 * share), abs=1e-6)
    assert large.width == pytest.approx(box.width * (1 + 2 * share), abs=1e-6)
    assert large.y0 <= box.y0
    assert large.x1 >= box.x1


@given(boxes(), PLANE)
@few
def test_clipping_stays_inside_or_gives_nothing(box, shape):
    inside = box.clipped(shape)
    is_outside = box.y1 <= 0 or box.x1 <= 0 or box.y0 >= shape[0] or box.x0 >= shape[1]
    assert (inside is None) == is_outside
    if inside is not None:
        assert inside.y0 >= 0
        assert inside.x0 >= 0
        assert inside.y1 <= shape[0]
        assert inside.x1 <= shape[1]
        assert inside.clipped(shape) == inside


@given(boxes(), boxes(), st.floats(0, 1))
@few
def test_union_holds_both_and_what_lies_between(first, second, share):
    both = first.union(second)
    assert both == second.union(first)
    for box in (first, second, first.interpolated(second, share)):
        assert both.y0 <= box.y0 + 1e-6
        assert both.x0 <= box.x0 + 1e-6
        assert both.y1 >= box.y1 - 1e-6
        assert both.x1 >= box.x1 - 1e-6
    assert first.interpolated(second, 0) == first


def test_boxes_are_half_open():
    box = Box(1, 2, 3, 5)
    assert box.contains(1, 2)
    assert box.contains(2.999, 4.999)
    assert not box.contains(3, 2)
    assert not box.contains(1, 5)
    assert box.outer_region((10, 10)).shape_yx == (2, 3)


@given(boxes(), PLANE)
@few
def test_outer_region_is_a_part_of_the_plane_that_covers_the_box(box, shape):
    region = box.outer_region(shape)
    assert 0 <= region.y0 < region.y1 <= shape[0]
    assert 0 <= region.x0 < region.x1 <= shape[1]
    inside = box.clipped(shape)
    if inside is not None:
        assert region.y0 <= inside.y0
        assert region.x0 <= inside.x0
        assert region.y1 >= inside.y1
        assert region.x1 >= inside.x1


@given(regions(), regions())
@few
def test_a_region_is_found_in_what_holds_it(first, second):
    plane = np.arange(64 * 64).reshape(64, 64)
    outer = first.union(second)
    cut = plane[outer.slices]
    np.testing.assert_array_equal(cut[first.within(outer)], plane[first.slices])
    assert cut[first.within(outer)].shape == first.shape_yx


@given(boxes(), LENGTH, st.sampled_from([64, 256, 1024]))
@few
def test_viewport_there_and_back(box, side, size):
    view = Viewport.around(box, side, size)
    assert side <= view.side < side + 1
    middle = (view.y0 + view.side / 2, view.x0 + view.side / 2)
    assert middle == pytest.approx(box.centre_yx, abs=0.5 + 1e-6)
    assume(max(box.height, box.width) / view.side < 1e4)
    back = view.box_from_model(view.box_xyxy_model(box))
    assert back.yxyx == pytest.approx(box.yxyx, abs=1e-5)


@given(boxes(), st.floats(1, 200), PLANE)
@few
def test_a_viewports_region_is_its_part_of_the_plane(box, side, shape):
    view = Viewport.around(box, side, 64)
    region = view.region(shape)
    rows = [y for y in range(shape[0]) if view.y0 <= y < view.y0 + view.side]
    cols = [x for x in range(shape[1]) if view.x0 <= x < view.x0 + view.side]
    if region is None:
        assert not rows or not cols
    else:
        assert region == Region(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)


def test_viewport_swaps_axes_and_adds_half_a_pixel():
    view = Viewport(y0=10, x0=20, side=32, size=64)
    assert view.scale == 2
    assert view.point_xy_model(10, 20) == (1, 1)
    assert view.point_xy_model(11, 25) == (11, 3)
    assert view.box_xyxy_model(Box(12, 21, 14, 30)) == (2, 4, 20, 8)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), regions())
@few
def test_the_box_of_a_mask_is_the_tightest(mask, region):
    box = mask_to_box(mask)
    if box is None:
        assert not mask.any()
        return
    cut = mask[box.outer_region(mask.shape).slices]
    assert cut.sum() == mask.sum()
    for side in (cut[0], cut[-1], cut[:, 0], cut[:, -1]):
        assert side.any()
    moved = mask_to_box(mask, region)
    assert moved.yxyx == tuple(
        v + d for v, d in zip(box.yxyx, (region.y0, region.x0) * 2, strict=True)
    )


def test_one_pixel_has_a_box_of_one_pixel():
    mask = np.zeros((4, 5), bool)
    mask[2, 3] = True
    assert mask_to_box(mask) == Box(2, 3, 3, 4)
