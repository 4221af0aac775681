"""Networks by name, by the user's name, and by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model import library as library_module
from napari_slidesam.model.adapters import add_lora, save_adapter
from napari_slidesam.model.checkpoints import save_checkpoint
from napari_slidesam.model.library import FOLDER_VARIABLE, ModelLibrary, available_models
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.protocol import WindowModel
from napari_slidesam.model.registry import load_model
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.model.weights import save_weights

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own networks out, and the tests' out of the user's."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    monkeypatch.setattr(library_module, "user_models_file", lambda: tmp_path / "models.json")
    return tmp_path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = LiteConfig(
        stem_channels=(8, 8, 16), embed_dim=32, depth=1, num_heads=2, viewport_size=64
    )
    path = tmp_path / "tiny.safetensors"
    save_weights(SlideSamLite(config, name="tiny"), path, {"note": "random"})
    return path


def test_by_path_and_by_the_name_given_to_it(tiny: Path) -> None:
    ModelLibrary().add("mine", tiny)
    for name_or_path in ("mine", tiny, str(tiny)):
        model = load_model(name_or_path, "cpu")
        assert isinstance(model, WindowModel)
        assert model.name == "tiny"
        assert model.device == torch.device("cpu")
    assert [e.name for e in available_models() if e.is_user] == ["mine"]


def test_networks_of_another_kind(slidesam: SlideSam, folders: Path) -> None:
    path = folders / "sam.safetensors"
    save_checkpoint(slidesam, path)
    ModelLibrary().add("mine", path)
    assert isinstance(load_model("mine", "cpu"), SlideSam)


def test_with_an_adapter(tiny: Path, folders: Path) -> None:
    model = load_model(tiny, "cpu")
    assert isinstance(model, SlideSamLite)
    add_lora(model)
    save_adapter(model, folders / "adapter")
    assert load_model(tiny, "cpu", adapter=folders / "adapter").name
    for name_or_path in ("embedded", tiny):
        with pytest.raises(CheckpointError, match="There is no adapter"):
            load_model(name_or_path, "cpu", adapter=folders / "nowhere")


def test_a_known_one_that_is_not_here_tells_how_to_get_it() -> None:
    with pytest.raises(CheckpointError, match="napari-slidesam models download sam-vit-b"):
        load_model("sam-vit-b", "cpu")
    with pytest.raises(CheckpointError, match=r"pan\.baidu\.com.*slide_sam_h\.pth"):
        load_model("slide-sam-h", "cpu")


def test_no_such_network_tells_the_names() -> None:
    with pytest.raises(CheckpointError, match=r"'sam-xxl'.*embedded.*medsam"):
        load_model("sam-xxl", "cpu")


def test_a_broken_list_does_not_hide_the_embedded_one(folders: Path) -> None:
    (folders / "models.json").write_text("{")
    assert load_model(device="cpu").name
