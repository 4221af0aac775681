from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.engine.objects import EMPTY_REGION, ObjectState, PlaneKey, SlicePatch
from napari_slidesam.engine.planes import (
    OverlapRule,
    bounding_box,
    draw_labels,
    draw_labels_plane,
    draw_object,
    filled_slices,
    object_plane,
    object_planes,
    plane_shape,
    whole_plane,
)
from napari_slidesam.engine.results import SliceQuality, SliceResult, StopReason, TrackStop
from napari_slidesam.geometry import Region

SHAPE = (5, 6, 7)
GOOD = SliceQuality(0.9, 0.8, 0.5)


def result(
    index: int,
    mask: np.ndarray,
    *,
    axis: int = 0,
    region: Region | None = None,
    is_prompted: bool = False,
    is_final: bool = True,
    stops: tuple[TrackStop, ...] = (),
) -> SliceResult:
    region = region or Region(0, 0, *mask.shape)
    return SliceResult(3, axis, index, region, mask, GOOD, is_prompted, is_final, stops)


def dense(state: ObjectState, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    out = np.zeros(shape, dtype=bool)
    draw_object(out, state)
    return out


def planes_of(axis: int) -> st.SearchStrategy[np.ndarray]:
    height, width = plane_shape(SHAPE, axis)
    bits = st.lists(st.booleans(), min_size=height * width, max_size=height * width)
    return bits.map(lambda b: np.array(b).reshape(height, width))


@st.composite
def plane_edits(draw: st.DrawFn) -> tuple[int, int, np.ndarray]:
    axis = draw(st.integers(0, 2))
    return axis, draw(st.integers(0, SHAPE[axis] - 1)), draw(planes_of(axis))


@st.composite
def objects(draw: st.DrawFn, object_id: int = 3) -> tuple[ObjectState, np.ndarray]:
    """Draw an object and the volume it is, made without patches."""
    axis = draw(st.integers(0, 2))
    state, volume = ObjectState(object_id, "it", axis), np.zeros(SHAPE, dtype=bool)
    stack = np.moveaxis(volume, axis, 0)
    for index in draw(st.sets(st.integers(0, SHAPE[axis] - 1), max_size=4)):
        stack[index] = draw(planes_of(axis))
        state = state.with_result(result(index, stack[index], axis=axis))
    for edit_axis, index, mask in draw(st.lists(plane_edits(), max_size=4)):
        np.moveaxis(volume, edit_axis, 0)[index] = mask
        state = state.with_edit(edit_axis, index, mask, whole_plane(SHAPE, edit_axis))
    return state, volume


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 20).flatmap(
        lambda w: st.lists(st.lists(st.booleans(), min_size=w, max_size=w), min_size=1, max_size=9)
    )
)
def test_a_patch_gives_its_mask_back(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    patch = SlicePatch.from_mask(mask, Region(10, 20, 10 + mask.shape[0], 20 + mask.shape[1]), GOOD)
    plane = np.zeros((40, 60), dtype=bool)
    plane[patch.region.slices] = patch.mask
    expected = np.zeros_like(plane)
    expected[10 : 10 + mask.shape[0], 20 : 20 + mask.shape[1]] = mask
    np.testing.assert_array_equal(plane, expected)
    assert patch.n_voxels == mask.sum()
    for y in range(patch.region.y0, patch.region.y1):
        np.testing.assert_array_equal(patch.line(0, y), expected[y, patch.region.slices[1]])
    for x in range(patch.region.x0, patch.region.x1):
        np.testing.assert_array_equal(patch.line(1, x), expected[patch.region.slices[0], x])


def test_a_patch_is_small_and_cut_to_the_mask() -> None:
    mask = np.zeros((512, 512), dtype=bool)
    mask[100:400, 50:450] = True
    patch = SlicePatch.from_mask(mask, Region(0, 0, 512, 512), GOOD)
    assert patch.region == Region(100, 50, 400, 450)
    assert len(patch.packed) < 1000
    empty = SlicePatch.from_mask(mask[:50], Region(0, 0, 50, 512), GOOD)
    assert (empty.region, empty.n_voxels, empty.mask.shape) == (EMPTY_REGION, 0, (0, 0))


@settings(max_examples=50, deadline=None)
@given(objects())
def test_any_mix_of_slices_and_edits_is_the_dense_volume(
    drawn: tuple[ObjectState, np.ndarray],
) -> None:
    state, volume = drawn
    np.testing.assert_array_equal(dense(state), volume)
    for axis in range(3):
        for index in range(SHAPE[axis]):
            plane = object_plane(state, axis, index)
            found = np.zeros(plane_shape(SHAPE, axis), dtype=bool)
            if plane is not None:
                assert plane.mask.any()
                found[plane.region.slices] = plane.mask
            np.testing.assert_array_equal(found, np.moveaxis(volume, axis, 0)[index])
    filled = filled_slices(state)
    counts = np.moveaxis(volume, state.axis, 0).sum(axis=(1, 2))
    assert {i: n for i, (n, _) in filled.items()} == {i: n for i, n in enumerate(counts) if n}
    box = bounding_box(state.axis, filled)
    if not volume.any():
        assert box is None
    else:
        where = np.argwhere(volume)
        assert box == (tuple(where.min(axis=0)), tuple(where.max(axis=0) + 1))


@settings(max_examples=50, deadline=None)
@given(objects(1), objects(2), objects(7), st.sampled_from(OverlapRule), st.data())
def test_the_overlap_rule_holds_across_axes(
    a, b, c, rule: OverlapRule, data: st.DataObject
) -> None:
    expected = np.zeros(SHAPE, dtype=np.uint8)
    order = (a, b, c) if rule is OverlapRule.OVERWRITE else (c, b, a)
    for state, volume in order:
        expected[volume] = state.object_id
    states = [state for state, _ in (a, b, c)]
    found = np.zeros(SHAPE, dtype=np.uint8)
    draw_labels(found, states, rule)
    np.testing.assert_array_equal(found, expected)
    axis = data.draw(st.integers(0, 2))
    index = data.draw(st.integers(0, SHAPE[axis] - 1))
    height, width = plane_shape(SHAPE, axis)
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = Region(y0, x0, data.draw(st.integers(y0, height)), data.draw(st.integers(x0, width)))
    part = np.zeros(region.shape_yx, dtype=np.uint8)
    draw_labels_plane(part, region, states, axis, index, rule)
    np.testing.assert_array_equal(part, np.moveaxis(expected, axis, 0)[index][region.slices])


def test_a_final_replaces_its_preview_and_an_empty_one_takes_it_back() -> None:
    mask = np.ones((6, 7), dtype=bool)
    state = ObjectState(3, "it").with_result(result(2, mask, is_final=False))
    assert not state.slices[2].is_final
    state = state.with_result(result(1, mask))
    half = mask.copy()
    half[:3] = False
    state = state.with_result(result(2, half))
    assert list(state.slices) == [1, 2]
    assert state.slices[2].is_final
    assert state.slices[2].n_voxels == 21
    state = state.with_result(result(2, np.zeros_like(mask)))
    assert list(state.slices) == [1]
    kept = state.with_result(result(4, np.zeros_like(mask), is_prompted=True))
    assert list(kept.slices) == [1, 4]
    assert dense(kept).sum() == 42


def test_a_mask_without_pixels_is_no_mask() -> None:
    state = ObjectState(3, "it").with_result(
        result(2, np.zeros((0, 0), dtype=bool), region=EMPTY_REGION)
    )
    assert not state.slices
    assert list(object_planes(state)) == []


def test_edits_are_kept_unless_told_otherwise() -> None:
    mask, plane = np.ones((6, 7), dtype=bool), whole_plane(SHAPE, 0)
    corner = np.zeros_like(mask)
    corner[0, 0] = True
    state = ObjectState(3, "it").with_result(result(2, mask)).with_edit(0, 2, corner, plane)
    assert not state.slices
    assert state.own_slices[2].is_edited
    assert state.own_slices[2].quality.score == 1.0
    assert state.with_result(result(2, mask)) is state
    replaced = state.with_result(result(2, mask), replaces_edits=True)
    assert not replaced.edits
    assert dense(replaced).sum() == 42
    cleared = state.with_result(result(3, mask)).without_slices()
    assert dense(cleared).sum() == 1
    assert not dense(cleared.without_slices(with_edits=True)).any()


def test_a_later_edit_wins_where_planes_cross() -> None:
    state = ObjectState(3, "it")
    full = {axis: np.ones(plane_shape(SHAPE, axis), dtype=bool) for axis in range(3)}
    state = state.with_edit(0, 1, full[0], whole_plane(SHAPE, 0))
    state = state.with_edit(1, 2, ~full[1], whole_plane(SHAPE, 1))
    assert not dense(state)[1, 2].any()
    again = state.with_edit(0, 1, full[0], whole_plane(SHAPE, 0))
    assert dense(again)[1].all()
    assert again.planes == (PlaneKey(3, 0, 1), PlaneKey(3, 1, 2))


def test_stops_are_kept_once_each() -> None:
    mask = np.ones((6, 7), dtype=bool)
    early, late = TrackStop(1, StopReason.EMPTY), TrackStop(1, StopReason.CANCELLED)
    state = ObjectState(3, "it").with_result(result(2, mask, is_final=False, stops=(early,)))
    state = state.with_result(result(2, mask, stops=(late, TrackStop(-1, StopReason.DRIFT))))
    assert [(s.slice_index, s.stop.direction, s.stop.reason) for s in state.stops] == [
        (2, -1, StopReason.DRIFT),
        (2, 1, StopReason.CANCELLED),
    ]
    assert state.without_slices().stops == ()


def test_unchanged_slices_are_shared() -> None:
    mask = np.ones((6, 7), dtype=bool)
    first = ObjectState(3, "it").with_result(result(1, mask)).with_result(result(2, mask))
    second = first.with_result(result(3, mask))
    assert second.slices[1] is first.slices[1]
    assert list(first.slices) == [1, 2]
    with pytest.raises(TypeError):
        first.slices[1] = second.slices[3]  # type: ignore[index]
