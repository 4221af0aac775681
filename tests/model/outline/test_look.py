"""From slices' values and a box to logits in the plane."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_slidesam.geometry import Box, mask_to_box
from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.look import (
    GLANCES,
    ONE_GLANCE,
    OutlineLook,
    OutlineQuestion,
    embedded_look,
    scaled,
)
from napari_slidesam.model.outline.network import OutlineNetwork
from napari_slidesam.model.patches import LOGIT_LIMIT
from napari_slidesam.prompts import PointPrompt

SHAPE = (96, 128)
BOX = Box(24.0, 40.0, 56.0, 88.0)
MASK = np.hypot(*((np.indices(SHAPE) - [[[39.5]], [[63.5]]]) / [[[16]], [[24]]])) < 1


@pytest.fixture
def nucleus():
    rng = np.random.default_rng(0)
    return (rng.normal(100, 12, SHAPE) + 120 * MASK).astype(np.float32)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    network = OutlineNetwork(OutlineConfig(widths=(16, 16, 16, 32)))
    return OutlineLook(network.eval().requires_grad_(False))


def asked(plane, box=BOX, *points):
    return OutlineQuestion(box, plane.shape, lambda _, region: plane[region.slices], points)


def on_plane(view, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[view.patch.region.slices] = np.nan_to_num(view.patch.logits, nan=-9) > 0
    return mask


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("factor", [1.0, -4.0])
def test_the_network_that_ships_outlines_a_nucleus(nucleus, factor):
    assert mask_to_box(MASK) == BOX
    (view,) = embedded_look().views([asked(nucleus * factor)])
    assert dice(on_plane(view), MASK) > 0.93
    assert view.quality > 0.8
    known = view.patch.logits[np.isfinite(view.patch.logits)]
    assert np.abs(known).max() <= LOGIT_LIMIT


def test_what_is_seen_mirrored_is_put_back_upright():
    y, x = np.indices(SHAPE)
    wedge = (y >= 24) & (y < 56) & (x >= 40) & (x - 40 < 48 * (y - 23) / 32)
    plane = np.random.default_rng(0).normal(100, 8, SHAPE) + 120 * wedge
    (view,) = embedded_look().views([asked(plane.astype(np.float32))])
    assert dice(on_plane(view), wedge) > 0.93


def test_the_slices_around_are_asked_for(nucleus, tiny):
    offsets = []

    def read(offset, region):
        offsets.append(offset)
        return nucleus[region.slices]

    tiny.views([OutlineQuestion(BOX, SHAPE, read)])
    assert offsets == [-1, 0, 1] * len(GLANCES)
    offsets.clear()
    five = OutlineNetwork(OutlineConfig(slices=5, widths=(16, 16, 16, 32))).eval()
    OutlineLook(five).views([OutlineQuestion(BOX, SHAPE, read)], ONE_GLANCE)
    assert offsets == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize("positive", [True, False])
def test_a_click_is_shown_where_it_is_at_every_glance(nucleus, positive):
    y, x = 30.0, 80.0
    seen = []

    class Network(OutlineNetwork):
        def forward(self, images, inside, boxes, clicks):
            seen.append((images, clicks))
            return super().forward(images, inside, boxes, clicks)

    marked = nucleus.copy()
    marked[29:32, 79:82] = 2000
    look = OutlineLook(Network(OutlineConfig(widths=(16, 16, 16, 32))).eval())
    look.views([asked(marked, BOX, PointPrompt(0, y, x, positive))])
    ((images, clicks),) = seen
    assert clicks.shape == (len(GLANCES), 1, 3)
    for image, (click,) in zip(images[:, 1], clicks.tolist(), strict=True):
        rows, columns = np.nonzero(image.numpy() == image.numpy().max())
        side = image.shape[-1]
        assert (click[0] + 1) / 2 * side - 0.5 == pytest.approx(rows.mean(), abs=1)
        assert (click[1] + 1) / 2 * side - 0.5 == pytest.approx(columns.mean(), abs=1)
        assert click[2] == (1 if positive else -1)


def test_two_questions_at_once_are_answered_as_each_alone(nucleus, tiny):
    click = PointPrompt(0, 20.0, 100.0)
    questions = [asked(nucleus), asked(nucleus, Box(10, 90, 30, 128), click)]
    both = tiny.views(questions)
    for question, together in zip(questions, both, strict=True):
        (alone,) = tiny.views([question])
        assert together.patch.region == alone.patch.region
        np.testing.assert_allclose(together.patch.logits, alone.patch.logits, atol=1e-4)
        assert together.quality == pytest.approx(alone.quality, abs=1e-5)
    assert tiny.views([]) == []


@pytest.mark.parametrize("value", [0.0, 1234.5, np.nan, np.inf])
def test_a_slice_without_contrast_is_answered(tiny, value):
    (view,) = tiny.views([asked(np.full(SHAPE, value))])
    assert np.isfinite(view.patch.logits[2:-2, 2:-2]).all()
    assert 0 <= view.quality <= 1


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (SHAPE, Box(30, 40, 31, 41)),
        (SHAPE, Box(95, 127, 96, 128)),
        (SHAPE, Box(-40, -40, 200, 300)),
        (SHAPE, Box(300, 300, 320, 320)),
        ((1, 1), Box(0, 0, 1, 1)),
        ((1, 200), Box(0, 20, 1, 60)),
    ],
)
def test_any_box_is_answered(tiny, shape, box):
    plane = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
    (view,) = tiny.views([asked(plane, box)])
    assert view.patch.logits.shape == view.patch.region.shape_yx
    assert 0 <= view.quality <= 1
    clipped = box.clipped(shape)
    if clipped is not None:
        rows, columns = clipped.outer_region(shape).within(view.patch.region)
        assert np.isfinite(view.patch.logits[rows, columns]).all()


def test_greys_are_scaled_by_the_middle_slice():
    images = np.stack([np.full((8, 8), v, np.float32) for v in (-1e6, 0, 55)])
    images[1] = np.linspace(10, 110, 64).reshape(8, 8)
    shown = scaled(images)
    low, high = np.percentile(images[1], [0.5, 99.5])
    np.testing.assert_allclose(shown[1], ((images[1] - low) / (high - low) + 0.5) / 2, rtol=1e-5)
    assert not shown[0].any()
    np.testing.assert_allclose(shown[2], 0.475, atol=0.01)
    assert shown.dtype == np.float32
    images[1] = 3
    assert not scaled(images).any()
