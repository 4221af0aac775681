"""What is on disk is complete, ours, of this network, and close to what was made."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import zarr

from napari_slidesam.engine import embedding_store
from napari_slidesam.engine.embedding_store import EmbeddingStore
from napari_slidesam.errors import ConfigError, FileFormatError


@pytest.fixture
def embedding():
    return torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def only_array(folder):
    (path,) = [p.parent for p in folder.glob("*/*/zarr.json")]
    return path


@pytest.mark.parametrize(("stored", "error"), [("float32", 0.0), ("float16", 5e-4)])
def test_round_trip(folder, embedding, stored, error):
    EmbeddingStore(folder, stored).put("net", "a", embedding)
    found = EmbeddingStore(folder, stored).get("net", "a")
    assert found.dtype == torch.float32
    assert ((found - embedding).abs() <= error * embedding.abs() + 1e-7).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_come_back_as_they_were(folder, embedding, dtype):
    """A bfloat16 has 8 bits of mantissa, a float16 11: none is lost within its range."""
    short = embedding.to(dtype)
    store = EmbeddingStore(folder)
    store.put("net", "a", short)
    found = store.get("net", "a")
    assert found.dtype == dtype
    assert torch.equal(found, short)


def test_values_beyond_float16_are_kept_as_float32(folder, embedding):
    large = embedding * 1e5
    store = EmbeddingStore(folder)
    store.put("net", "a", large)
    assert torch.equal(store.get("net", "a"), large)


def test_values_that_are_not_finite_are_not_kept(folder, embedding):
    embedding[0, 0, 0] = torch.nan
    store = EmbeddingStore(folder)
    store.put("net", "a", embedding)
    assert not store.has("net", "a")


def test_it_is_zarr_that_says_what_it_holds(folder, embedding):
    EmbeddingStore(folder).put("vit-b-1234", "a", embedding)
    group = zarr.open_group(str(folder), mode="r")
    ((_, network),) = group.groups()
    assert network.attrs["fingerprint"] == "vit-b-1234"
    assert network["a"].shape == (8, 16, 16)
    assert network["a"].dtype == np.float16


def test_another_network_data_or_type_is_not_found(folder, embedding):
    store = EmbeddingStore(folder)
    store.put("net", "a", embedding)
    assert store.has("net", "a")
    assert store.get("other net", "a") is None
    assert store.get("net", "b") is None
    assert not EmbeddingStore(folder, "float32").has("net", "a")


def test_an_embedding_that_is_there_is_kept(folder, embedding):
    store = EmbeddingStore(folder)
    store.put("net", "a", embedding)
    before = only_array(folder).stat().st_mtime_ns
    store.put("net", "a", embedding)
    assert only_array(folder).stat().st_mtime_ns == before


def damage_chunk(path):
    chunk = path / "c/0/0/0"
    raw = bytearray(chunk.read_bytes())
    raw[100] ^= 0xFF
    chunk.write_bytes(raw)


def truncate_chunk(path):
    chunk = path / "c/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:50])


def remove_chunk(path):
    shutil.rmtree(path / "c")


def break_metadata(path):
    (path / "zarr.json").write_text("{")


def remove_metadata(path):
    (path / "zarr.json").unlink()


def forget_type(path):
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"] = {}
    (path / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    "damage",
    [
        damage_chunk,
        truncate_chunk,
        remove_chunk,
        break_metadata,
        remove_metadata,
        forget_type,
    ],
)
def test_a_damaged_embedding_is_made_again(folder, embedding, damage):
    store = EmbeddingStore(folder)
    store.put("net", "a", embedding)
    damage(only_array(folder))
    with pytest.warns(UserWarning, match="damaged"):
        assert store.get("net", "a") is None
    assert not store.has("net", "a")
    store.put("net", "a", embedding)
    assert store.get("net", "a") is not None


def test_foreign_folders_are_refused_and_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileFormatError, match="something else"):
        EmbeddingStore(tmp_path)
    zarr.open_group(str(tmp_path / "image.zarr"), mode="w")
    with pytest.raises(FileFormatError, match="something else"):
        EmbeddingStore(tmp_path / "image.zarr")
    with pytest.raises(FileFormatError, match="something else"):
        EmbeddingStore(tmp_path / "letter.txt")
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_other_versions_and_broken_markers_are_refused(folder):
    EmbeddingStore(folder)
    marker = folder / "zarr.json"
    marker.write_text(marker.read_text().replace('embeddings": 1', 'embeddings": 99'))
    with pytest.raises(FileFormatError, match="version 99"):
        EmbeddingStore(folder)
    marker.write_text("{")
    with pytest.raises(FileFormatError, match="Remove the folder"):
        EmbeddingStore(folder)


def test_an_unknown_type_is_refused(folder):
    with pytest.raises(ConfigError, match="float8"):
        EmbeddingStore(folder, "float8")


def test_a_full_disk_is_warned_of_once_and_reading_goes_on(folder, embedding, monkeypatch):
    store = EmbeddingStore(folder)
    store.put("net", "a", embedding)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(embedding_store, "_write", full)
    with pytest.warns(UserWarning, match="No space left.*without keeping"):
        store.put("net", "b", embedding)
    store.put("net", "c", embedding)  # filterwarnings = error: a second warning would fail
    assert not store.has("net", "b")
    assert store.get("net", "a") is not None
    assert [p.name for p in folder.glob("*/.*")] == []


def test_a_folder_that_cannot_be_made_is_warned_of(tmp_path, embedding):
    (tmp_path / "file").write_text("x")
    with pytest.warns(UserWarning, match="cannot be written.*without keeping"):
        store = EmbeddingStore(tmp_path / "file" / "inside")
    store.put("net", "a", embedding)
    assert store.get("net", "a") is None


def test_a_folder_that_is_read_only_is_read_from(folder, embedding, monkeypatch):
    EmbeddingStore(folder).put("net", "a", embedding)
    store = EmbeddingStore(folder)

    def refused(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # A user with all rights, as in a container, may write to any folder: the system call refuses.
    monkeypatch.setattr(embedding_store, "_write", refused)
    assert store.get("net", "a") is not None
    with pytest.warns(UserWarning, match="Read-only"):
        store.put("net", "b", embedding)


KILLED = """
import os, sys, torch
from napari_slidesam.engine.embedding_store import EmbeddingStore
import napari_slidesam.engine.embedding_store as module
store = EmbeddingStore(sys.argv[1])
store.put("net", "whole", torch.ones(4, 8, 8))
write = module._write
def half(path, values, attributes):
    write(path, values, attributes)
    os._exit(9)
module._write = half
store.put("net", "half", torch.ones(4, 8, 8))
"""


def test_a_kill_while_writing_leaves_what_was_complete(folder):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=120)
    assert done.returncode == 9
    assert list(folder.glob("*/.*"))  # what it was at
    store = EmbeddingStore(folder)
    assert torch.equal(store.get("net", "whole"), torch.ones(4, 8, 8))
    assert store.get("net", "half") is None
    store.put("net", "half", torch.ones(4, 8, 8))
    assert store.has("net", "half")
    (left,) = folder.glob("*/.*")
    os.utime(left, (time.time() - 7200,) * 2)
    EmbeddingStore(folder).has("net", "half")
    assert not left.exists()


def test_a_kill_while_the_folder_is_made_is_no_obstacle(folder):
    folder.mkdir()
    (folder / "zarr.0123abcd.partial").write_text("{")
    EmbeddingStore(folder)
    assert (folder / "zarr.json").is_file()
