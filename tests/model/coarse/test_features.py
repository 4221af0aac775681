from __future__ import annotations

import pytest
import torch

from napari_slidesam.model.coarse.features import N_FEATURES, features

SIDE = 16


def cubes(seed: int = 0, count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bright balls in noise, with the mask of the middle slice; the second one at an edge."""
    generator = torch.Generator().manual_seed(seed)
    z = (torch.arange(SIDE) + 0.5 - SIDE / 2) ** 2
    ball = z.view(-1, 1, 1) + z.view(-1, 1) + z < 16
    images = 0.7 * ball + 0.3 * torch.rand(count, SIDE, SIDE, SIDE, generator=generator)
    masks = ball[SIDE // 2].float().expand(count, SIDE, SIDE)
    inside = torch.ones(count, 3, SIDE, dtype=torch.bool)
    inside[1:, 2, 10:] = False
    return images, masks, inside


def test_shape_and_range():
    channels = features(*cubes())
    assert channels.shape == (2, N_FEATURES, SIDE, SIDE, SIDE)
    assert channels.dtype == torch.float32
    assert channels.abs().max() <= 2
    others = [i for i in range(N_FEATURES) if i != 2]  # 2 is a difference of grey values
    assert channels[:, others].abs().max() <= 1


def test_grey_values_of_the_object_are_told_from_those_around():
    images, masks, inside = cubes()
    likelihood = features(images, masks, inside)[:, 1]
    assert likelihood[images > 0.75].min() > 0.5
    assert likelihood[images < 0.25].max() < -0.5


def test_planes_outside_the_volume_are_marked():
    in_volume = features(*cubes())[:, 7]
    assert in_volume[0].min() == 1
    assert (in_volume[1, :, :, 10:] == 0).all()
    assert (in_volume[1, :, :, :10] == 1).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_may_be_empty_or_full(value):
    images, masks, inside = cubes()
    assert torch.isfinite(features(images, torch.full_like(masks, value), inside)).all()


def test_a_constant_cube_has_features():
    images, masks, inside = cubes()
    assert torch.isfinite(features(torch.zeros_like(images), masks, inside)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_cube_has_mirrored_features(axis):
    images, masks, inside = cubes()
    flipped = inside.clone()
    flipped[:, axis] = inside[:, axis].flip(1)
    mirrored = features(images.flip(axis + 1), masks.flip(axis) if axis else masks, flipped)
    torch.testing.assert_close(mirrored, features(images, masks, inside).flip(axis + 2))
