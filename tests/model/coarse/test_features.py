from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_slidesam.model.coarse.features import N_FEATURES, KnownSlices, features

SIDE = 16


def cubes(seed: int = 0, count: int = 2) -> tuple[torch.Tensor, KnownSlices, torch.Tensor]:
    """Bright balls in noise, with the mask of the middle slice; the second one at an edge."""
    generator = torch.Generator().manual_seed(seed)
    z = (torch.arange(SIDE) + 0.5 - SIDE / 2) ** 2
    ball = z.view(-1, 1, 1) + z.view(-1, 1) + z < 16
    images = 0.7 * ball + 0.3 * torch.rand(count, SIDE, SIDE, SIDE, generator=generator)
    masks = ball[SIDE // 2].float().expand(count, SIDE, SIDE)
    inside = torch.ones(count, 3, SIDE, dtype=torch.bool)
    inside[1:, 2, 10:] = False
    return images, KnownSlices.middle(masks), inside


def test_shape_and_range():
    channels = features(*cubes())
    assert channels.shape == (2, N_FEATURES, SIDE, SIDE, SIDE)
    assert channels.dtype == torch.float32
    assert channels.abs().max() <= 2
    others = [i for i in range(N_FEATURES) if i != 2]  # 2 is a difference of grey values
    assert channels[:, others].abs().max() <= 1


def test_grey_values_of_the_object_are_told_from_those_around():
    images, known, inside = cubes()
    likelihood = features(images, known, inside)[:, 1]
    assert likelihood[images > 0.75].min() > 0.5
    assert likelihood[images < 0.25].max() < -0.5


def test_planes_outside_the_volume_are_marked():
    in_volume = features(*cubes())[:, 7]
    assert in_volume[0].min() == 1
    assert (in_volume[1, :, :, 10:] == 0).all()
    assert (in_volume[1, :, :, :10] == 1).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_may_be_empty_or_full(value):
    images, known, inside = cubes()
    known = replace(known, masks=torch.full_like(known.masks, value))
    assert torch.isfinite(features(images, known, inside)).all()


def test_a_constant_cube_has_features():
    images, known, inside = cubes()
    assert torch.isfinite(features(torch.zeros_like(images), known, inside)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_cube_has_mirrored_features(axis):
    images, known, inside = cubes()
    flipped = inside.clone()
    flipped[:, axis] = inside[:, axis].flip(1)
    masks = torch.cat([known.masks, known.masks.flip(2) * 0.5], dim=1)
    places = torch.tensor([[7.5, 12.25], [7.5, torch.inf]])
    known = KnownSlices(masks, places)
    changed = {"masks": masks.flip(axis + 1)} if axis else {"places": SIDE - 1 - places}
    turned = replace(known, **changed)
    mirrored = features(images.flip(axis + 1), turned, flipped)
    torch.testing.assert_close(mirrored, features(images, known, inside).flip(axis + 2))


def test_masks_of_the_known_slices_on_either_side_are_mixed():
    images, known, inside = cubes(count=1)
    ball = known.masks[:, 0]
    everything, nothing = torch.ones_like(ball), torch.zeros_like(ball)
    places = torch.tensor([[7.5, 12.0, 3.0, torch.inf]])
    masks = torch.stack([ball, everything, nothing, everything], dim=1)
    channels = features(images, KnownSlices(masks, places), inside)
    column, distance, is_between = channels[0, 3], channels[0, 5], channels[0, 8]
    torch.testing.assert_close(column[13], everything[0])
    torch.testing.assert_close(column[1], -everything[0])
    torch.testing.assert_close(column[10], 2 * (ball[0] * 2 + everything[0] * 2.5) / 4.5 - 1)
    assert is_between[:, 0, 0].tolist() == [0] * 4 + [1] * 8 + [0] * 4
    assert distance[12, 0, 0] == -1
    assert distance[15, 0, 0] == pytest.approx(3 * 2 / SIDE * 2 - 1)
