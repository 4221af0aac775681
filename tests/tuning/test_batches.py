"""Augmented sequences: slices stay in order, masks stay on their image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_slidesam.tuning.batches import AugmentConfig, BatchMaker, bounding_boxes

SIDE = 48


def stacks(n=6, side=SIDE):
    """A bright disk that grows from slice to slice; slice k has its own grey background."""
    raw = np.zeros((n, 6, side, side), dtype=np.uint8)
    yy, xx = np.mgrid[:side, :side]
    for i in range(n):
        for k in range(5):
            mask = (yy - side / 2) ** 2 + (xx - side / 2) ** 2 < (4 + k) ** 2
            raw[i, k] = 40 + 10 * k + 120 * mask
            raw[i, 5] |= mask.astype(np.uint8) << k
    return torch.from_numpy(raw)


@pytest.fixture
def maker():
    return BatchMaker(AugmentConfig(size=32), torch.Generator().manual_seed(0))


PLAIN = AugmentConfig(
    size=32,
    offset_share=0,
    rotate_share=0,
    aspect_std=0,
    border_share=0,
    end_of_volume_share=0,
    gamma_share=0,
    invert_share=0,
    noise_share=0,
    low_resolution_share=0,
)


def test_shapes_and_ranges(maker):
    sequence = maker(stacks())
    assert sequence.images.shape == sequence.masks.shape == (6, 4, 32, 32)
    assert 0 <= sequence.images.min() <= sequence.images.max() <= 1
    assert set(sequence.masks.unique().tolist()) == {0.0, 1.0}


def test_other_size(maker):
    assert maker(stacks(), 48).images.shape[-1] == 48


def test_same_seed_same_batch():
    one, two = (
        BatchMaker(AugmentConfig(size=32), torch.Generator().manual_seed(3))(stacks())
        for _ in range(2)
    )
    torch.testing.assert_close(one.images, two.images)
    torch.testing.assert_close(one.masks, two.masks)


def test_masks_lie_on_their_object():
    sequence = BatchMaker(PLAIN, torch.Generator().manual_seed(1))(stacks())
    inside = (sequence.images * sequence.masks).sum() / sequence.masks.sum()
    outside = (sequence.images * (1 - sequence.masks)).sum() / (1 - sequence.masks).sum()
    assert inside > outside + 0.4


def test_slices_stay_neighbours_in_either_order():
    sequence = BatchMaker(PLAIN, torch.Generator().manual_seed(1))(stacks(40))
    areas = sequence.masks.sum((-2, -1))
    grows = (areas.diff(dim=1) > 0).all(dim=1)
    shrinks = (areas.diff(dim=1) < 0).all(dim=1)
    assert (grows | shrinks).all()
    assert grows.any()
    assert shrinks.any()


def test_view_shows_the_object_with_context():
    sequence = BatchMaker(PLAIN, torch.Generator().manual_seed(1))(stacks(40))
    boxes, found = bounding_boxes(sequence.masks[:, 2])
    assert found.all()
    side = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    assert (side > 32 / 3.3).all()
    assert (side < 32 / 1.2).all()


def test_boxes_are_half_open():
    masks = torch.zeros(2, 10, 12)
    masks[0, 2:5, 3:9] = 1
    boxes, found = bounding_boxes(masks)
    assert boxes[0].tolist() == [3, 2, 9, 5]
    assert found.tolist() == [True, False]
    assert boxes[1].tolist() == [0, 0, 12, 10]
