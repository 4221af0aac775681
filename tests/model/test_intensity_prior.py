"""The prior knows the object's grey value, whatever its sign."""

from __future__ import annotations

import pytest
import torch

from napari_slidesam.model.lite.intensity_prior import PRIOR_CHANNELS, intensity_prior
from napari_slidesam.model.lite.network import collate_prompts
from napari_slidesam.model.lite.prompt_encoder import rasterise
from napari_slidesam.model.protocol import WindowPrompt

SIZE = 64
BOX = (16.0, 16.0, 48.0, 48.0)


def scene(inside, outside):
    image = torch.full((1, 3, SIZE, SIZE), outside)
    yy, xx = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    mask = (yy - 32) ** 2 + (xx - 32) ** 2 < 14**2
    image[:, :, mask] = inside
    return image, mask


def prior_of(image, prompt):
    return intensity_prior(image, rasterise(collate_prompts([prompt], SIZE, torch.device("cpu"))))


@pytest.mark.parametrize(("inside", "outside"), [(0.8, 0.2), (0.1, 0.9), (0.5, 0.4)])
def test_object_is_likely_whatever_its_contrast(inside, outside):
    image, mask = scene(inside, outside)
    prior = prior_of(image, WindowPrompt(box_xyxy_model=BOX))
    assert prior.shape == (1, PRIOR_CHANNELS, SIZE, SIZE)
    assert prior.abs().max() <= 1
    assert prior[0, 1][mask].mean() > 0.6
    assert prior[0, 1][~mask].mean() < 0


def test_a_click_is_enough():
    image, mask = scene(0.8, 0.2)
    prompt = WindowPrompt(points_xy_model=((32.0, 32.0),), point_labels=(1,))
    prior = prior_of(image, prompt)
    assert prior[0, 1][mask].mean() > prior[0, 1][~mask].mean() + 0.3


def test_a_negative_click_makes_its_grey_value_unlikely():
    image, _ = scene(0.8, 0.2)
    image[0, :, 20:28, 20:28] = 0.5
    box = WindowPrompt(box_xyxy_model=BOX)
    refined = WindowPrompt(box_xyxy_model=BOX, points_xy_model=((24.0, 24.0),), point_labels=(0,))
    before, after = (prior_of(image, p)[0, 1, 24, 24] for p in (box, refined))
    assert after < before


def test_constant_image_says_nothing():
    prior = prior_of(torch.full((1, 3, SIZE, SIZE), 0.3), WindowPrompt(box_xyxy_model=BOX))
    assert prior[:, :6].abs().max() < 0.1


def test_a_window_does_not_see_its_neighbours():
    images = torch.cat([scene(0.8, 0.2)[0], scene(0.1, 0.9)[0]])
    prompts = [WindowPrompt(box_xyxy_model=BOX)] * 2
    raster = rasterise(collate_prompts(prompts, SIZE, torch.device("cpu")))
    torch.testing.assert_close(
        intensity_prior(images, raster)[1:], intensity_prior(images[1:], raster[1:])
    )
