"""The click network's features and symmetries."""

from __future__ import annotations

import pytest
import torch

from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.features import N_FEATURES, features
from napari_slidesam.model.click.network import ClickNetwork

TINY = ClickConfig(rings=32, angles=32, widths=(8, 8, 16, 16))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ClickNetwork(TINY).eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(1))


INSIDE = torch.ones(2, 32, 32, dtype=torch.bool)


def test_a_logit_for_each_sample(network, images):
    logits = network(images, INSIDE)
    assert logits.shape == images.shape
    assert torch.isfinite(logits).all()


def test_turned_views_give_turned_answers(network, images):
    turned = network(images.roll(16, dims=2), INSIDE)
    torch.testing.assert_close(turned, network(images, INSIDE).roll(16, dims=2))


def test_contrast_and_brightness_do_not_matter(network, images):
    other = network(images * 1700 - 300, INSIDE)
    torch.testing.assert_close(other, network(images, INSIDE), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 5e4, -3e4])
def test_a_constant_view_is_no_failure(network, value):
    channels = features(torch.full((1, 32, 32), value), INSIDE[:1])
    assert channels.shape == (1, N_FEATURES, 32, 32)
    assert channels.abs().max() <= 1


def test_the_click_itself_is_the_zero_of_the_differences(images):
    channels = features(images, INSIDE)
    click = images[:, :8].mean((1, 2))
    darker = images < click[:, None, None]
    assert (channels[:, 1][darker] <= 0).all()
    assert (channels[:, 1][~darker] >= 0).all()
