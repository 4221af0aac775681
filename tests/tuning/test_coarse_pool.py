from __future__ import annotations

import json

import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.tuning import coarse_pool
from napari_slidesam.tuning.coarse_pool import write_coarse_pool
from napari_slidesam.tuning.coarse_pool_files import (
    CoarsePool,
    CoarsePoolState,
    CropArrays,
    JoinedCoarsePools,
)
from napari_slidesam.tuning.labelled import LabelledVolume

SMALL = CoarseConfig(side=16)


@pytest.fixture
def volume() -> LabelledVolume:
    rng = np.random.default_rng(0)
    labels = np.zeros((30, 40, 40), np.uint16)
    labels[8:22, 8:30, 10:28] = 1
    image = labels * 100 + rng.normal(0, 10, labels.shape)
    return LabelledVolume.from_arrays("block", image, labels, (1.0, 1.0, 1.0))


def all_of(pool) -> list[np.ndarray]:
    return list(pool.read(range(pool.available)))


def test_a_pool_is_written_and_read(tmp_path, volume):
    written = write_coarse_pool(tmp_path / "pool", [volume], 9, seed=2, cubes=SMALL)
    pool = CoarsePool.open(tmp_path / "pool")
    assert written.available == pool.available == 9
    crops = pool.read([8, 0, 3])
    assert crops.images.shape == crops.truths.shape == (3, 16, 16, 16)
    assert (crops.masks.shape, crops.inside.shape) == ((3, 16, 16), (3, 3, 16))
    assert crops.images.dtype == crops.masks.dtype == np.uint8
    assert crops.inside.dtype == np.bool_
    assert (crops.masks.max((1, 2)) == 255).all()
    assert set(pool.source_names(range(9))) <= {"real/block", "painted/block"}
    state = json.loads((tmp_path / "pool" / "pool.json").read_text())
    assert (state["version"], state["side"], state["seed"], state["written"]) == (1, 16, 2, 9)


def test_an_interrupted_pool_continues_to_the_same_crops(tmp_path, volume, monkeypatch):
    whole = write_coarse_pool(tmp_path / "whole", [volume], 7, seed=4, cubes=SMALL)
    monkeypatch.setattr(coarse_pool, "BATCH", 2)

    def stop(sampler, seed, first, stop):
        if first == 4:
            raise KeyboardInterrupt
        return drawn(sampler, seed, first, stop)

    drawn = coarse_pool._drawn
    with monkeypatch.context() as patch:
        patch.setattr(coarse_pool, "_drawn", stop)
        with pytest.raises(KeyboardInterrupt):
            write_coarse_pool(tmp_path / "broken", [volume], 7, seed=4, cubes=SMALL)
    assert CoarsePool.open(tmp_path / "broken").available == 4

    continued = write_coarse_pool(tmp_path / "broken", [volume], 7, seed=4, cubes=SMALL)
    for ours, theirs in zip(all_of(continued), all_of(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_workers_write_what_one_does(tmp_path, volume, monkeypatch):
    monkeypatch.setattr(coarse_pool, "BATCH", 2)
    one, two = (
        write_coarse_pool(tmp_path / str(n), [volume], 5, 1, n, cubes=SMALL) for n in (1, 2)
    )
    assert two.available == 5
    assert one.source_names(range(5)) == two.source_names(range(5))
    for ours, theirs in zip(all_of(two), all_of(one), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_fails_in_a_worker_is_reported(tmp_path, volume):
    flat = LabelledVolume("flat", None, volume.labels[:3] * 0 + 1, (1.0, 1.0, 1.0), (1,))
    with pytest.raises(TuningError, match="No crop was found"):
        write_coarse_pool(tmp_path, [flat], 2, seed=0, workers=2, cubes=SMALL)
    assert CoarsePool.open(tmp_path).available == 0


def test_another_pool_is_not_overwritten(tmp_path, volume):
    write_coarse_pool(tmp_path, [volume], 2, seed=0, cubes=SMALL)
    with pytest.raises(TuningError, match="other settings"):
        write_coarse_pool(tmp_path, [volume], 2, seed=1, cubes=SMALL)


def test_bad_input_gets_a_clear_error(tmp_path, volume):
    with pytest.raises(TuningError, match="at least one crop"):
        write_coarse_pool(tmp_path, [volume], 0, seed=0)
    with pytest.raises(TuningError, match="coarse-pool"):
        CoarsePool.open(tmp_path)
    pool = write_coarse_pool(tmp_path / "pool", [volume], 1, seed=0, cubes=SMALL)
    np.save(pool.folder / "masks.npy", np.zeros((1, 2), np.uint8))
    with pytest.raises(TuningError, match="shape"):
        CoarsePool.open(pool.folder)
    (pool.folder / "masks.npy").write_bytes(b"x")
    with pytest.raises(TuningError, match="cannot be read"):
        CoarsePool.open(pool.folder)


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"capacity": 3}', '{"version": 99}'])
def test_a_folder_of_another_kind(tmp_path, content):
    (tmp_path / "pool.json").write_text(content)
    with pytest.raises(TuningError, match="coarse crops"):
        CoarsePoolState.read(tmp_path)


def test_joined_pools_read_as_one(tmp_path, volume):
    pools = [
        write_coarse_pool(tmp_path / str(k), [volume], 3 + k, seed=k, cubes=SMALL) for k in (0, 1)
    ]
    joined = JoinedCoarsePools.open([p.folder for p in pools])
    assert joined.available == 7
    assert (joined.side, joined.samples, joined.context) == (16, 2, 2.4)
    wanted = [(1, 2), (0, 0), (1, 0), (0, 2)]
    found = joined.read(np.array([5, 0, 3, 2]))
    for k, (pool, row) in enumerate(wanted):
        for ours, theirs in zip(found, pools[pool].read([row]), strict=True):
            np.testing.assert_array_equal(ours[k], theirs[0])
    names = [pools[pool].source_names([row])[0] for pool, row in wanted]
    assert joined.source_names([5, 0, 3, 2]) == names
    larger = write_coarse_pool(tmp_path / "x", [volume], 1, seed=0, cubes=CoarseConfig(side=24))
    with pytest.raises(TuningError, match="one side"):
        JoinedCoarsePools([pools[0], larger])
    with pytest.raises(TuningError, match="one side"):
        JoinedCoarsePools([])


def test_room_for_crops_has_their_shapes():
    room = CropArrays.empty(2, 8)
    shapes = [a.shape for a in room]
    assert shapes == [(2, 8, 8, 8), (2, 8, 8, 8), (2, 8, 8), (2, 3, 8)]
