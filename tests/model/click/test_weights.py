from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.network import ClickNetwork
from napari_slidesam.model.click.weights import CLICK_PATH, FORMAT, load_click, save_click
from napari_slidesam.model.coarse.weights import COARSE_PATH
from napari_slidesam.model.small_weights import started_from

TINY = ClickConfig(rings=32, angles=32, widths=(8, 8, 16, 16))


@pytest.fixture
def stored(tmp_path):
    torch.manual_seed(0)
    network = ClickNetwork(TINY)
    path = tmp_path / "click.safetensors"
    save_click(network, path, {"start": "first.safetensors"}, dtype=torch.float32)
    return network, path


def test_round_trip(stored):
    network, path = stored
    loaded = load_click(path)
    assert loaded.config == TINY
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor)


def test_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match="train click"):
        load_click(COARSE_PATH)


def test_weights_that_do_not_fit_their_settings(stored):
    path = stored[1]
    config = {**TINY.to_dict(), "widths": [8, 16, 16, 16]}
    save_file(load_file(path), path, metadata={"format": FORMAT, "config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_click(path)


def test_where_a_training_started_is_read_from_the_header(stored, tmp_path):
    assert started_from(stored[1], "nothing") == "first.safetensors"
    assert started_from(tmp_path / "none.safetensors", "nothing") == "nothing"


def test_the_weights_that_ship_are_small():
    assert CLICK_PATH.stat().st_size < 2e6
    assert load_click().config == ClickConfig()
