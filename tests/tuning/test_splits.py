from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.errors import TuningError
from napari_slidesam.intensity import Intensity
from napari_slidesam.tuning.pairs import TrainingPair, pair_from_arrays
from napari_slidesam.tuning.splits import (
    GAP_SLICES,
    Region,
    Split,
    region_arrays,
    slab_split,
    split,
)
from napari_slidesam.tuning.window_index import WindowIndex

SHAPE = (30, 26, 28)


def counting_pair(name: str = "a", shape=SHAPE, axis: int = 0, label: int = 1) -> TrainingPair:
    """A pair whose image holds each voxel's slice along an axis."""
    n = shape[axis]
    along = np.arange(n, dtype=np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(n // 8, n - n // 8) for n in shape)] = label
    return pair_from_arrays(name, np.broadcast_to(along, shape).copy(), labels)


def seen_slices(pair: TrainingPair, regions: tuple[Region, ...], axis: int) -> set[int]:
    """Return every slice along an axis that a pixel of a window of any axis comes from."""
    last = pair.shape_zyx[axis] - 1
    index = WindowIndex([pair], regions=regions, intensity=Intensity("limits", 0, last))
    seen: set[int] = set()
    for i in range(len(index)):
        window = index.read(i)
        seen.update(np.rint(window.images * last).astype(int).ravel().tolist())
        for step in (-1, 1):
            following = index.read_next(i, step)
            if following is not None:
                seen.update(np.rint(following.images * last).astype(int).ravel().tolist())
    return seen


@settings(max_examples=15, deadline=None)
@given(
    axis=st.integers(0, 2),
    start=st.floats(0, 0.8),
    length=st.floats(0.15, 0.5),
    gap=st.integers(0, 3),
)
def test_no_window_sees_a_slice_that_is_held_out(axis, start, length, gap):
    pair = counting_pair(shape=(22, 20, 18), axis=axis)
    stop = min(1.0, start + length)
    try:
        parts = slab_split([pair], axis, (start, stop), gap)
    except TuningError:
        return
    (held_out,) = parts.validation
    kept_away = set(range(max(held_out.start - gap, 0), held_out.stop + gap))
    assert not seen_slices(pair, parts.train, axis) & kept_away
    assert seen_slices(pair, parts.validation, axis) <= set(range(held_out.start, held_out.stop))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 0.5), axis=st.integers(0, 2))
def test_one_volume_is_cut_into_slabs(seed, share, axis):
    pair = counting_pair(shape=(20, 20, 20), axis=axis)
    parts = split([pair], share, seed, (axis,))
    assert parts == split([pair], share, seed, (axis,))
    (held_out,) = parts.validation
    assert held_out.axis == axis
    kept_away = set(range(max(held_out.start - GAP_SLICES, 0), held_out.stop + GAP_SLICES))
    for region in parts.train:
        assert not kept_away & set(range(region.start, region.stop))
    n_labelled = sum(2 <= i < 18 for i in range(held_out.start, held_out.stop))
    assert n_labelled == max(5, round(share * 16))


def test_a_slab_of_one_volume_lies_elsewhere_for_another_seed():
    found = {split([counting_pair()], 0.2, seed, (0, 1, 2)).validation for seed in range(20)}
    assert len(found) > 5
    assert {region.axis for (region,) in found} == {0}


def test_a_flat_volume_is_cut_across_its_longest_axis():
    flat = counting_pair(shape=(16, 40, 30))  # 12 labelled slices along z, 30 along y
    (held_out,) = split([flat], 0.2, 0, (0, 1, 2)).validation
    assert (held_out.axis, held_out.stop - held_out.start) == (1, 6)
    (held_out,) = split([flat], 0.2, 0, (0,)).validation
    assert held_out.axis == 0
    (held_out,) = split([counting_pair()], 0.2, 0, (2, 1)).validation
    assert held_out.axis == 2


def test_a_slab_at_the_end_of_the_labels_reaches_to_that_of_the_volume():
    parts = slab_split([counting_pair()], 0, (2 / 3, 1))
    assert parts == Split((Region(0, 0, 0, 17),), (Region(0, 0, 19, 30),))
    parts = slab_split([counting_pair()], 0, (0, 1 / 3))
    assert parts == Split((Region(0, 0, 13, 30),), (Region(0, 0, 0, 11),))
    parts = slab_split([counting_pair()], 0, (1 / 3, 2 / 3), gap=0)
    assert parts.train == (Region(0, 0, 0, 11), Region(0, 0, 19, 30))
    assert parts.validation == (Region(0, 0, 11, 19),)


def test_a_slab_holds_its_share_of_the_labels_where_they_are_uneven():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:28, 10:12, 10:12] = 1
    labels[2:8, 2:24, 2:24] = 1
    pair = pair_from_arrays("a", np.zeros(SHAPE), labels)
    for seed in range(10):
        parts = split([pair], 0.2, seed, (0,))
        (held_out,) = parts.validation
        n_held_out = np.count_nonzero(labels[held_out.start : held_out.stop])
        n_trained = sum(np.count_nonzero(labels[r.start : r.stop]) for r in parts.train)
        assert n_held_out >= 0.1 * labels.sum()
        assert n_trained >= 0.4 * labels.sum()


def test_a_slab_holds_objects_that_are_trained_on():
    labels = np.zeros((30, 8, 8), np.uint8)
    labels[2:24, :4, :4] = 1
    labels[20:, 4:, 4:] = 2
    pair = pair_from_arrays("two", np.zeros(labels.shape, np.float32), labels)
    for seed in range(20):
        (slab,) = split([pair], 0.2, seed, (0,)).validation
        # its six slices, and two on either side, leave something of each object it holds
        for first, stop in ((2, 24), (20, 30)):  # the slices of objects 1 and 2
            if slab.start < stop and slab.stop > first:
                assert first < slab.start - 2 or stop > slab.stop + 2


def test_marked_slices_do_not_count_as_labelled():
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 5:20, 5:20] = 1
    pair = pair_from_arrays("a", np.zeros(SHAPE), labels, unlabelled=range(20, 30))
    parts = slab_split([pair], 0, (0.5, 1))
    assert parts.train == (Region(0, 0, 0, 8),)
    assert parts.validation == (Region(0, 0, 10, 30),)


@pytest.mark.parametrize(
    ("n_pairs", "share", "n_held_out"), [(2, 0.2, 1), (10, 0.3, 3), (3, 0.9, 2)]
)
def test_several_volumes_are_split_by_volume(n_pairs, share, n_held_out):
    pairs = [counting_pair(f"p{i}") for i in range(n_pairs)]
    parts = split(pairs, share, 5, (0, 1, 2))
    held_out, trained = ({r.pair for r in part} for part in (parts.validation, parts.train))
    assert len(held_out) == n_held_out
    assert held_out | trained == set(range(n_pairs))
    assert not held_out & trained
    assert all(r.axis is None for r in (*parts.train, *parts.validation))


def test_the_only_volume_with_a_label_is_trained_on():
    pairs = [counting_pair(f"p{i}", label=7 if i == 2 else 1) for i in range(4)]
    for seed in range(10):
        assert Region(2) not in split(pairs, 0.5, seed, (0,)).validation


def test_volumes_with_labels_of_their_own_are_split_all_the_same():
    pairs = [counting_pair(f"p{i}", label=i + 1) for i in range(4)]
    assert len(split(pairs, 0.5, 0, (0,)).validation) == 2


def test_nothing_is_held_out_where_none_is_asked_for():
    pairs = [counting_pair(), counting_pair("b")]
    assert split(pairs, 0, 0, (0,)) == Split((Region(0), Region(1)), ())


def test_arrays_of_a_region():
    pair = counting_pair()
    image, labels = region_arrays(pair, Region(0, 1, 4, 9))
    np.testing.assert_array_equal(image, np.asarray(pair.image)[:, 4:9])
    np.testing.assert_array_equal(labels, np.asarray(pair.labels)[:, 4:9])
    assert region_arrays(pair, Region(0)) == (pair.image, pair.labels)


def test_arrays_of_a_region_stay_lazy():
    arrays = [zarr.array(np.asarray(a)) for a in (counting_pair().image, counting_pair().labels)]
    pair = pair_from_arrays("a", *arrays)
    image, labels = region_arrays(pair, Region(0, 0, 4, 9))
    assert not isinstance(image, np.ndarray)
    assert labels.shape == (5, *SHAPE[1:])
    np.testing.assert_array_equal(np.unique(np.asarray(image[:])), range(4, 9))


def one_slice() -> TrainingPair:
    labels = np.zeros(SHAPE, np.uint8)
    labels[7, 8, 9] = 1
    return pair_from_arrays("lonely", np.zeros(SHAPE), labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split([], 0.2, 0, (0,)), "at least one pair"),
        (lambda: split([counting_pair()], 1.0, 0, (0,)), r"\[0, 1\); got 1\.0"),
        (lambda: split([counting_pair()], -0.1, 0, (0,)), "got -0.1"),
        (lambda: split([counting_pair()], 0.2, 0, ()), "Axes"),
        (lambda: split([counting_pair()], 0.2, 0, (0, 3)), "Axes"),
        (lambda: split([one_slice()], 0.2, 0, (0, 1, 2)), "'lonely' has 1 along"),
        (lambda: slab_split([counting_pair()], 0, (0.5, 0.5)), "rising"),
        (lambda: slab_split([counting_pair()], 0, (0.5, 1.5)), "rising"),
        (lambda: slab_split([counting_pair()], 0, (0, 1)), "Both parts"),
        (lambda: slab_split([counting_pair()], 3, (0, 0.5)), "Axes"),
        (lambda: Region(0, 1, 4, 99).box(SHAPE), "no part"),
        (lambda: Region(0, 1, 4, 4).box(SHAPE), "no part"),
    ],
)
def test_what_cannot_be_split(call, message):
    with pytest.raises(TuningError, match=message):
        call()
