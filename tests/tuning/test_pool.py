from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning import pool as pool_module
from napari_slidesam.tuning.labelled import LabelledVolume
from napari_slidesam.tuning.pool import Pool, main, unpack_masks, write_pool
from napari_slidesam.tuning.pool_files import JoinedPools, PoolState, pack
from napari_slidesam.tuning.stack_config import StackConfig
from napari_slidesam.tuning.stacks import Stack

if TYPE_CHECKING:
    from pathlib import Path

SMALL = StackConfig(side_px=48)


@pytest.fixture
def volume() -> LabelledVolume:
    rng = np.random.default_rng(0)
    labels = np.zeros((30, 40, 40), np.uint16)
    labels[8:22, 8:30, 10:28] = 1
    image = labels * 100 + rng.normal(0, 10, labels.shape)
    return LabelledVolume.from_arrays("block", image, labels, (1.0, 1.0, 1.0))


def test_masks_survive_packing() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((5, 16, 16)) < 0.5
    images = rng.integers(0, 256, (5, 16, 16)).astype(np.uint8)
    packed = pack(Stack(images, masks, "real/x"))
    assert packed.shape == (6, 16, 16)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed[:5], images)
    np.testing.assert_array_equal(packed[5] >> 3 & 1, masks[3])
    np.testing.assert_array_equal(unpack_masks(packed[None, 5], 5)[0], masks)


def test_a_pool_is_written_and_read(tmp_path: Path, volume: LabelledVolume) -> None:
    written = write_pool(tmp_path / "pool", [volume], n=9, seed=2, config=SMALL)
    pool = Pool.open(tmp_path / "pool")
    assert written.available == pool.available == 9
    batch = pool.read([8, 0, 3])
    assert batch.shape == (3, 6, 48, 48)
    masks = unpack_masks(batch[:, 5], 5)
    assert masks[:, 2].any((1, 2)).all()
    assert set(pool.source_names(range(9))) <= {"real/block", "painted/block"}


def test_an_interrupted_pool_continues_to_the_same_stacks(
    tmp_path: Path, volume: LabelledVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_pool(tmp_path / "whole", [volume], n=8, seed=4, config=SMALL)
    broken = tmp_path / "broken"
    monkeypatch.setattr(pool_module, "REPORT_EVERY", 1)

    class Interrupted(Exception):
        pass

    def stop(self: object, worker: int, done: int) -> None:
        update(self, worker, done)
        if done == 3:
            raise Interrupted

    update = pool_module._StateKeeper.update
    with monkeypatch.context() as patch:
        patch.setattr(pool_module._StateKeeper, "update", stop)
        with pytest.raises(Interrupted):
            write_pool(broken, [volume], n=8, seed=4, config=SMALL)
    assert Pool.open(broken).available == 3

    continued = write_pool(broken, [volume], n=8, seed=4, config=SMALL)
    np.testing.assert_array_equal(continued.read(range(8)), whole.read(range(8)))


def test_two_workers_with_procedural_volumes(tmp_path: Path, volume: LabelledVolume) -> None:
    config = replace(SMALL, real=0.2, painted=0.2, procedural=0.6)
    pool = write_pool(tmp_path, [volume], n=7, seed=1, workers=2, procedural=2, config=config)
    state = json.loads((tmp_path / "pool.json").read_text())
    assert state["written"] == [4, 3]
    assert pool.available == 7
    assert any(name.startswith("procedural/") for name in pool.source_names(range(7)))
    assert pool.read(range(7))[:, 5].any((1, 2)).all()


def test_available_counts_slots_before_the_first_gap() -> None:
    state = PoolState(20, 5, 48, 0, 0, (3, 5), (), {})
    assert state.available == 6
    assert replace(state, written=(10, 10)).available == 20
    assert replace(state, written=(0, 10)).available == 0


def test_another_pool_is_not_overwritten(tmp_path: Path, volume: LabelledVolume) -> None:
    write_pool(tmp_path, [volume], n=2, seed=0, config=SMALL)
    with pytest.raises(TuningError, match="other settings"):
        write_pool(tmp_path, [volume], n=2, seed=1, config=SMALL)


def test_bad_input_gets_a_clear_error(tmp_path: Path, volume: LabelledVolume) -> None:
    with pytest.raises(TuningError, match="at least one stack"):
        write_pool(tmp_path, [volume], n=0, seed=0)
    with pytest.raises(TuningError, match=r"pool\.json"):
        Pool.open(tmp_path)
    pool = write_pool(tmp_path / "pool", [volume], n=1, seed=0, config=SMALL)
    np.save(pool.folder / "stacks.npy", np.zeros((1, 2), np.uint8))
    with pytest.raises(TuningError, match="shape"):
        Pool.open(pool.folder)
    (pool.folder / "stacks.npy").write_bytes(b"x")
    with pytest.raises(TuningError, match="cannot be read"):
        Pool.open(pool.folder)


def test_a_failing_worker_is_reported(tmp_path: Path, volume: LabelledVolume) -> None:
    flat = replace(volume, image=np.zeros_like(volume.image))
    config = replace(SMALL, painted=0)
    with pytest.raises(TuningError, match="No stack found"):
        write_pool(tmp_path, [flat], n=4, seed=0, workers=2, config=config)


def test_the_command_fills_a_pool_from_a_folder(
    tmp_path: Path, volume: LabelledVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data" / "block"
    data.mkdir(parents=True)
    for name, values in (("labels", volume.labels), ("image", volume.image)):
        nib.save(nib.Nifti1Image(values.T, np.eye(4)), data / f"{name}.nii.gz")
    arguments = ["--data", str(data.parent), "--synthetic", "0", "--n", "2"]
    assert main([*arguments, "--out", str(tmp_path / "pool")]) == 0
    assert Pool.open(tmp_path / "pool").read([0, 1]).shape == (2, 6, 192, 192)
    assert main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "pool")]) == 1


def test_joined_pools_read_as_one(tmp_path: Path, volume: LabelledVolume) -> None:
    config = replace(SMALL, painted=0, procedural=0)
    pools = [write_pool(tmp_path / str(k), [volume], 3 + k, seed=k, config=config) for k in (0, 1)]
    joined = JoinedPools(pools)
    assert joined.available == 7
    wanted = np.array([5, 0, 3, 2])
    expected = np.stack(
        [pools[1].read([2])[0], pools[0].read([0])[0], pools[1].read([0])[0], pools[0].read([2])[0]]
    )
    np.testing.assert_array_equal(joined.read(wanted), expected)
    assert joined.source_names(wanted) == ["real/block"] * 4
    larger = write_pool(tmp_path / "larger", [volume], 1, seed=0, config=StackConfig(side_px=64))
    with pytest.raises(TuningError, match="one size"):
        JoinedPools([pools[0], larger])
