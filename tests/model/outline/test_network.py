from __future__ import annotations

import pytest
import torch

from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.network import OutlineNetwork

SIDE = 32
TINY = OutlineConfig(side=SIDE, widths=(16, 16, 16, 32))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return OutlineNetwork(TINY).eval().requires_grad_(False)


@pytest.fixture
def seen():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.rand(2, 3, SIDE, SIDE, generator=generator),
        torch.ones(2, SIDE, SIDE, dtype=torch.bool),
        torch.tensor([[-0.6, -0.6, 0.6, 0.6], [-0.3, -0.6, 0.4, 0.6]]),
        torch.tensor([[[0.1, 0.1, 1.0]], [[-0.4, 0.3, -1.0]]]),
    )


def test_a_logit_for_each_sample_and_one_of_the_quality(network, seen):
    logits, quality = network(*seen)
    assert logits.shape == (2, SIDE, SIDE)
    assert quality.shape == (2,)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(quality).all()


def test_neighbouring_slices_box_and_clicks_all_matter(network, seen):
    images, inside, boxes, clicks = seen
    plain = network(*seen)[0]
    before = images.clone()
    before[:, 0] = 0.5
    for other in (
        (before, inside, boxes, clicks),
        (images, inside, boxes * 0.8, clicks),
        (images, inside, boxes, -clicks),
        (images, inside, boxes, clicks[:, :0]),
    ):
        assert not torch.allclose(network(*other)[0], plain, atol=1e-4)


def test_reduced_precision_changes_little(network, seen):
    plain = network(*seen)[0]
    with torch.autocast("cpu", torch.bfloat16):
        reduced = network(*seen)[0]
    assert (reduced.float() - plain).abs().max() < 0.1 * plain.abs().max() + 0.05


def test_the_size_of_the_network_that_ships():
    weights = sum(p.numel() for p in OutlineNetwork().parameters())
    assert 2.5e6 < weights < 3.5e6
