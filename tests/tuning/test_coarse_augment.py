from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_slidesam.model.coarse.features import KnownSlices
from napari_slidesam.tuning.coarse_augment import CoarseAugment, CropAugmenter, CropBatch
from napari_slidesam.tuning.coarse_pool_files import CropArrays

NOTHING = CoarseAugment(
    turned=False, gamma=0, inverted=0, gain=0, offset=0, noise=0, bias=0, clumsy=0, several=0
)
SIDE = 12


@pytest.fixture
def crops() -> CropBatch:
    """Crops whose image is their truth, and whose mask is its middle plane."""
    generator = torch.Generator().manual_seed(3)
    truths = (torch.rand(8, SIDE, SIDE, SIDE, generator=generator) > 0.6).float()
    truths[:, SIDE // 2 - 1] = truths[:, SIDE // 2]
    inside = torch.rand(8, 3, SIDE, generator=generator) > 0.3
    known = KnownSlices.middle(truths[:, SIDE // 2].clone())
    return CropBatch(truths.clone(), truths, known, inside)


def augmenter(config: CoarseAugment, seed: int = 0) -> CropAugmenter:
    return CropAugmenter(config, torch.Generator().manual_seed(seed))


def test_images_truth_and_mask_are_turned_together(crops):
    turned = augmenter(replace(NOTHING, turned=True))(crops)
    torch.testing.assert_close(turned.images, turned.truths, atol=2e-4, rtol=0)
    torch.testing.assert_close(turned.known.masks[:, 0], turned.truths[:, SIDE // 2])
    assert not torch.equal(turned.truths, crops.truths)
    for i in range(len(crops.truths)):
        assert turned.truths[i].sum() == crops.truths[i].sum()
        assert turned.inside[i].sum() == crops.inside[i].sum()


def test_what_lies_inside_is_turned_with_the_cube(crops):
    marked = CropBatch(volume_of(crops.inside), crops.truths, crops.known, crops.inside)
    turned = augmenter(replace(NOTHING, turned=True))(marked)
    torch.testing.assert_close(turned.images, volume_of(turned.inside), atol=2e-4, rtol=0)


def volume_of(inside: torch.Tensor) -> torch.Tensor:
    z, y, x = inside.unbind(1)
    return (z[:, :, None, None] & y[:, None, :, None] & x[:, None, None, :]).float()


def test_all_sixteen_orientations_come_up(crops):
    images, truths, masks, inside = (
        t[:1].expand(400, *t.shape[1:])
        for t in (crops.images, crops.truths, crops.known.masks[:, 0], crops.inside)
    )
    first = CropBatch(images, truths, KnownSlices.middle(masks), inside)
    turned = augmenter(replace(NOTHING, turned=True))(first)
    assert len({t.numpy().tobytes() for t in turned.truths}) == 16


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
    inside = torch.ones(4, 3, 32, dtype=torch.bool)
    crops = CropBatch(cubes, cubes, KnownSlices.middle(disks), inside)
    config = replace(NOTHING, clumsy=1.0, outline=3.0)
    for seed in range(10):
        masks = augmenter(config, seed)(crops).known.masks[:, 0]
        assert masks.flatten(1).any(1).all()
    masks = augmenter(replace(config, outline=0.35))(crops).known.masks[:, 0]
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert 0 < (masks[2] - disks[2]).abs().mean() < 0.1


def test_with_nothing_to_change_nothing_changes(crops):
    same = augmenter(NOTHING)(crops)
    torch.testing.assert_close(same.images, crops.images, atol=2e-4, rtol=0)
    torch.testing.assert_close(same.known.masks[:, :1], crops.known.masks)
    assert torch.isinf(same.known.places[:, 1:]).all()
    assert not same.known.masks[:, 1:].any()


def test_further_known_slices_are_the_truth_at_their_places(crops):
    many = augmenter(replace(NOTHING, turned=True, several=1.0))(crops)
    places, masks = many.known.places, many.known.masks
    assert (places[:, 0] == (SIDE - 1) / 2).all()
    is_known = torch.isfinite(places[:, 1:])
    assert 0.3 < is_known.float().mean() < 1
    for crop, k in is_known.nonzero().tolist():
        plane = int(places[crop, k + 1])
        assert abs(plane - (SIDE - 1) / 2) >= 1.5
        torch.testing.assert_close(masks[crop, k + 1], many.truths[crop, plane])
    assert not masks[:, 1:][~is_known].any()
    steps = (places - places[:, :1])[:, 1:]
    both = is_known[:, 0] & is_known[:, 1]
    assert (steps[both, 0] + steps[both, 1]).abs().max() <= 1  # evenly, to a plane


def test_no_further_slice_is_known_where_the_object_is_not(crops):
    lone = torch.zeros_like(crops.truths)
    lone[:, SIDE // 2 - 1 : SIDE // 2 + 1] = 1
    crops = replace(crops, truths=lone, known=KnownSlices.middle(lone[:, SIDE // 2]))
    many = augmenter(replace(NOTHING, several=1.0))(crops)
    assert torch.isinf(many.known.places[:, 1:]).all()


def test_bytes_become_numbers():
    arrays = CropArrays.empty(2, 4)
    arrays.images[0] = 255
    crops = CropBatch.of(arrays, torch.device("cpu"))
    assert crops.images[0].min() == 1
    assert crops.images[1].max() == 0
    assert crops.inside.dtype == torch.bool
