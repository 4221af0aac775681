"""Arrays narrowed or scaled without being read."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_slidesam.io.lazy import ScaledArray, SelectedArray

DATA = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


@pytest.mark.parametrize(
    "index",
    [
        np.s_[:, :],
        np.s_[1],
        np.s_[1, 2],
        np.s_[..., 2],
        np.s_[1, ...],
        np.s_[:, ..., 1:2],
        np.s_[...],
        np.s_[0:2, 3],
    ],
)
def test_any_index_of_what_is_left(index):
    selected = SelectedArray(DATA, {0: 1, 2: 3})
    assert selected.shape == (3, 5)
    assert selected.dtype == DATA.dtype
    np.testing.assert_array_equal(selected[index], DATA[1, :, 3][index])
    assert selected.chunks is None


def test_chunks_of_what_is_left():
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=(2, 3, 4), chunks=(1, 2, 3), dtype="u1"
    )
    assert SelectedArray(array, {1: 0}).chunks == (1, 3)


def test_scaling_happens_when_read():
    scaled = ScaledArray(DATA, 0.5, -10.0)
    assert (scaled.shape, scaled.dtype) == (DATA.shape, np.float32)
    found = scaled[1, 2]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, DATA[1, 2] * 0.5 - 10)
