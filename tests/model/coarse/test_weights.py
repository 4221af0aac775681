from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.features import KnownSlices
from napari_slidesam.model.coarse.network import CoarseNetwork
from napari_slidesam.model.coarse.weights import FORMAT, load_coarse, save_coarse

TINY = CoarseConfig(side=16, widths=(8, 8, 16))


@pytest.fixture
def stored(tmp_path):
    torch.manual_seed(0)
    network = CoarseNetwork(TINY)
    path = tmp_path / "coarse.safetensors"
    save_coarse(network, path, {"seed": "7"}, dtype=torch.float32)
    return network, path


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_round_trip(stored):
    network, path = stored
    loaded = load_coarse(path)
    assert loaded.config == TINY
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor)


def test_half_precision_halves_the_file_and_loads_as_float32(stored):
    network, path = stored
    small = path.with_name("small.safetensors")
    save_coarse(network, small, {})
    assert small.stat().st_size < 0.7 * path.stat().st_size
    loaded = load_coarse(small)
    assert loaded.head.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.head.weight, network.head.weight, rtol=2e-3, atol=1e-4)


def test_facts_of_the_training_are_in_the_header(stored):
    header = header_of(stored[1])
    assert header["seed"] == "7"
    assert json.loads(header["config"])["side"] == 16


def test_nothing_partial_is_left(stored):
    assert [p.name for p in stored[1].parent.iterdir()] == ["coarse.safetensors"]


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_coarse(tmp_path / "none.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file(stored, share):
    _, path = stored
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"coarse\.safetensors"):
        load_coarse(path)


def test_file_of_another_kind(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="does not hold a coarse network"):
        load_coarse(path)


def test_weights_that_do_not_fit_their_settings(stored):
    path = stored[1]
    config = {**TINY.to_dict(), "widths": [8, 16, 16]}
    save_file(load_file(path), path, metadata={"format": FORMAT, "config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_coarse(path)


def test_settings_of_a_later_version(stored):
    path = stored[1]
    config = {**TINY.to_dict(), "attention": True}
    save_file(load_file(path), path, metadata={"format": FORMAT, "config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="attention"):
        load_coarse(path)


@pytest.mark.parametrize("config", [None, "{", '{"side": 16}', '{"widths": 3}'])
def test_a_damaged_header(stored, config):
    network, path = stored
    metadata = {"format": FORMAT} | ({} if config is None else {"config": config})
    save_file(network.state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError):
        load_coarse(path)


def test_weights_from_before_the_last_feature_say_the_same(tmp_path):
    path, old = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    network = CoarseNetwork(CoarseConfig(side=16, widths=(8, 8, 8))).requires_grad_(False)
    network.stem.weight[:, -8:] = 0
    save_coarse(network, path, {}, dtype=torch.float32)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        tensors["stem.weight"] = tensors["stem.weight"][:, :-8].contiguous()
        save_file(tensors, old, file.metadata())
    cubes = torch.rand(1, 16, 16, 16), torch.rand(1, 16, 16), torch.ones(1, 3, 16, dtype=torch.bool)
    images, masks, inside = cubes
    known = KnownSlices.middle(masks)
    expected = load_coarse(path)(images, known, inside)
    torch.testing.assert_close(load_coarse(old)(images, known, inside), expected)
