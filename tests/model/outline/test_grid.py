"""Where the samples around a box lie, on phantoms whose geometry is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.geometry import Box, mask_to_box
from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.grid import BoxGrid, half_sides

CONFIG = OutlineConfig()
SIDE = CONFIG.side


def ellipse(shape, y, x, half_y, half_x):
    rows, columns = np.indices(shape)
    return np.hypot((rows - y) / half_y, (columns - x) / half_x) < 1


def dice(one, other):
    return 2 * (one & other).sum() / max(one.sum() + other.sum(), 1)


def sampled(grid, plane):
    return grid.images(np.asarray(plane, np.float32)[None][:, *grid.region.slices])[0]


def put_back(grid, samples):
    """Return a plane's mask from a grid's samples; False beyond the grid."""
    mask = np.zeros(grid.plane_shape_yx, dtype=bool)
    mask[grid.region.slices] = np.nan_to_num(grid.on_plane(samples)) > 0.5
    return mask


@settings(max_examples=50, deadline=None)
@given(
    y=st.floats(-5, 105),
    x=st.floats(-5, 125),
    half_y=st.floats(4, 70),
    half_x=st.floats(4, 70),
)
def test_a_mask_survives_the_grid_and_the_way_back(y, x, half_y, half_x):
    mask = ellipse((100, 120), y, x, half_y, half_x)
    box = mask_to_box(mask)
    if box is None or min(box.height, box.width) < 8:
        return
    grid = BoxGrid.around(CONFIG, box, mask.shape)
    assert dice(put_back(grid, sampled(grid, mask)), mask) > 0.9


def test_every_box_looks_alike():
    shape = (300, 400)
    seen = []
    for half_y, half_x in ((12, 10), (60, 50), (40, 90)):
        mask = ellipse(shape, 150.0, 200.0, half_y, half_x)
        seen.append(sampled(BoxGrid.around(CONFIG, mask_to_box(mask), shape), mask) > 0.5)
    assert dice(seen[0], seen[1]) > 0.95
    assert dice(seen[1], seen[2]) > 0.95


def test_the_box_lies_on_the_grid_where_it_is_in_the_plane():
    box = Box(20.0, 30.0, 44.0, 90.0)
    plane = np.zeros((100, 120), np.float32)
    plane[20:44, 30:90] = 1
    grid = BoxGrid.around(CONFIG, box, plane.shape)
    y0, x0, y1, x1 = (grid.box_on_grid(box) + 1) / 2 * SIDE
    rows, columns = np.nonzero(sampled(grid, plane) > 0.5)
    assert (rows.min(), columns.min()) == pytest.approx((y0, x0), abs=1)
    assert (rows.max() + 1, columns.max() + 1) == pytest.approx((y1, x1), abs=1)
    assert x1 - x0 == pytest.approx(SIDE / CONFIG.context)
    assert grid.box_on_grid(box).dtype == np.float32


def test_thin_and_tiny_boxes_see_their_surroundings():
    assert half_sides(CONFIG, 100, 10) == pytest.approx((80, 32))
    assert half_sides(CONFIG, 1, 1) == pytest.approx((3.2, 3.2))


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-math.pi, math.pi), shear=st.floats(-0.4, 0.4))
def test_a_turned_grid_sees_a_turned_plane(angle, shear):
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, shear], [0, 1]])
    grid = replace(
        BoxGrid.around(CONFIG, Box(40, 45, 64, 75), (100, 120)),
        turn=tuple(map(tuple, turn.tolist())),
    )
    rows, columns = np.indices((100, 120)).astype(np.float32)
    places = grid.places()
    inside = grid.inside
    for axis, ramp in enumerate((rows, columns)):
        np.testing.assert_allclose(sampled(grid, ramp)[inside], places[axis][inside], atol=0.5)
    away = np.tensordot(np.linalg.inv(turn), places - np.reshape(grid.centre_yx, (2, 1, 1)), 1)
    ticks = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    np.testing.assert_allclose(away[0][:, 5], ticks * grid.half_yx[0], atol=1e-9)
    np.testing.assert_allclose(away[1][5], ticks * grid.half_yx[1], atol=1e-9)


def test_what_lies_outside_the_plane_is_known_and_repeats_the_border():
    plane = np.zeros((40, 50), np.float32)
    plane[:6] = 7
    grid = BoxGrid.around(CONFIG, Box(-10, 10, 10, 30), plane.shape)
    image, inside = sampled(grid, plane), grid.inside
    assert not inside[0].any()
    assert inside[-1].all()
    np.testing.assert_allclose(image[~inside], 7)


@pytest.mark.parametrize("box", [Box(0, 0, 8, 8), Box(32, 42, 40, 50)])
def test_a_mask_up_to_the_border_stays_whole(box):
    plane = np.zeros((40, 50), bool)
    plane[box.outer_region(plane.shape).slices] = True
    grid = BoxGrid.around(CONFIG, box, plane.shape)
    samples = sampled(grid, plane) * grid.inside
    assert np.array_equal(put_back(grid, samples), plane)


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    y=st.floats(-80, 80),
    x=st.floats(-80, 80),
    box_height=st.floats(0.5, 200),
    box_width=st.floats(0.5, 200),
)
def test_any_box_of_any_plane_can_be_seen(height, width, y, x, box_height, box_width):
    values = np.arange(height * width, dtype=np.float32).reshape(height, width)
    grid = BoxGrid.around(CONFIG, Box(y, x, y + box_height, x + box_width), values.shape)
    image = sampled(grid, values)
    assert image.shape == (SIDE, SIDE)
    assert image.dtype == np.float32
    assert values.min() - 1e-2 <= image.min() <= image.max() <= values.max() + 1e-2
    back = grid.on_plane(image)
    assert back.shape == grid.region.shape_yx
    assert back.dtype == np.float32


def test_of_a_huge_box_means_are_seen():
    shape = (1500, 2000)
    plane = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    plane[:, 1000:] += 1
    grid = BoxGrid.around(CONFIG, Box(100, 150, 1400, 1850), shape)
    image = sampled(grid, plane)
    left, right = image[:, : SIDE // 2 - 1], image[:, SIDE // 2 + 1 :]
    assert max(left.std(), right.std()) < 0.15
    assert right.mean() - left.mean() == pytest.approx(1, abs=0.05)
    mask = ellipse(shape, 750.0, 1000.0, 650.0, 850.0)
    grid = BoxGrid.around(CONFIG, mask_to_box(mask), shape)
    assert dice(put_back(grid, sampled(grid, mask)), mask) > 0.97


def test_of_a_large_plane_only_a_part_is_read():
    box = Box(9000.0, 100.0, 9100.0, 160.0)
    region = BoxGrid.around(CONFIG, box, (20000, 30000)).region
    assert max(region.shape_yx) < CONFIG.context * 100 + 6
    assert region.y0 < box.y0 < box.y1 < region.y1


def test_values_that_are_no_numbers_are_0():
    plane = np.full((40, 50), np.nan, np.float32)
    plane[:, :25] = np.inf
    grid = BoxGrid.around(CONFIG, Box(10, 10, 30, 40), plane.shape)
    assert not sampled(grid, plane).any()


def test_beyond_the_grid_nothing_is_said():
    grid = BoxGrid.around(CONFIG, Box(20, 20, 40, 40), (100, 100))
    back = grid.on_plane(np.ones((SIDE, SIDE), np.float32))
    assert np.isnan(back[0]).all()
    np.testing.assert_allclose(back[2:-2, 2:-2], 1)


def test_a_point_lies_on_the_grid_where_it_is_in_the_plane():
    grid = BoxGrid.around(CONFIG, Box(20.0, 30.0, 44.0, 90.0), (100, 120), (0.1, -0.2), 1.1)
    places = grid.places()
    for row, column in ((3, 60), (31, 5)):
        y, x = places[:, row, column]
        on_grid = (np.array(grid.point_on_grid(y, x)) + 1) / 2 * SIDE - 0.5
        np.testing.assert_allclose(on_grid, (row, column), atol=1e-9)
