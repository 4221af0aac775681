from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_slidesam.tuning.outline_augment import OutlineAugment, OutlineAugmenter, OutlineBatch
from napari_slidesam.tuning.outline_views import OutlineSample

SIDE = 32
NOTHING = OutlineAugment(turned=False, gamma=0, slope=0, inverted=0, noise=0)

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def sample(number: int) -> OutlineSample:
    """Return a bright rectangle, somewhat off the middle; less of it on the slice before."""
    rng = np.random.default_rng(number)
    y0, x0 = rng.integers(6, 12, 2)
    y1, x1 = rng.integers(18, 27, 2)
    truth = np.zeros((SIDE, SIDE), np.uint8)
    truth[y0:y1, x0:x1] = 255
    before = truth.copy()
    before[y0 + 5 :] = 0
    images = np.stack([before, truth, 0 * truth]).astype(np.uint16) * 257
    box = (np.array([y0, x0, y1, x1]) / SIDE * 2 - 1).astype(np.float32)
    return OutlineSample(images, truth, truth > 0, box, "real/x")


def batch(count: int = 8) -> OutlineBatch:
    return OutlineBatch.of([sample(k) for k in range(count)], torch.device("cpu"))


def augmenter(config: OutlineAugment, seed: int = 0) -> OutlineAugmenter:
    return OutlineAugmenter(config, torch.Generator().manual_seed(seed))


def filled(boxes: torch.Tensor) -> torch.Tensor:
    ticks = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y0, x0, y1, x1 = boxes[:, :, None].unbind(1)
    rows, columns = (ticks > y0) & (ticks < y1), (ticks > x0) & (ticks < x1)
    return (rows[:, :, None] & columns[:, None]).float()


def same(one: OutlineBatch, other: OutlineBatch) -> bool:
    names = ("images", "truths", "inside", "boxes")
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def test_a_batch_of_samples():
    views = batch(3)
    assert len(views) == 3
    assert views.images.shape == (3, 3, SIDE, SIDE)
    torch.testing.assert_close(views.images[:, 1], views.truths)
    torch.testing.assert_close(filled(views.boxes), views.truths)
    assert views.inside.dtype == torch.bool


def test_all_parts_of_a_view_are_turned_together():
    views = batch(32)
    turned = augmenter(replace(NOTHING, turned=True))(views)
    torch.testing.assert_close(turned.images[:, 1], turned.truths + 1e-4)
    torch.testing.assert_close(filled(turned.boxes), turned.truths)
    assert torch.equal(turned.inside.float(), turned.truths)
    outer = turned.images[:, [0, 2]].amax(1)
    before = views.images[:, 0].sum((1, 2))
    torch.testing.assert_close((outer * turned.truths).sum((1, 2)), before, rtol=1e-2, atol=0.1)
    assert outer[turned.truths == 0].max() < 0.01
    is_reversed = turned.images[:, 2].flatten(1).amax(1) > 0.5
    assert 8 < is_reversed.sum() < 24
    assert torch.equal(turned.truths.sum((1, 2)), views.truths.sum((1, 2)))


def test_all_eight_orientations_come_up():
    first = OutlineBatch.of([sample(3)] * 200, torch.device("cpu"))
    turned = augmenter(replace(NOTHING, turned=True))(first)
    assert len({tuple(b) for b in turned.boxes.tolist()}) == 8


def test_mirrored_and_transposed_twice_is_as_before():
    views = batch()
    for change in (
        lambda v: v.mirrored(0),
        lambda v: v.mirrored(1),
        lambda v: v.transposed(),
        lambda v: v.reversed(),
    ):
        assert not same(change(views), views)
        assert same(change(change(views)), views)


@pytest.mark.parametrize("name", ["gamma", "slope", "inverted", "noise"])
def test_greys_change_and_truth_does_not(name):
    views = batch(32)
    views = replace(views, images=views.images * 0.6 + 0.2)
    config = replace(NOTHING, noise_share=1.0, **{name: 0.5})
    plain, changed = augmenter(NOTHING)(views), augmenter(config)(views)
    assert torch.isfinite(changed.images).all()
    assert torch.equal(changed.truths, views.truths)
    assert torch.equal(changed.boxes, views.boxes)
    torch.testing.assert_close(plain.images, views.images + 1e-4)
    assert not torch.allclose(changed.images, plain.images, atol=0.02)


def test_what_comes_out_depends_on_the_generator_alone():
    one, two, other = (augmenter(OutlineAugment(), seed)(batch()) for seed in (1, 1, 2))
    assert same(one, two)
    assert not same(one, other)


def test_a_single_view_is_a_batch():
    assert torch.isfinite(augmenter(OutlineAugment())(batch(1)).images).all()


@pytest.mark.parametrize("name", DEVICES)
def test_views_stay_on_their_device(name):
    device = torch.device(name)
    views = OutlineBatch.of([sample(k) for k in range(8)], device)
    made = OutlineAugmenter(OutlineAugment(), torch.Generator(device).manual_seed(0))(views)
    assert made.images.device.type == made.truths.device.type == name
    assert torch.isfinite(made.images).all()
