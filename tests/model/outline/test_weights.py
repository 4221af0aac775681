from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.click.weights import CLICK_PATH
from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.network import OutlineNetwork
from napari_slidesam.model.outline.weights import (
    FORMAT,
    OUTLINE_PATH,
    load_outline,
    save_outline,
)
from napari_slidesam.model.small_weights import started_from

TINY = OutlineConfig(side=32, widths=(16, 16, 16, 32))


@pytest.fixture
def stored(tmp_path):
    torch.manual_seed(0)
    network = OutlineNetwork(TINY)
    path = tmp_path / "outline.safetensors"
    save_outline(network, path, {"start": "first.safetensors"}, dtype=torch.float32)
    return network, path


def test_round_trip(stored):
    network, path = stored
    loaded = load_outline(path)
    assert loaded.config == TINY
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor)


def test_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match="train outline"):
        load_outline(CLICK_PATH)


def test_weights_that_do_not_fit_their_settings(stored):
    path = stored[1]
    config = {**TINY.to_dict(), "widths": [16, 16, 32, 32]}
    save_file(load_file(path), path, metadata={"format": FORMAT, "config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_outline(path)


def test_where_a_training_started_is_read_from_the_header(stored):
    assert started_from(stored[1], "nothing") == "first.safetensors"


def test_the_weights_that_ship_are_small():
    assert OUTLINE_PATH.stat().st_size < 8e6
    assert load_outline().config == OutlineConfig()
