"""Numpy files."""

from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io import read_labels, read_volume, write_labels


def test_arrays_are_memory_mapped(tmp_path, image_zyx, labels_zyx):
    np.save(tmp_path / "i.npy", image_zyx.astype(">i2"))
    opened = read_volume(tmp_path / "i.npy")
    assert isinstance(opened.volume.data, np.memmap)
    np.testing.assert_array_equal(opened.volume.along(2).read(1), image_zyx[:, :, 1])
    for name in ("l.npy", "l.npz"):
        out = write_labels(tmp_path / name, labels_zyx, opened)
        np.testing.assert_array_equal(read_labels(out), labels_zyx)


def test_a_plane_stays_a_plane(tmp_path, image_zyx):
    np.save(tmp_path / "i.npy", image_zyx[0])
    opened = read_volume(tmp_path / "i.npy")
    out = write_labels(tmp_path / "l.npy", np.ones((1, 6, 7), bool), opened)
    assert np.load(out).shape == (6, 7)
    assert read_labels(out).shape == (1, 6, 7)


def test_time_and_channels(tmp_path, image_zyx):
    np.save(tmp_path / "t.npy", np.stack([image_zyx, image_zyx + 1]))
    with pytest.raises(VolumeError, match=r"t\.npy.*time point"):
        read_volume(tmp_path / "t.npy")
    volume = read_volume(tmp_path / "t.npy", time=1).volume
    np.testing.assert_array_equal(volume.along(0).read(0), image_zyx[0] + 1)
    np.save(tmp_path / "c.npy", np.stack([image_zyx, image_zyx + 1], axis=-1))
    volume = read_volume(tmp_path / "c.npy", channel=1).volume
    np.testing.assert_array_equal(volume.along(0).read(0), image_zyx[0] + 1)


def test_several_arrays_are_refused(tmp_path, image_zyx):
    np.savez(tmp_path / "two.npz", a=image_zyx, b=image_zyx)
    with pytest.raises(FileFormatError, match=r"\['a', 'b'\]"):
        read_volume(tmp_path / "two.npz")


@pytest.mark.parametrize("dtype", [object, complex, "U4"])
def test_arrays_of_other_things_are_refused(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4), dtype))
    with pytest.raises((FileFormatError, VolumeError), match=r"x\.npy"):
        read_volume(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["i.npy", "i.npz"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_truncated_files_are_refused(tmp_path, image_zyx, name, share):
    path = tmp_path / name
    (np.save if name == "i.npy" else np.savez_compressed)(path, image_zyx)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileFormatError, match=r"i\.np"):
        read_volume(path)
