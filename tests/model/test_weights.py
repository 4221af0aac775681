from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from napari_slidesam.errors import CheckpointError, DeviceError
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.registry import load_model, resolve_device
from napari_slidesam.model.weights import EMBEDDED_PATH, load_weights, read_header, save_weights

TINY = LiteConfig(stem_channels=(4, 8, 8), embed_dim=16, depth=1, num_heads=2, grid_size=4)


@pytest.fixture
def stored(tmp_path):
    torch.manual_seed(0)
    model = SlideSamLite(TINY, name="tiny").eval()
    path = tmp_path / "tiny.safetensors"
    save_weights(model, path, {"seed": "0"}, dtype=torch.float32)
    return model, path


def test_round_trip(stored):
    model, path = stored
    loaded = load_weights(path)
    assert loaded.name == "tiny"
    assert loaded.config == TINY
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor)


def test_facts_of_the_training_are_in_the_header(stored):
    assert read_header(stored[1])["seed"] == "0"


def test_nothing_partial_is_left(stored):
    assert [p.name for p in stored[1].parent.iterdir()] == ["tiny.safetensors"]


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no weights file"):
        load_weights(tmp_path / "none.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file(stored, share):
    _, path = stored
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors"):
        load_weights(path)


def test_file_of_another_kind(tmp_path):
    path = tmp_path / "notes.safetensors"
    path.write_text("these are not weights")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_weights(path)


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no weights of this package"):
        load_weights(path)


def test_tensors_that_do_not_fit(stored):
    _, path = stored
    header = read_header(path)
    wider = SlideSamLite(LiteConfig(stem_channels=(4, 8, 8), embed_dim=32, depth=1, num_heads=2))
    save_file(wider.state_dict(), path, metadata=header)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(path)


def test_dimensions_of_another_version(stored):
    model, path = stored
    header = {**read_header(path), "config": '{"stem_channels": [4, 8, 8], "wings": 2}'}
    save_file(model.state_dict(), path, metadata=header)
    with pytest.raises(CheckpointError, match="another version"):
        load_weights(path)


def test_unknown_name_says_what_there_is():
    with pytest.raises(CheckpointError, match="embedded"):
        load_model("sam-xxl")


@pytest.mark.parametrize("name", ["tpu9", "cuda:x", "mps-ish", ""])
def test_meaningless_device(name):
    with pytest.raises(DeviceError, match="auto, cpu"):
        resolve_device(name)


def test_cuda_where_none_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"):
        load_model("embedded", device="cuda")
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.weights
def test_embedded_weights_ship_and_are_small():
    model = load_model("embedded", device="cpu")
    assert EMBEDDED_PATH.stat().st_size <= 20e6
    assert read_header(EMBEDDED_PATH)["windows"].isdigit()
    assert all(torch.isfinite(p).all() for p in model.parameters())
