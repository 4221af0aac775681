"""What the outline network is shown, where it can be told by hand."""

from __future__ import annotations

import pytest
import torch

from napari_slidesam.model.outline.features import FEATURES_BESIDE_SLICES, features

SIDE = 32
BOX = torch.tensor([[-0.625, -0.5, 0.625, 0.75]])
INSIDE = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
TICKS = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
NO_CLICKS = torch.zeros(1, 0, 3)
LIKENESS, RANK, MIDDLE_SLICE, DOWN, ACROSS, RADIUS, IN_BOX, VALID = 0, 4, 6, 8, 9, 10, 12, 13
ON, BESIDE = 14, 15


@pytest.fixture
def images():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def in_box(box=BOX):
    y0, x0, y1, x1 = box[0]
    rows, columns = (TICKS > y0) & (TICKS < y1), (TICKS > x0) & (TICKS < x1)
    return rows[:, None] & columns


def test_where_the_box_is(images):
    channels = features(images, INSIDE, BOX, NO_CLICKS)[0]
    assert channels.shape == (FEATURES_BESIDE_SLICES + 3, SIDE, SIDE)
    assert torch.equal(channels[IN_BOX] > 0, in_box())
    torch.testing.assert_close(channels[DOWN][:, 0], (TICKS / 0.625).clamp(-2, 2))
    torch.testing.assert_close(channels[ACROSS][0], ((TICKS - 0.125) / 0.625).clamp(-2, 2))
    assert (channels[RADIUS] < 0).sum() < in_box().sum()
    assert in_box()[channels[RADIUS] < 0].all()


def test_greys_of_the_inside_are_likely_and_those_of_the_outside_are_not():
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 0.2
    ellipse = features(images, INSIDE, BOX, NO_CLICKS)[0, RADIUS] < -0.1
    images[:, 1][:, ellipse] += 0.7
    likeness = features(images, INSIDE, BOX, NO_CLICKS)[0, LIKENESS]
    assert likeness[ellipse].min() > 0.5
    assert likeness[~in_box()].mean() < -0.7


def test_what_lies_outside_the_plane_does_not_count(images):
    inside = INSIDE.clone()
    inside[:, : SIDE // 4] = False
    channels = features(images, inside, BOX, NO_CLICKS)[0]
    assert torch.equal(channels[VALID] > 0, inside[0])
    nowhere = features(images, torch.zeros_like(INSIDE), BOX, NO_CLICKS)
    assert torch.isfinite(nowhere).all()
    torch.testing.assert_close(nowhere[:, :2], torch.zeros_like(nowhere[:, :2]))


def test_contrast_and_brightness_do_not_matter(images):
    one, other = (features(i, INSIDE, BOX, NO_CLICKS) for i in (images, images * 900 - 200))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_each_view_is_seen_alone(images):
    images = torch.cat([images, 1 - images])
    boxes = torch.cat([BOX, -BOX[:, [2, 3, 0, 1]]])
    clicks = torch.tensor([[[0.1, 0.2, 1.0], [0.5, 0.5, -1.0]], [[0.0, 0.0, 0.0], [0.3, 0.1, 1.0]]])
    both = features(images, INSIDE.expand(2, -1, -1), boxes, clicks)
    for k in range(2):
        one = features(images[k : k + 1], INSIDE, boxes[k : k + 1], clicks[k : k + 1])
        torch.testing.assert_close(both[k : k + 1], one)


@pytest.mark.parametrize("value", [0.0, 5e4, -3e4])
def test_a_constant_view_and_a_box_without_extent_are_no_failure(value):
    flat = torch.full((1, 3, SIDE, SIDE), value)
    channels = features(flat, INSIDE, torch.zeros(1, 4), NO_CLICKS)
    assert torch.isfinite(channels).all()
    assert channels.abs().max() <= 2


def test_clicks_are_felt_where_they_are_and_fade(images):
    clicks = torch.tensor([[[-0.5, 0.5, 1.0], [0.5, 0.0, -1.0], [0.9, 0.9, 0.0]]])
    channels = features(images, INSIDE, BOX, clicks)[0]
    for channel, (y, x) in ((ON, (-0.5, 0.5)), (BESIDE, (0.5, 0.0))):
        away = torch.hypot(TICKS[:, None] - y, TICKS - x)
        torch.testing.assert_close(channels[channel], torch.exp(-away / 0.2))
    plain = features(images, INSIDE, BOX, NO_CLICKS)[0]
    assert not plain[[ON, BESIDE]].any()
    torch.testing.assert_close(channels[:ON], plain[:ON])


def test_of_several_clicks_the_nearest_counts(images):
    two = torch.tensor([[[-0.5, 0.0, 1.0], [0.5, 0.0, 1.0]]])
    both = features(images, INSIDE, BOX, two)[0, ON]
    alone = [features(images, INSIDE, BOX, two[:, k : k + 1])[0, ON] for k in (0, 1)]
    torch.testing.assert_close(both, torch.maximum(*alone))
