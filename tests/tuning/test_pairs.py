from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning import pair_arrays
from napari_slidesam.tuning.pair_arrays import CroppedArray, MixedChannels, cropped, slabs
from napari_slidesam.tuning.pairs import TrainingPair, looks_like_image, pair_from_arrays
from napari_slidesam.volume import Volume

SHAPE = (10, 12, 14)


@pytest.fixture
def labels() -> np.ndarray:
    out = np.zeros(SHAPE, np.uint8)
    out[2:8, 3:9, 4:10] = 3
    out[5, 0, 0] = 9
    return out


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 30, SHAPE).astype(np.float32)


def test_a_pair_knows_its_objects_and_its_empty_slices(image, labels):
    pair = pair_from_arrays("a", image, labels, (2.0, 1.0, 0.5))
    assert isinstance(pair, TrainingPair)
    assert (pair.name, pair.shape_zyx, pair.spacing_zyx) == ("a", SHAPE, (2.0, 1.0, 0.5))
    assert pair.object_labels == (3, 9)
    assert pair.empty == {0, 1, 8, 9}
    assert pair.unlabelled == frozenset()
    assert np.flatnonzero(pair.labelled).tolist() == [2, 3, 4, 5, 6, 7]
    assert pair.image is image
    assert pair.labels is labels


def test_marked_slices_are_not_labelled_whatever_they_hold(image, labels):
    values = labels.astype(np.int16)
    values[3] = -1
    pair = pair_from_arrays("a", image, values, unlabelled=(3, 5))
    assert pair.object_labels == (3,)
    assert np.flatnonzero(pair.labelled).tolist() == [2, 4, 6, 7]


def test_all_slices_of_a_complete_volume_are_labelled_but_those_marked(image, labels):
    pair = pair_from_arrays("a", image, labels, unlabelled=(9,), complete=True)
    assert np.flatnonzero(~pair.labelled).tolist() == [9]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, ">i2"])
def test_labels_of_any_number_type_are_read_as_integers(image, labels, dtype):
    pair = pair_from_arrays("a", image, labels.astype(dtype))
    read = np.asarray(pair.labels[2:6, :, 4])
    assert read.dtype.kind in "iu"
    np.testing.assert_array_equal(read, labels[2:6, :, 4])
    assert np.dtype(pair.labels.dtype) == read.dtype
    assert pair.object_labels == (3, 9)


def test_a_mask_is_label_1(image, labels):
    pair = pair_from_arrays("a", image, labels > 0)
    assert pair.object_labels == (1,)
    np.testing.assert_array_equal(pair.labels[:], (labels > 0).astype(int))


def test_large_ids_stay_apart(image, labels):
    ids = np.where(labels == 3, 2**40 + 1, np.where(labels == 9, 2**40, 0))
    assert pair_from_arrays("a", image, ids).object_labels == (2**40, 2**40 + 1)
    as_float = pair_from_arrays("a", image, ids.astype(np.float64))
    np.testing.assert_array_equal(as_float.labels[:], ids)


def test_arrays_are_not_read_when_used_as_a_pair(image, labels):
    store = zarr.array(image, chunks=(4, 12, 14))
    pair = pair_from_arrays("a", store, da.from_array(labels, 5))
    assert pair.image is store
    assert pair.object_labels == (3, 9)


def test_few_slices_are_held_at_once(monkeypatch, image, labels):
    monkeypatch.setattr(pair_arrays, "SLAB_VOXELS", 2 * 12 * 14)
    seen: list[int] = []

    class Watched:
        shape, dtype = SHAPE, labels.dtype

        def __getitem__(self, index):
            part = labels[index]
            seen.append(len(part))
            return part

    pair = pair_from_arrays("a", image, Watched())
    assert pair.object_labels == (3, 9)
    assert seen == [2] * 5


def test_a_volume_chooses_its_channel(image, labels):
    channels = np.stack([image, image * 2, image + 1])
    chosen = pair_from_arrays("a", Volume(channels, (3, 1, 1), "px", 0, 1), labels)
    np.testing.assert_array_equal(np.asarray(chosen.image[2:4]), image[2:4] * 2)
    assert chosen.spacing_zyx == (3.0, 1.0, 1.0)
    mean = pair_from_arrays("a", Volume(np.moveaxis(channels, 0, 2), channel_axis=2), labels)
    assert np.shape(mean.image) == SHAPE
    for index in (np.s_[3], np.s_[2:4, 5], np.s_[..., -1], np.s_[1:9:3, :, 2:5]):
        expected = channels.mean(axis=0)[index]
        np.testing.assert_allclose(np.asarray(mean.image[index]), expected, rtol=1e-6)


def test_a_2d_volume_is_one_slice(image, labels):
    pair = pair_from_arrays("a", Volume(image[4]), labels[4:5])
    assert pair.shape_zyx == (1, 12, 14)


def test_a_view_of_any_array_is_its_part(image):
    box = (slice(2, 9), slice(0, 12), slice(3, 11))
    chunked = zarr.array(image, chunks=(4, 5, 6))
    for array in (image, da.from_array(image, 4), chunked):
        view = cropped(array, box)
        assert tuple(view.shape) == (7, 12, 8)
        for index in (np.s_[3], np.s_[-1, 2:4], np.s_[..., 1:-2:2], np.s_[4:2], np.s_[:]):
            np.testing.assert_array_equal(np.asarray(view[index]), image[box][index])
    assert isinstance(cropped(chunked, box), CroppedArray)
    assert cropped(chunked, tuple(slice(0, n) for n in SHAPE)) is chunked
    with pytest.raises(IndexError):
        cropped(chunked, box)[7]


def test_channels_keep_their_chunks_out_of_the_way(image):
    stack = zarr.array(np.stack([image, image]), chunks=(1, 5, 12, 14))
    assert MixedChannels(stack, 0, (0.5, 0.5)).chunks == (5, 12, 14)


def test_slabs_are_whole_chunks(monkeypatch, image):
    monkeypatch.setattr(pair_arrays, "SLAB_VOXELS", 7 * 12 * 14)
    assert list(slabs(image)) == [(0, 7), (7, 10)]
    assert list(slabs(zarr.array(image, chunks=(3, 12, 14)), 2)) == [(2, 6), (6, 10)]
    assert list(slabs(zarr.array(image, chunks=(9, 12, 14)))) == [(0, 9), (9, 10)]


def _with(array: np.ndarray, index, value) -> np.ndarray:
    changed = array.astype(np.float64)
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, v: (i[1:], v), r"same shape; 'a' has \(9, 12, 14\) and \(10, 12, 14\)"),
        (lambda i, v: (i, _with(v, (2, 4, 5), 1.5)), "fractions"),
        (lambda i, v: (i, _with(v, (2, 4, 5), np.nan)), "NaN"),
        (lambda i, v: (i, _with(v, (2, 4, 5), -1).astype(np.int8)), "have -1"),
        (lambda i, v: (i, _with(v, (2, 4, 5), 2.0**60)), "up to 2\\^53"),
        (lambda i, v: (i, np.zeros_like(v)), "0 everywhere"),
        (lambda i, v: (i[0], v[0]), "three axes"),
        (lambda i, v: (np.stack([i, i]), v), "three axes"),
        (lambda i, v: (i[:0], v[:0]), "and a voxel"),
        (lambda i, v: (i.astype(complex), v), "magnitude"),
        (lambda i, v: (i, v.tolist()), "numpy.asarray"),
        (lambda i, v: (_with(i, np.s_[3, 4, 5:7], np.nan), v), "2 voxels of its objects"),
        (lambda i, v: (_with(i, (3, 4, 5), np.inf), v), "NaN or infinite"),
    ],
)
def test_arrays_that_cannot_be_used(image, labels, change, message):
    with pytest.raises(TuningError, match=message):
        pair_from_arrays("a", *change(image, labels))


def test_an_image_may_be_no_number_beside_the_objects(image, labels):
    pair = pair_from_arrays("a", _with(image, (0, 0), np.nan), labels)
    assert pair.object_labels == (3, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing_zyx": (0.0, 1.0, 1.0)}, "three positive"),
        ({"spacing_zyx": (1.0, 1.0)}, "three positive"),
        ({"unlabelled": [10]}, "0 to 9, so 10"),
        ({"unlabelled": range(10)}, "outside the slices marked"),
    ],
)
def test_options_that_do_not_fit(image, labels, options, message):
    with pytest.raises(TuningError, match=message):
        pair_from_arrays("a", image, labels, **options)


def test_an_image_taken_for_labels_is_noticed(image, labels):
    assert looks_like_image(np.round(image).astype(np.uint8))
    assert looks_like_image(zarr.array(np.round(image).astype(np.uint8)))
    assert not looks_like_image(labels)
    assert not looks_like_image(labels > 0)
    cells = np.repeat(np.arange(1, 1 + 10 * 36).reshape(10, 6, 6), 4, axis=1).repeat(4, axis=2)
    assert not looks_like_image(cells)
