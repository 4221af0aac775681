from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_slidesam.errors import TuningError
from napari_slidesam.intensity import Intensity, normalise
from napari_slidesam.tuning import label_counts, pair_arrays
from napari_slidesam.tuning.label_counts import count_areas
from napari_slidesam.tuning.pairs import pair_from_arrays
from napari_slidesam.tuning.splits import Region
from napari_slidesam.tuning.window_index import WindowIndex
from napari_slidesam.tuning.windows import SlidingSource
from napari_slidesam.volume import Volume

SHAPE = (20, 24, 28)


@pytest.fixture
def labels() -> np.ndarray:
    out = np.zeros(SHAPE, np.uint8)
    out[4:16, 6:18, 8:20] = 3
    out[6:14, 0:4, 0:4] = 200
    return out


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(-500, 900, SHAPE).astype(np.int16)


def test_every_labelled_slice_of_every_object_is_a_window(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)])
    assert isinstance(index, SlidingSource)
    expected = {
        (axis, i, label)
        for label in (3, 200)
        for axis in range(3)
        for i in np.flatnonzero((np.moveaxis(labels, axis, 0) == label).any(axis=(1, 2)))
    }
    places = [index.place(i) for i in range(len(index))]
    assert {(p.axis, p.slice_index, p.label) for p in places} == expected
    assert len(index) == len(expected) == 36 + 16
    report = index.report
    assert (report.volumes, report.windows, report.objects) == (1, 52, 2)
    assert report.windows_by_label == {3: 36, 200: 16}
    assert report.dropped == {}


def test_a_window_is_what_inference_sees(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)])
    for i in range(0, len(index), 5):
        window, place = index.read(i), index.place(i)
        planes = np.moveaxis(image, place.axis, 0).astype(np.float32)
        true = np.moveaxis(labels, place.axis, 0) == place.label
        n = len(planes)
        around = [min(max(place.slice_index + k, 0), n - 1) for k in (-1, 0, 1)]
        np.testing.assert_array_equal(window.images, normalise(planes[around], None))
        assert window.images.dtype == np.float32
        seen = np.flatnonzero(window.indicator)
        np.testing.assert_array_equal(window.masks[seen], true[around][seen])
        assert window.masks[1].any()
        assert window.indicator[1]
        assert (window.source, window.label) == ("a", place.label)
        assert (window.axis, window.slice_index) == (place.axis, place.slice_index)


def test_the_last_slice_is_repeated_at_the_end(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)], labels=[200], axes=[1])
    first = index.read(0)
    assert first.slice_index == 0
    np.testing.assert_array_equal(first.images[0], first.images[1])
    np.testing.assert_array_equal(first.masks[0], first.masks[1])
    assert first.indicator == (True, True, True)


def test_slices_past_all_objects_are_left_out_by_the_indicator(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)], axes=[0], labels=[3])
    first, last = index.read(0), index.read(len(index) - 1)
    assert (first.slice_index, first.indicator) == (4, (False, True, True))
    assert (last.slice_index, last.indicator) == (15, (True, True, False))
    assert not first.masks[0].any()


def test_a_slice_with_another_object_is_labelled(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)], axes=[0], labels=[200])
    first = index.read(0)
    assert (first.slice_index, first.indicator) == (6, (True, True, True))
    assert not first.masks[0].any()


def test_empty_slices_of_a_complete_volume_are_labelled(image, labels):
    pair = pair_from_arrays("a", image, labels, complete=True)
    index = WindowIndex([pair], axes=[0], labels=[3])
    assert index.read(0).indicator == (True, True, True)


def test_marked_slices_are_no_centre_and_are_left_out(image, labels):
    pair = pair_from_arrays("a", image, labels, unlabelled=[5, 19])
    index = WindowIndex([pair], axes=[0, 1], labels=[3])
    places = [index.place(i) for i in range(len(index))]
    along_z = [p.slice_index for p in places if p.axis == 0]
    assert along_z == [4, *range(6, 16)]
    assert index.read(0).indicator == (False, True, False)
    window = index.read(1)
    assert (window.slice_index, window.indicator) == (6, (False, True, True))
    assert not window.masks[0].any()
    # Planes along y are cut to the long run of labelled slices, 6 to 15.
    across = index.read(len(along_z))
    assert across.images.shape == (3, 10, SHAPE[2])
    assert index.report.dropped == {
        "slices marked as unlabelled": 2,
        "fewer than 8 labelled slices in a row to cross along y": 1,
    }


def test_planes_do_not_reach_into_marked_ends(image, labels):
    pair = pair_from_arrays("a", image, labels, unlabelled=[2, 17])
    window = WindowIndex([pair], axes=[2]).read(0)
    assert window.images.shape == (3, 17 - 3, SHAPE[1])


def test_sparse_labels_train_their_own_slice_along_z_only(image, labels):
    sparse = np.zeros_like(labels)
    sparse[[5, 10, 15]] = labels[[5, 10, 15]]
    index = WindowIndex([pair_from_arrays("a", image, sparse)])
    places = [index.place(i) for i in range(len(index))]
    assert {p.axis for p in places} == {0}
    assert {p.slice_index for p in places} == {5, 10, 15}
    assert {index.read(i).indicator for i in range(len(index))} == {(False, True, False)}
    assert index.report.dropped["fewer than 8 labelled slices in a row to cross along x"] == 3


def test_a_single_slice_has_no_neighbours(image, labels):
    index = WindowIndex([pair_from_arrays("a", image[8:9], labels[8:9])])
    assert {index.place(i).axis for i in range(len(index))} == {0}
    window = index.read(0)
    assert window.indicator == (False, True, False)
    assert not window.masks[[0, 2]].any()
    np.testing.assert_array_equal(window.images[0], window.images[1])


def test_small_objects_are_left_out(image, labels):
    labels[10, 22, 22] = 7
    index = WindowIndex([pair_from_arrays("a", image, labels)], min_share=0.0025)
    assert 7 not in index.report.windows_by_label
    assert index.report.dropped == {"object under 0.25 % of the slice": 3}
    assert WindowIndex([pair_from_arrays("a", image, labels)]).report.windows_by_label[7] == 3


@pytest.mark.parametrize("kind", ["numpy", "fortran", "dask", "zarr", "float labels", "ids of 64"])
def test_any_array_gives_the_same_windows(image, labels, kind):
    expected = WindowIndex([pair_from_arrays("a", image, labels)])
    shift = 2**40 if kind == "ids of 64" else 0
    given = labels.astype(np.int64) + np.where(labels > 0, shift, 0)
    if kind == "dask":
        pair = pair_from_arrays("a", da.from_array(image, (3, 9, 9)), da.from_array(given, 7))
    elif kind == "zarr":
        stores = [zarr.array(v, chunks=(6, 10, 10)) for v in (image, given)]
        pair = pair_from_arrays("a", *stores)
    elif kind == "fortran":
        pair = pair_from_arrays("a", np.asfortranarray(image), np.asfortranarray(given))
    elif kind == "float labels":
        pair = pair_from_arrays("a", image, given.astype(np.float64))
    else:
        pair = pair_from_arrays("a", image, given)
    regions = [Region(0, 1, 2, 20)]
    index = WindowIndex([pair], regions=regions, cache_bytes=2**16)
    expected = WindowIndex([pair_from_arrays("a", image, labels)], regions=regions)
    assert len(index) == len(expected)
    for i in range(len(index)):
        window, other = index.read(i), expected.read(i)
        np.testing.assert_array_equal(window.images, other.images)
        np.testing.assert_array_equal(window.masks, other.masks)
        assert window.label == other.label + shift


def test_the_next_window_is_where_sliding_arrives(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)], labels=[200])
    for i in range(len(index)):
        for step in (-1, 1):
            here, there = index.read(i), index.read_next(i, step)
            at = here.slice_index + step
            if not 0 <= at < SHAPE[here.axis]:
                assert there is None
                continue
            true = np.moveaxis(labels == 200, here.axis, 0)[at]
            assert there is not None
            assert (there.slice_index, there.axis, there.label) == (at, here.axis, 200)
            np.testing.assert_array_equal(there.masks[1], true)
            assert there.indicator[1]


def test_there_is_no_next_window_on_a_slice_without_labels(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)], axes=[0], labels=[3])
    assert index.read_next(0, -1) is None
    assert index.read_next(0, 1) is not None


def test_intensity_is_that_of_inference(image, labels):
    pair = pair_from_arrays("a", image, labels)
    ct = WindowIndex([pair], axes=[0], intensity=Intensity("ct")).read(0)
    expected = np.clip((image[3:6] + 200.0) / 600.0, 0, 1)
    np.testing.assert_allclose(ct.images, expected, atol=1e-6)
    percentiles = WindowIndex([pair], axes=[0], intensity=Intensity("percentiles"))
    window = percentiles.read(0)
    low_high = Intensity("percentiles").fixed_range(_stack(image), 4)
    np.testing.assert_array_equal(window.images, normalise(image[3:6].astype(np.float32), low_high))
    np.testing.assert_array_equal(percentiles.read(0).images, window.images)


def test_a_view_of_the_whole_range_is_what_inference_sees_of_it(image, labels):
    image[4] = 0
    image[4, 8:12, 8:12] = 900  # 2 % of the plane, beyond the window's percentiles
    index = WindowIndex([pair_from_arrays("a", image, labels)], axes=[0], whole_range=True)
    window = index.read(0)
    assert (window.images.min(), window.images.max()) == (0, 1)
    view = np.s_[:, 6:14, 6:14]
    expected = normalise(image[3:6].astype(np.float32)[view], None)
    np.testing.assert_allclose(normalise(window.images[view], None), expected, atol=1e-5)


def test_not_a_number_becomes_0(image, labels):
    values = image.astype(np.float32)
    values[4, 0, 20:] = np.nan
    window = WindowIndex([pair_from_arrays("a", values, labels)], axes=[0], labels=[3]).read(0)
    assert not window.images[1, 0, 20:].any()
    assert np.isfinite(window.images).all()


def test_slices_are_kept_of_few_parts_only(image, labels):
    pairs = [pair_from_arrays(f"p{i}", image, labels) for i in range(6)]
    index = WindowIndex(pairs, labels=[3])
    for i in range(0, len(index), 7):
        index.read(i)
    assert len(index._caches) <= 8
    assert sum(c.max_bytes for c in index._caches.values()) <= 256 * 2**20
    assert index.report.volumes == 6


def test_a_label_that_is_nowhere(image, labels):
    pairs = [pair_from_arrays(name, image, labels) for name in ("liver_1", "liver_2")]
    with pytest.raises(TuningError, match=r"Label 4 .* liver_1, liver_2\. There are 3, 200"):
        WindowIndex(pairs, labels=[3, 4])


def test_a_label_that_is_in_some_pairs_only(image, labels):
    other = np.where(labels == 200, 0, labels)
    pairs = [pair_from_arrays("a", image, labels), pair_from_arrays("b", image, other)]
    index = WindowIndex(pairs, labels=[200])
    assert index.report.windows_by_label == {200: 16}
    assert index.report.volumes == 1


def test_a_label_without_a_window(image, labels):
    labels[10, 22, 22] = 7
    pair = pair_from_arrays("a", image, labels)
    with pytest.raises(TuningError, match=r"Label 7 .* no slice.*under 10 %.*: 3"):
        WindowIndex([pair], labels=[7, 3], min_share=0.1)


def test_no_usable_window(image, labels):
    pair = pair_from_arrays("a", image, labels)
    with pytest.raises(TuningError, match=r"no slice gives one.*object under 90 % .*: 52"):
        WindowIndex([pair], min_share=0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": []}, "Axes"),
        ({"axes": [3]}, "Axes"),
        ({"labels": []}, "at least one"),
        ({"regions": [Region(1)]}, "pair that does not exist"),
        ({"regions": [Region(0, 0, 10, 30)]}, "no part"),
        ({"regions": []}, "no slice"),
    ],
)
def test_options_that_do_not_fit(image, labels, options, message):
    with pytest.raises(TuningError, match=message):
        WindowIndex([pair_from_arrays("a", image, labels)], **options)


def test_no_pairs():
    with pytest.raises(TuningError, match="at least one pair"):
        WindowIndex([])


def test_there_is_no_window_beyond_the_last(image, labels):
    index = WindowIndex([pair_from_arrays("a", image, labels)])
    with pytest.raises(IndexError):
        index.read(len(index))


def test_areas_of_many_labels_are_those_of_a_plain_count(monkeypatch):
    monkeypatch.setattr(pair_arrays, "SLAB_VOXELS", 2**12)
    monkeypatch.setattr(label_counts, "_TABLE_SIZE", 2**10)
    monkeypatch.setattr(label_counts, "_MERGE_AT", 2**11)
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(10**9, 40, replace=False))
    labels = np.where(rng.random((30, 40, 32)) < 0.2, rng.choice(ids, (30, 40, 32)), 0)
    box = (slice(5, 26), slice(10, 38), slice(0, 32))
    wanted = ids[::3].tolist()
    for axis, found in count_areas(labels, box, (0, 1, 2), wanted).items():
        planes = np.moveaxis(labels[box], axis, 0)
        expected = [
            (box[axis].start + i, label, np.count_nonzero(plane == label))
            for i, plane in enumerate(planes)
            for label in wanted
            if (plane == label).any()
        ]
        columns = (found.slices.tolist(), found.labels.tolist(), found.areas.tolist())
        assert list(zip(*columns, strict=True)) == expected


def _stack(image: np.ndarray):
    return Volume(image).along(0)
