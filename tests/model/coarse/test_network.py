from __future__ import annotations

import pytest
import torch

from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.features import KnownSlices
from napari_slidesam.model.coarse.network import CoarseNetwork, _folded, _unfolded

TINY = CoarseConfig(side=16, widths=(8, 8, 8))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CoarseNetwork(TINY)


@pytest.fixture
def cubes():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 16, 16, 16, generator=generator)
    masks = (torch.rand(2, 16, 16, generator=generator) > 0.5).float()
    return images, KnownSlices.middle(masks), torch.ones(2, 3, 16, dtype=torch.bool)


def test_a_logit_for_every_voxel(network, cubes):
    logits = network(*cubes)
    assert logits.shape == (2, 16, 16, 16)
    assert logits.dtype == torch.float32


def test_cubes_do_not_see_one_another(network, cubes):
    images, known, inside = cubes
    with torch.no_grad():
        both = network(*cubes)
        for i in range(2):
            own = KnownSlices(known.masks[i : i + 1], known.places[i : i + 1])
            alone = network(images[i : i + 1], own, inside[i : i + 1])
            torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_every_weight_learns(network, cubes):
    network(*cubes).square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_default_has_the_default_dimensions():
    network = CoarseNetwork()
    assert network.config == CoarseConfig()
    assert 600_000 < sum(p.numel() for p in network.parameters()) < 800_000


def test_folding_keeps_every_value_in_its_place():
    x = torch.arange(2 * 4 * 6 * 8.0).view(2, 1, 4, 6, 8)
    assert _folded(x).shape == (2, 8, 2, 3, 4)
    torch.testing.assert_close(_unfolded(_folded(x)), x[:, 0])
