"""From logits around a click to a box in the plane."""

from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.geometry import Box
from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.look import ClickLook, ClickView, embedded_look
from napari_slidesam.model.click.polar import PolarGrid

CONFIG = ClickConfig()
SHAPE = (120, 160)
CLICK = (60.0, 70.0)


def ellipse(y=60, x=70, half_y=12, half_x=24, shape=SHAPE):
    rows, columns = np.indices(shape)
    return np.hypot((rows - y) / half_y, (columns - x) / half_x) < 1


def view_of(mask, click=CLICK):
    grid = PolarGrid.around(CONFIG, *click, mask.shape)
    values = mask.astype(np.float32)[grid.region.slices]
    return ClickView(grid, grid.image(values) * 2 - 1)


def iou(one: Box, other: Box) -> float:
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    both = max(0.0, height) * max(0.0, width)
    return both / (one.height * one.width + other.height * other.width - both)


@pytest.mark.parametrize("click", [CLICK, (60.0, 62.0), (55.0, 80.0)])
def test_the_box_of_an_ellipse(click):
    box = view_of(ellipse(), click).box(0.0)
    assert box is not None
    assert iou(box, Box(48.5, 46.5, 72.5, 94.5)) > 0.85


def test_what_is_not_connected_to_the_click_does_not_count():
    alone = view_of(ellipse()).box(0.0)
    both = view_of(ellipse() | ellipse(100, 130, 8, 8)).box(0.0)
    assert alone == both


def test_an_object_across_the_first_direction_is_one():
    mask = ellipse(60, 100, 10, 20)
    box = view_of(mask, (60.0, 84.0)).box(0.0)
    assert box is not None
    assert iou(box, Box(50.5, 80.5, 70.5, 120.5)) > 0.75


def test_nothing_around_the_click_is_no_box():
    assert view_of(~ellipse()).box(0.0) is None


def test_a_box_ends_with_the_plane():
    box = view_of(ellipse(60, 150, 20, 30), (60.0, 150.0)).box(0.0)
    assert box is not None
    assert box.x1 == pytest.approx(SHAPE[1], abs=1.5)
    assert box.x1 <= SHAPE[1]


def test_logits_are_found_where_the_plane_has_them():
    view = view_of(ellipse())
    assert view.logit_at(60, 90) > 0.9
    assert view.logit_at(80, 70) < -0.9
    assert view.logit_at(*CLICK) > 0.9


@pytest.fixture
def blobs():
    """Bright nuclei of two sizes on a dark ground, with noise."""
    rng = np.random.default_rng(0)
    image = rng.normal(20, 4, (128, 128)).astype(np.float32)
    image[ellipse(40, 40, 12, 12, image.shape)] += 80
    image[ellipse(90, 84, 24, 20, image.shape)] += 80
    return image


def reader(image):
    return lambda region: image[region.slices]


@pytest.mark.parametrize(
    ("click", "truth"),
    [((40, 40), Box(28.5, 28.5, 52.5, 52.5)), ((90, 84), Box(66.5, 64.5, 114.5, 104.5))],
)
def test_the_network_that_ships_sees_how_large_a_nucleus_is(blobs, click, truth):
    box = embedded_look().box([click], [], blobs.shape, reader(blobs))
    assert box is not None
    assert iou(box, truth) > 0.6


def test_several_clicks_mean_all_of_it(blobs):
    look = embedded_look()
    parts = [look.box([c], [], blobs.shape, reader(blobs)) for c in ((40, 40), (90, 84))]
    both = look.box([(40, 40), (90, 84)], [], blobs.shape, reader(blobs))
    assert both == parts[0].union(parts[1])


class KnownLook(ClickLook):
    """Says what it is told instead of asking a network."""

    def __init__(self, logits_of):
        self.logits_of = logits_of

    def view(self, y, x, plane_shape_yx, read):
        grid = PolarGrid.around(CONFIG, y, x, plane_shape_yx)
        return ClickView(grid, self.logits_of(grid))


def cone(grid):
    """Falls from 3 at the click to 0 at 40 pixels and below."""
    return np.repeat((3 - grid.radii / 40 * 3)[:, None], CONFIG.angles, 1).astype(np.float32)


def test_a_negative_click_makes_the_box_smaller():
    look, read = KnownLook(cone), reader(np.zeros(SHAPE))
    free = look.box([CLICK], [], SHAPE, read)
    bounded = look.box([CLICK], [(60.0, 90.0)], SHAPE, read)
    assert bounded.width == pytest.approx(40, rel=0.15)
    assert free.width > 75
    assert not bounded.enlarged(-0.05).contains(60.5, 91.5)


def test_a_negative_click_that_is_likelier_than_the_click_is_left_to_the_network():
    look, read = KnownLook(lambda grid: -cone(grid) + 4), reader(np.zeros(SHAPE))
    free = look.box([CLICK], [], SHAPE, read)
    assert look.box([CLICK], [(60.0, 90.0)], SHAPE, read) == free
