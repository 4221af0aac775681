"""Where the samples around a click lie, on phantoms whose geometry is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.polar import PolarGrid

CONFIG = ClickConfig()
SHAPE = (120, 160)


def sampled(values, y, x):
    grid = PolarGrid.around(CONFIG, y, x, values.shape)
    return grid, grid.image(values[grid.region.slices])


def disc(y, x, radius, shape=SHAPE):
    rows, columns = np.indices(shape)
    return (np.hypot(rows - y, columns - x) < radius).astype(np.float32)


def test_a_disc_around_the_click_is_a_band():
    grid, image = sampled(disc(60, 70, 20), 60, 70)
    assert image.shape == (CONFIG.rings, CONFIG.angles)
    assert image.dtype == np.float32
    found = grid.radii[(image > 0.5).sum(axis=0) - 1]
    np.testing.assert_allclose(found, 20, rtol=0.12)
    assert grid.radii[-1] < CONFIG.reach * 160 < 1.1 * grid.radii[-1]


@settings(max_examples=20, deadline=None)
@given(factor=st.sampled_from([2, 4]))
def test_twice_as_large_is_the_same_picture_further_out(factor):
    step = CONFIG.rings / CONFIG.octaves
    rows = [
        (sampled(disc(100, 100, r, (201, 201)), 100, 100)[1] > 0.5).sum(axis=0).mean()
        for r in (12, 12 * factor)
    ]
    assert rows[1] - rows[0] == pytest.approx(step * np.log2(factor), abs=1)


def test_directions_are_rows_down_and_columns_right():
    ramp = np.broadcast_to(np.arange(SHAPE[1], dtype=np.float32), SHAPE)
    grid, image = sampled(ramp, 60, 80)
    rows, columns = grid.places
    assert columns[-1, 0] > 80 > columns[-1, CONFIG.angles // 2]
    assert rows[-1, CONFIG.angles // 4] > 60
    near = grid.radii < 20
    np.testing.assert_allclose(image[near], columns[near], atol=0.3)


def test_samples_far_apart_are_means():
    rng = np.random.default_rng(0)
    _, image = sampled(rng.normal(0, 1, SHAPE).astype(np.float32), 60, 80)
    assert image[-8:].std() < 0.5 * image[:20].std()


def test_what_lies_outside_is_known_and_repeats_the_border():
    values = np.zeros((40, 40), dtype=np.float32)
    values[:8] = 7
    grid, image = sampled(values, 0, 20)
    assert grid.inside[0].all()
    up = CONFIG.angles * 3 // 4
    assert not grid.inside[-20:, up].any()
    np.testing.assert_allclose(image[-20:, up], 7)


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    y=st.floats(0, 1),
    x=st.floats(0, 1),
)
def test_any_click_of_any_plane_can_be_seen(height, width, y, x):
    values = np.arange(height * width, dtype=np.float32).reshape(height, width)
    click_y, click_x = y * (height - 1), x * (width - 1)
    _, image = sampled(values, click_y, click_x)
    assert np.isfinite(image).all()
    assert values.min() <= image.min() <= image.max() <= values.max()


def test_of_a_large_plane_only_a_part_is_read():
    grid = PolarGrid.around(CONFIG, 5000, 10, (20000, 30000))
    assert max(grid.region.shape_yx) <= 2 * CONFIG.reach * CONFIG.max_side_px + 2
    assert grid.region.x0 == 0


def test_values_that_are_no_numbers_are_0():
    values = np.full(SHAPE, np.nan, dtype=np.float32)
    values[:, :80] = np.inf
    assert not sampled(values, 60, 80)[1].any()
