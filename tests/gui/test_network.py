"""The network of the dock, and its embeddings on disk."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import platformdirs
import pytest
import torch

from napari_slidesam.errors import SlideSamError
from napari_slidesam.gui.network import Network, embeddings_folder
from napari_slidesam.gui.state import SegmentSettings
from napari_slidesam.model.checkpoints import save_checkpoint
from napari_slidesam.model.sam.config import SamConfig
from napari_slidesam.model.sam.network import SlideSam

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, a temporary one."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of the paper's network, tiny."""
    torch.manual_seed(0)
    config = SamConfig(
        embed_dim=32,
        depth=2,
        num_heads=2,
        global_attn_indexes=(1,),
        window_size=3,
        image_size=64,
        prompt_embed_dim=32,
        decoder_mlp_dim=32,
    )
    save_checkpoint(SlideSam(config, name="tiny"), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.mark.parametrize("is_kept", [False, True])
def test_embeddings_are_kept_on_disk_where_that_is_set(
    cache: Path, weights: Path, is_kept: bool
) -> None:
    settings = SegmentSettings(model=str(weights), device="cpu", keep_embeddings=is_kept)
    network = Network()
    assert len(list(network.load(settings, threading.Event()))) == 1  # warms up: embeds a little
    embeddings = network.predictor(settings).embeddings
    assert embeddings is not None
    assert (embeddings.store is not None) == is_kept
    assert embeddings_folder().is_dir() == is_kept
    assert len(list(cache.glob("embeddings/*/*/zarr.json"))) == (len(embeddings.cache) * is_kept)


def test_the_switch_takes_effect_at_once(cache: Path, weights: Path) -> None:
    network = Network()
    plain, kept = (
        network.predictor(SegmentSettings(model=str(weights), device="cpu", keep_embeddings=k))
        for k in (False, True)
    )
    assert plain is not kept
    assert kept.embeddings is not None
    assert kept.embeddings.store is not None


def test_a_cache_folder_that_is_something_else_is_told(cache: Path, weights: Path) -> None:
    embeddings_folder().mkdir(parents=True)
    (embeddings_folder() / "letter.txt").write_text("not an embedding")
    settings = SegmentSettings(model=str(weights), device="cpu", keep_embeddings=True)
    with pytest.raises(SlideSamError, match="something else"):
        Network().predictor(settings)
