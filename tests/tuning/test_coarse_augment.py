from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_slidesam.tuning.coarse_augment import CoarseAugment, CropAugmenter, CropBatch
from napari_slidesam.tuning.coarse_pool_files import CropArrays

NOTHING = CoarseAugment(
    turned=False, gamma=0, inverted=0, gain=0, offset=0, noise=0, bias=0, clumsy=0
)
SIDE = 12


@pytest.fixture
def crops() -> CropBatch:
    """Crops whose image is their truth, and whose mask is its middle plane."""
    generator = torch.Generator().manual_seed(3)
    truths = (torch.rand(8, SIDE, SIDE, SIDE, generator=generator) > 0.6).float()
    truths[:, SIDE // 2 - 1] = truths[:, SIDE // 2]
    inside = torch.rand(8, 3, SIDE, generator=generator) > 0.3
    return CropBatch(truths.clone(), truths, truths[:, SIDE // 2].clone(), inside)


def augmenter(config: CoarseAugment, seed: int = 0) -> CropAugmenter:
    return CropAugmenter(config, torch.Generator().manual_seed(seed))


def test_images_truth_and_mask_are_turned_together(crops):
    turned = augmenter(replace(NOTHING, turned=True))(crops)
    torch.testing.assert_close(turned.images, turned.truths, atol=2e-4, rtol=0)
    torch.testing.assert_close(turned.masks, turned.truths[:, SIDE // 2])
    assert not torch.equal(turned.truths, crops.truths)
    for i in range(len(crops.truths)):
        assert turned.truths[i].sum() == crops.truths[i].sum()
        assert turned.inside[i].sum() == crops.inside[i].sum()


def test_what_lies_inside_is_turned_with_the_cube(crops):
    marked = CropBatch(volume_of(crops.inside), crops.truths, crops.masks, crops.inside)
    turned = augmenter(replace(NOTHING, turned=True))(marked)
    torch.testing.assert_close(turned.images, volume_of(turned.inside), atol=2e-4, rtol=0)


def volume_of(inside: torch.Tensor) -> torch.Tensor:
    z, y, x = inside.unbind(1)
    return (z[:, :, None, None] & y[:, None, :, None] & x[:, None, None, :]).float()


def test_all_sixteen_orientations_come_up(crops):
    first = CropBatch(*(t[:1].expand(400, *t.shape[1:]) for t in vars_of(crops)))
    turned = augmenter(replace(NOTHING, turned=True))(first)
    assert len({t.numpy().tobytes() for t in turned.truths}) == 16


def vars_of(crops: CropBatch):
    return crops.images, crops.truths, crops.masks, crops.inside


@pytest.mark.parametrize("seed", range(4))
def test_grey_values_change_within_their_range(crops, seed):
    changed = augmenter(replace(CoarseAugment(), turned=False), seed)(crops)
    assert (changed.images.min() >= 0) & (changed.images.max() <= 1)
    assert not torch.equal(changed.images, crops.images)
    torch.testing.assert_close(changed.truths, crops.truths)


def test_inverted_crops(crops):
    changed = augmenter(replace(NOTHING, inverted=1.0))(crops)
    torch.testing.assert_close(changed.images, 1 - crops.images, atol=2e-4, rtol=0)


def test_a_clumsy_mask_keeps_near_the_outline_and_is_never_empty():
    y = torch.arange(32.0) - 15.5
    disks = torch.stack([(y.view(-1, 1) ** 2 + y**2 < r**2).float() for r in (1, 5, 9, 12)])
    cubes = torch.zeros(4, 32, 32, 32)
    crops = CropBatch(cubes, cubes, disks, torch.ones(4, 3, 32, dtype=torch.bool))
    config = replace(NOTHING, clumsy=1.0, outline=3.0)
    for seed in range(10):
        masks = augmenter(config, seed)(crops).masks
        assert masks.flatten(1).any(1).all()
    masks = augmenter(replace(config, outline=0.35))(crops).masks
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert 0 < (masks[2] - disks[2]).abs().mean() < 0.1


def test_with_nothing_to_change_nothing_changes(crops):
    same = augmenter(NOTHING)(crops)
    torch.testing.assert_close(same.images, crops.images, atol=2e-4, rtol=0)
    torch.testing.assert_close(same.masks, crops.masks)


def test_bytes_become_numbers():
    arrays = CropArrays.empty(2, 4)
    arrays.images[0] = 255
    crops = CropBatch.of(arrays, torch.device("cpu"))
    assert crops.images[0].min() == 1
    assert crops.images[1].max() == 0
    assert crops.inside.dtype == torch.bool
