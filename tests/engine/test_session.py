from __future__ import annotations

import csv
import logging
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.objects import PlaneKey
from napari_slidesam.engine.planes import OverlapRule, plane_shape
from napari_slidesam.engine.results import SliceQuality, SliceResult, StopReason, TrackStop
from napari_slidesam.engine.session import Session
from napari_slidesam.errors import FileFormatError, PromptError, SessionError
from napari_slidesam.geometry import Box, Region
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (6, 7, 8)


def box_prompts(object_id: int, index: int = 2, axis: int = 0) -> ObjectPrompts:
    return ObjectPrompts(object_id, (BoxPrompt(index, Box(1, 1, 4, 5)),), axis=axis)


def result(
    object_id: int,
    index: int,
    mask: np.ndarray | None = None,
    *,
    axis: int = 0,
    region: Region | None = None,
    score: float = 0.5,
    is_prompted: bool = False,
    stops: tuple[TrackStop, ...] = (),
) -> SliceResult:
    if mask is None:
        mask, region = np.ones((2, 3), dtype=bool), Region(1, 1, 3, 4)
    region = region or Region(0, 0, *mask.shape)
    quality = SliceQuality(score, 1.0, 1.0)
    return SliceResult(object_id, axis, index, region, mask, quality, is_prompted, True, stops)


def session_with(*object_ids: int, shape: tuple[int, int, int] = SHAPE) -> Session:
    session = Session(shape)
    for object_id in object_ids:
        session.add_object(box_prompts(object_id))
    return session


def grow(session: Session, object_id: int, *indices: int, score: float = 0.5) -> None:
    with session.operation(f"grow object {object_id}"):
        session.begin_run([object_id])
        for index in indices:
            session.apply(result(object_id, index, score=score))


# Undo and redo


def one_change(session: Session, data: st.DataObject) -> None:
    ids = session.object_ids
    kinds = ["add", "labels", "rule"]
    kinds += (
        ["run", "apply", "edit", "clear", "remove", "rename", "accept", "prompt"] if ids else []
    )
    kind = data.draw(st.sampled_from(kinds))
    axis = data.draw(st.integers(0, 2))
    index = data.draw(st.integers(0, SHAPE[axis] - 1))
    height, width = plane_shape(SHAPE, axis)
    seed = data.draw(st.integers(0, 5))
    mask = np.random.default_rng(seed).random((height, width)) < 0.2 * seed
    if kind == "add":
        session.add_object(box_prompts(session.next_free_id(), axis=axis))
        return
    if kind == "labels":
        session.edit_labels(axis, index, mask * (ids[0] if ids else 1))
        return
    if kind == "rule":
        session.set_overlap_rule(data.draw(st.sampled_from(OverlapRule)))
        return
    object_id = data.draw(st.sampled_from(ids))
    own = session.object_state(object_id).axis
    if kind == "run" and session.object_state(object_id).prompts is not None:
        session.begin_run([object_id])
    elif kind == "apply":
        shape = plane_shape(SHAPE, own)
        grown = np.random.default_rng(seed).random(shape) < 0.2 * seed
        at = data.draw(st.integers(0, SHAPE[own] - 1))
        session.apply(result(object_id, at, grown, axis=own))
    elif kind == "edit":
        session.edit_slice(object_id, axis, index, mask)
    elif kind == "clear":
        session.clear_slices(object_id, with_edits=data.draw(st.booleans()))
    elif kind == "remove":
        session.remove_object(object_id)
    elif kind == "rename":
        session.rename(object_id, f"name {seed}")
    elif kind == "accept":
        session.accept(object_id)
    elif kind == "prompt":
        session.set_prompts(object_id, box_prompts(object_id, axis=axis))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_undo_all_and_redo_all_of_any_operations(data: st.DataObject) -> None:
    session = Session(SHAPE)
    start, states = session.state, {}
    for step in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            with session.operation(f"group {step}"):
                for _ in range(data.draw(st.integers(0, 3))):
                    one_change(session, data)
        else:
            one_change(session, data)
        states[len(session.undo_names)] = session.state
    end, names = session.state, session.undo_names
    shown = session.labels(np.uint16)
    while session.can_undo:
        assert states[len(session.undo_names)] is session.state
        session.paint_into(shown, session.undo())
        np.testing.assert_array_equal(shown, session.labels())
    assert session.state is start
    assert session.redo_names == names[::-1]
    while session.can_redo:
        session.paint_into(shown, session.redo())
        np.testing.assert_array_equal(shown, session.labels())
    assert session.state is end
    assert session.undo_names == names


def test_an_operation_is_one_step() -> None:
    session = session_with(1)
    grow(session, 1, 1, 2, 3)
    assert session.undo_names == ("grow object 1", "add object 1")
    assert session.undo() == tuple(PlaneKey(1, 0, i) for i in (1, 2, 3))
    assert not session.labels().any()
    assert session.runs == ()
    session.redo()
    assert session.labels().sum() == 18
    assert len(session.runs) == 1


def test_an_error_inside_an_operation_keeps_what_was_done() -> None:
    session = session_with(1)

    def fails() -> None:
        with session.operation("grow"):
            session.apply(result(1, 1))
            session.apply(result(1, 99))

    with pytest.raises(SessionError, match="slice 99 along axis 0 does not lie in"):
        fails()
    assert session.mask(1).sum() == 6
    assert session.undo_names[0] == "grow"
    session.undo()
    assert not session.mask(1).any()


def test_nested_operations_are_one_step_of_the_outer_name() -> None:
    session = Session(SHAPE)
    with session.operation("outer"), session.operation("inner"):
        session.add_object()
    session.begin_operation("by hand")
    session.add_object()
    session.end_operation()
    with session.operation("nothing"):
        pass
    assert session.undo_names == ("by hand", "outer")
    with pytest.raises(SessionError, match="No operation is open"):
        session.end_operation()


def test_no_undo_while_an_operation_is_open() -> None:
    session = session_with(1)
    with session.operation("grow"):
        session.apply(result(1, 1))
        assert not session.can_undo
        with pytest.raises(SessionError, match="Cannot undo while 'grow' goes on"):
            session.undo()
        with pytest.raises(SessionError, match="Cannot redo while 'grow' goes on"):
            session.redo()
    assert session.can_undo
    assert Session(SHAPE).undo() == ()
    assert Session(SHAPE).redo() == ()


def test_results_without_an_operation_join_their_run() -> None:
    session = session_with(1, 2)
    for _ in range(2):
        session.begin_run([1, 2])
        for index in (1, 2, 3):
            session.apply(result(1, index))
            session.apply(result(2, index))
    assert session.undo_names[:2] == ("grow object 1, object 2",) * 2
    session.rename(1, "liver")
    session.apply(result(1, 4))
    session.apply(result(1, 5))
    assert session.undo_names[:2] == ("merge results", "rename object 1")


def test_a_hundred_steps_cost_little_memory() -> None:
    session = Session((200, 300, 300), history_depth=100)
    session.add_object()
    rng = np.random.default_rng(0)
    masks = [np.zeros((200, 200), dtype=bool) for _ in range(4)]
    for mask in masks:
        top, left = rng.integers(0, 30, 2)
        mask[top : top + 150, left : left + 160] = True
    region = Region(0, 0, 200, 200)
    tracemalloc.start()
    for step in range(100):
        with session.operation(f"step {step}"):
            for index in (step, step + 1, step + 2):
                session.apply(result(1, index, masks[(step + index) % 4], region=region))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(session.undo_names) == 100
    assert used < 3e6, "300 patches of 24,000 pixels, not 100 volumes"


def test_the_log_tells_everything_that_happened() -> None:
    session = session_with(1)
    grow(session, 1, 1)
    session.undo()
    session.redo()
    names = [entry.name for entry in session.log]
    assert names == ["add object 1", "grow object 1", "undo: grow object 1", "redo: grow object 1"]
    assert all(entry.time_utc.endswith("+00:00") for entry in session.log)


# Objects


def test_ids_are_never_given_twice() -> None:
    session = session_with(1)
    assert session.next_free_id() == 2
    assert session.add_object(name="drawn") == 2
    session.remove_object(2)
    session.undo()
    session.undo()
    assert session.object_ids == (1,)
    assert session.add_object() == 3
    assert session.add_object(box_prompts(9)) == 9
    assert session.next_free_id() == 10
    with pytest.raises(SessionError, match="Object 9 exists: take the id 10"):
        session.add_object(box_prompts(9))
    with pytest.raises(SessionError, match="positive integer; got 0"):
        session.add_object(object_id=0)
    assert [row.name for row in session.object_table()] == ["object 1", "object 3", "object 9"]


def test_objects_are_sorted_by_id() -> None:
    session = session_with(5, 2)
    assert session.object_ids == (2, 5)
    session.apply(result(5, 1))
    session.apply(result(2, 1))
    assert session.labels().max() == 2


def test_prompts_are_checked_against_the_volume() -> None:
    session = session_with(1)
    with pytest.raises(PromptError, match="prompt on slice 6"):
        session.add_object(box_prompts(2, index=6))
    with pytest.raises(PromptError, match="prompt on slice 7"):
        session.set_prompts(1, box_prompts(1, index=7, axis=1))
    with pytest.raises(SessionError, match="prompts are of object 2, not 1"):
        session.set_prompts(1, box_prompts(2))
    with pytest.raises(SessionError, match=r"There is no object 2: the session has \[1\]"):
        session.set_prompts(2, box_prompts(2))
    assert session.object_ids == (1,)


def test_rename_accept_and_configure() -> None:
    session = session_with(1)
    session.rename(1, "liver")
    session.rename(1, "liver")
    session.accept(1)
    session.accept(1)
    assert session.object_state(1).is_accepted
    session.unaccept(1)
    assert session.undo_names[:3] == ("re-edit liver", "accept liver", "rename object 1")
    session.configure(config=PropagationConfig(min_stability=0.3), model_name="net", source="a.nii")
    assert (session.config.min_stability, session.model_name) == (0.3, "net")
    assert session.info.source == "a.nii"
    assert len(session.undo_names) == 4


def test_results_of_unknown_objects_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    session = session_with(1)
    session.remove_object(1)
    before = session.state
    with caplog.at_level(logging.DEBUG, logger="napari_slidesam.engine.session"):
        assert not session.apply(result(1, 2))
    assert session.state is before
    assert "Ignored slice 2 of object 1" in caplog.text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (result(1, 6), "slice 6 along axis 0 does not lie"),
        (result(1, -1), "slice -1 along axis 0 does not lie"),
        (result(1, 1, axis=3), "along axis 3 does not lie"),
        (result(1, 1, np.ones((8, 8), dtype=bool)), r"plane has shape \(7, 8\)"),
        (result(1, 1, np.ones((2, 2), dtype=bool), region=Region(0, 0, 2, 3)), "mask of shape"),
        (result(1, 1, np.ones((2, 2), dtype=bool), region=Region(-1, 0, 1, 2)), "plane has shape"),
        (result(1, 1, np.ones((2, 2), dtype=np.uint8)), "needs a mask of bool; got uint8"),
        (result(1, 1, axis=1), "call begin_run or clear_slices before"),
    ],
)
def test_results_that_do_not_fit_are_refused(bad: SliceResult, message: str) -> None:
    session = session_with(1)
    session.apply(result(1, 3))
    before = session.state
    with pytest.raises(SessionError, match=message):
        session.apply(bad)
    assert session.state is before


# Runs and corrections


def test_a_run_clears_grown_slices_and_keeps_edits() -> None:
    session = session_with(1, 2)
    grow(session, 1, 1, 2, 3)
    session.apply(result(1, 3, stops=(TrackStop(1, StopReason.EMPTY),)))
    session.accept(1)
    drawn = np.zeros((7, 8), dtype=bool)
    drawn[0, :] = True
    session.edit_slice(1, 0, 2, drawn)
    config = PropagationConfig(min_stability=0.3)
    run = session.begin_run([1], config=config)
    assert (run.prompts, run.config) == ((session.object_state(1).prompts,), config)
    assert list(session.slices(1)) == [2]
    state = session.object_state(1)
    assert (state.stops, state.is_accepted) == ((), False)
    assert session.apply(result(1, 2))
    np.testing.assert_array_equal(session.mask_plane(1, 0, 2), drawn)
    session.apply(result(1, 2), replaces_edits=True)
    assert session.mask(1)[2].sum() == 6


def test_edits_can_be_prompts() -> None:
    session = session_with(1)
    drawn = np.zeros((7, 8), dtype=bool)
    drawn[2:4, 3:5] = True
    old = MaskPrompt(4, np.ones((7, 8), dtype=bool))
    given_prompts = ObjectPrompts(1, box_prompts(1).boxes, masks=(old, MaskPrompt(5, drawn)))
    session.set_prompts(1, given_prompts)
    session.edit_slice(1, 0, 4, drawn)
    session.edit_slice(1, 0, 3, np.zeros((7, 8), dtype=np.uint8))
    session.edit_slice(1, 1, 3, np.ones((6, 8), dtype=bool))
    (prompts,) = session.begin_run([1], edits_as_prompts=True).prompts
    assert prompts.boxes == given_prompts.boxes
    assert {m.slice_index for m in prompts.masks} == {4, 5}
    mask = prompts.mask_on(4)
    assert mask is not None
    np.testing.assert_array_equal(mask, drawn)
    assert session.object_state(1).prompts is given_prompts

    by_hand = session.add_object()
    with pytest.raises(SessionError, match="needs at least one object; got none"):
        session.begin_run([])
    with pytest.raises(SessionError, match="Object 2 has no prompt to grow from"):
        session.begin_run([by_hand])
    session.edit_slice(by_hand, 0, 3, drawn)
    (prompts,) = session.begin_run([by_hand], edits_as_prompts=True).prompts
    assert prompts.anchor_slices == (3,)


def test_an_object_may_grow_along_another_axis_anew() -> None:
    session = session_with(1)
    grow(session, 1, 1, 2)
    session.set_prompts(1, box_prompts(1, axis=2))
    assert session.object_state(1).axis == 0, "the mask is still the old one"
    session.begin_run([1])
    session.apply(result(1, 3, axis=2))
    assert session.mask(1)[1:3, 1:4, 3].all()
    assert session.mask(1).sum() == 6


@pytest.mark.parametrize(
    ("axis", "index", "mask", "message"),
    [
        (0, 1, np.ones((8, 7), dtype=bool), r"mask of shape \(7, 8\).*got bool of shape \(8, 7\)"),
        (0, 1, np.ones((7, 8)), "bool or integer mask"),
        (0, 6, np.ones((7, 8), dtype=bool), "Slice 6 does not exist"),
        (4, 1, np.ones((7, 8), dtype=bool), "axis is 0, 1 or 2"),
    ],
)
def test_edits_are_checked(axis: int, index: int, mask: np.ndarray, message: str) -> None:
    session = session_with(1)
    with pytest.raises(SessionError, match=message):
        session.edit_slice(1, axis, index, mask)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_painted_labels_are_taken_over_exactly(data: st.DataObject) -> None:
    session = Session(SHAPE, overlap_rule=data.draw(st.sampled_from(OverlapRule)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    for object_id in (1, 2, 3):
        axis = int(rng.integers(3))
        session.add_object(box_prompts(object_id, axis=axis))
        for index in range(SHAPE[axis]):
            mask = rng.random(plane_shape(SHAPE, axis)) < 0.5
            session.apply(result(object_id, index, mask, axis=axis))
    axis = data.draw(st.integers(0, 2))
    before, index = session.labels(), 3
    painted = session.labels_plane(axis, index).astype(int)
    stroke = rng.random(painted.shape) < 0.3
    painted[stroke] = data.draw(st.sampled_from([0, 1, 2, 3, 8]))
    steps = len(session.undo_names)
    session.edit_labels(axis, index, painted)
    expected = before.copy()
    np.moveaxis(expected, axis, 0)[index] = painted
    np.testing.assert_array_equal(session.labels(), expected)
    assert len(session.undo_names) - steps == int(
        not np.array_equal(painted, np.moveaxis(before, axis, 0)[index])
    )


def test_labels_painted_wrongly_are_refused() -> None:
    session = session_with(1)
    with pytest.raises(SessionError, match="Painted labels are 0 or object ids; got -1"):
        session.edit_labels(0, 1, np.full((7, 8), -1))
    with pytest.raises(SessionError, match=r"integers of shape \(7, 8\)"):
        session.edit_labels(0, 1, np.zeros((7, 8)))


# Output


def test_labels_have_the_smallest_type_that_holds_the_ids() -> None:
    assert Session(SHAPE).labels().dtype == np.uint8
    session = session_with(255)
    assert session.labels().dtype == np.uint8
    session.add_object(box_prompts(256))
    assert session.labels().dtype == np.uint16
    assert session.labels_plane(0, 1).dtype == np.uint16
    assert session.labels(np.int32).dtype == np.int32
    for dtype in (np.uint8, np.float32, bool):
        with pytest.raises(SessionError, match="integer type that holds 256"):
            session.labels(dtype)


def test_painting_touches_only_the_given_planes() -> None:
    session = session_with(1)
    grow(session, 1, 1, 2)
    out = np.full(SHAPE, 77, dtype=np.int32)
    session.paint_into(out, [PlaneKey(1, 0, 2), PlaneKey(1, 1, 0)])
    assert out[2].sum() == 6
    assert not out[:, 0].any()
    assert (out[np.ix_([0, 1, 3, 4, 5], range(1, 7), range(8))] == 77).all()
    with pytest.raises(SessionError, match=r"array of shape \(6, 7, 8\)"):
        session.paint_into(out[:5], session.planes)


def test_changes_are_told_for_who_has_drawn_an_earlier_state() -> None:
    session = session_with(1, 2)
    grow(session, 1, 1, 2)
    grow(session, 2, 2, 3)
    drawn = session.state
    assert session.changed_since(drawn) == ()
    session.begin_run([1])
    session.apply(result(1, 4))
    assert session.changed_since(drawn) == tuple(PlaneKey(1, 0, i) for i in (1, 2, 4))
    drawn = session.state
    session.set_overlap_rule(OverlapRule.OVERWRITE)
    assert session.changed_since(drawn) == session.planes


def test_a_region_of_a_plane() -> None:
    session = session_with(1)
    grow(session, 1, 2)
    part = session.labels_plane(0, 2, region=Region(2, 0, 5, 3))
    np.testing.assert_array_equal(part, session.labels()[2, 2:5, 0:3])
    with pytest.raises(SessionError, match="Slice 6 does not exist"):
        session.labels_plane(0, 6)


def test_a_snapshot_stays_as_it_was() -> None:
    session = session_with(1)
    grow(session, 1, 1)
    snapshot = session.snapshot()
    grow(session, 1, 1, 2, 3)
    session.remove_object(1)
    assert snapshot.mask(1).sum() == 6
    assert snapshot.object_ids == (1,)
    assert len(snapshot.log) == 2


def test_masks_are_kept_apart_under_overlaps() -> None:
    session = session_with(1, 2)
    grow(session, 1, 1)
    session.apply(result(2, 1, np.ones((7, 8), dtype=bool)))
    assert session.mask(1).sum() == 6
    assert session.mask(2).sum() == 56
    counts = np.bincount(session.labels().ravel())
    assert (counts[1], counts[2]) == (6, 50)
    session.set_overlap_rule(OverlapRule.OVERWRITE)
    assert 1 not in session.labels()


# Quality and table


def test_worst_slices_are_low_apart_and_neither_prompted_nor_edited() -> None:
    session = session_with(1, shape=(20, 7, 8))
    scores = [0.9] * 20
    for index, score in {3: 0.2, 4: 0.1, 5: 0.3, 9: 0.05, 12: 0.4, 15: 0.01, 17: 0.4}.items():
        scores[index] = score
    for index, score in enumerate(scores):
        session.apply(result(1, index, score=score, is_prompted=index == 9))
    session.edit_slice(1, 0, 15, np.ones((7, 8), dtype=bool))
    assert session.worst_slices(1) == (4, 12, 17)
    assert session.worst_slices(1, n=3, min_distance=1) == (4, 3, 5)
    assert session.worst_slices(1, n=2, min_distance=6) == (4, 12)
    assert session.worst_slices(1, n=9, min_distance=8) == (4, 12)
    assert session.quality(1)[15].score == 1.0
    assert session.quality(1)[4].score == pytest.approx(0.1)
    with pytest.raises(SessionError, match="at least 1; got 0 and None"):
        session.worst_slices(1, n=0)


def test_worst_slices_of_equals_are_the_first_ones() -> None:
    session = session_with(1, shape=(20, 7, 8))
    assert session.worst_slices(1) == ()
    for index in reversed(range(20)):
        session.apply(result(1, index))
    assert session.worst_slices(1) == (0, 3, 6)


def test_the_table_of_objects(tmp_path: Path) -> None:
    session = Session(SHAPE, (2.0, 0.5, 0.25), unit="mm")
    session.add_object(box_prompts(1), "liver, left")
    session.add_object(box_prompts(4, axis=1))
    grow(session, 1, 2, 3)
    session.apply(result(1, 3, score=0.7, stops=(TrackStop(1, StopReason.DRIFT),)))
    session.edit_slice(1, 1, 6, np.ones((6, 8), dtype=bool))
    session.accept(1)
    first, second = session.object_table()
    mask = session.mask(1)
    assert first.voxels == mask.sum()
    assert first.volume == pytest.approx(mask.sum() * 0.25)
    where = np.argwhere(mask)
    assert first.bbox_zyx == (tuple(where.min(axis=0)), tuple(where.max(axis=0) + 1))
    assert (first.n_slices, first.slice_range) == (6, (0, 6))
    assert first.mean_quality == pytest.approx(0.6)
    assert (second.voxels, second.bbox_zyx, second.mean_quality) == (0, None, None)

    path = tmp_path / "objects.csv"
    session.write_table_csv(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["liver, left", "object 4"]
    assert rows[0]["volume"] == "15"
    assert (rows[0]["first_slice"], rows[0]["last_slice"], rows[0]["axis"]) == ("0", "5", "z")
    assert (rows[0]["mean_quality"], rows[0]["stops"]) == ("0.6000", "+1@3:drift")
    assert (rows[0]["accepted"], rows[1]["accepted"]) == ("true", "false")
    assert (rows[1]["axis"], rows[1]["z0"], rows[1]["mean_quality"]) == ("y", "", "")
    with pytest.raises(FileFormatError, match="exists already"):
        session.write_table_csv(path)
    session.write_table_csv(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["objects.csv"]


# Construction


def test_a_session_for_a_volume() -> None:
    volume = Volume(np.zeros((7, 8), dtype=np.uint8), (1.0, 0.5, 0.5), "mm")
    session = Session.for_volume(volume, source="slice.png")
    assert session.shape_zyx == (1, 7, 8)
    assert session.info.spacing_zyx == (1.0, 0.5, 0.5)
    assert (session.info.unit, session.info.source) == ("mm", "slice.png")
    session.add_object(box_prompts(1, index=0))
    session.apply(result(1, 0))
    assert session.labels().shape == (1, 7, 8)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4, 5), (1, 2, 3, 4)])
def test_a_session_needs_a_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(SessionError, match="three positive lengths"):
        Session(shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.0, 1.0, 1.0), (1.0, float("nan"), 1.0)])
def test_a_session_needs_a_spacing(spacing: tuple[float, ...]) -> None:
    with pytest.raises(SessionError, match="three positive numbers"):
        Session(SHAPE, spacing)


def test_a_session_needs_neither_torch_nor_a_viewer() -> None:
    code = (
        "import sys; import napari_slidesam.engine.session; "
        "sys.exit(len({'torch', 'napari', 'qtpy', 'magicgui'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
