"""Labels painted by hand: corrections in images of any number of axes, and mask prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    OpenDock = Any
    MakeDock = Callable[..., OpenDock]


def _columns(n_slices: int) -> np.ndarray:
    image = np.random.default_rng(0).integers(30, 50, (1, 48, 48)).astype(np.uint8)
    image[:, 8:20, 8:20] = 180
    return np.repeat(image, n_slices, axis=0)


def _brush(dock: OpenDock, *places: np.ndarray, label: int = 1, mode: str = "paint") -> None:
    """One stroke with the mouse."""
    dock.labels.selected_label = label
    dock.labels.mode = mode
    dock.labels.brush_size = 3
    dock.drag(dock.labels, *places)
    dock.settle()


def _undo_and_redo(dock: OpenDock) -> np.ndarray:
    dock.controller.objects.undo()
    dock.settle()
    undone = np.array(dock.labels.data)
    dock.controller.objects.redo()
    dock.settle()
    return undone


def _run(dock: OpenDock, object_id: int = 1) -> None:
    dock.controller.dock.select(object_id)
    dock.controller.prompting.run()
    dock.settle()


def test_in_a_2d_image(open_dock: MakeDock) -> None:
    dock = open_dock(image=_columns(1)[0])
    dock.draw(dock.corners((0, 14, 14))[:, 1:])
    before = dock.labels.data.copy()
    _brush(dock, np.array([34.0, 30.0]), np.array([34.0, 38.0]))
    _brush(dock, np.array([14.0, 14.0]), mode="erase")
    painted = dock.labels.data.copy()
    assert painted[34, 34] == 1
    assert painted[14, 14] == 0
    assert before[14, 14] == 1
    assert list(dock.session.object_state(1).edits) == [(0, 0)]
    assert _undo_and_redo(dock)[14, 14] == 1
    np.testing.assert_array_equal(dock.labels.data, painted)
    _run(dock)
    np.testing.assert_array_equal(dock.labels.data, painted)
    np.testing.assert_array_equal(dock.labels.data, dock.session.labels()[0])


def test_in_the_time_point_that_is_shown(open_dock: MakeDock) -> None:
    dock = open_dock(image=np.stack([_columns(5)] * 2))
    dock.viewer.dims.set_current_step(0, 1)
    dock.viewer.dims.set_current_step(1, 2)
    dock.settle()
    dock.draw(dock.corners((2, 14, 14), leading=(1,)))
    before = dock.labels.data.copy()
    _brush(dock, np.array([1.0, 2, 34, 30]), np.array([1.0, 2, 34, 38]))
    painted = dock.labels.data.copy()
    assert painted[1, 2, 34, 34] == 1
    assert not painted[0].any()
    np.testing.assert_array_equal(painted[1, [0, 1, 3, 4]], before[1, [0, 1, 3, 4]])
    assert list(dock.session.object_state(1).edits) == [(0, 2)]
    np.testing.assert_array_equal(_undo_and_redo(dock), before)
    np.testing.assert_array_equal(dock.labels.data, painted)
    _run(dock)
    np.testing.assert_array_equal(dock.labels.data[1, 2], painted[1, 2])
    np.testing.assert_array_equal(dock.labels.data[1], dock.session.labels())
    assert () not in dock.controller.workspace.sessions
    dock.viewer.dims.set_current_step(0, 0)
    dock.qtbot.wait(150)
    _brush(dock, np.array([0.0, 2, 40, 40]), label=3)
    assert dock.session.object_ids == (3,)
    np.testing.assert_array_equal(dock.labels.data[0], dock.session.labels())
    assert dock.labels.data[1].max() == 1


def test_across_another_axis(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.viewer.dims.order = (1, 0, 2)
    dock.viewer.dims.set_current_step(1, 30)
    dock.settle()
    _brush(dock, np.array([3.0, 30.0, 10.0]), np.array([3.0, 30.0, 16.0]))
    assert dock.labels.data[3, 30, 13] == 1
    assert list(dock.session.object_state(1).edits) == [(1, 30)]
    dock.assert_consistent()


def test_a_fill_through_all_slices(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.labels.n_edit_dimensions = 3
    dock.viewer.dims.set_current_step(0, 6)
    dock.settle()
    slices = {int(z) for z in np.nonzero(dock.labels.data)[0]}
    n_voxels = int((dock.labels.data == 1).sum())
    _brush(dock, np.array([6.0, 14.0, 14.0]), label=7, mode="fill")
    assert {i for _, i in dock.session.object_state(7).edits} == slices
    assert int((dock.labels.data == 7).sum()) == n_voxels
    dock.assert_consistent()
    assert int((_undo_and_redo(dock) == 1).sum()) == n_voxels


@pytest.mark.parametrize("is_prompt", [True, False])
def test_a_painted_slice_is_a_mask_prompt_where_that_is_set(
    open_dock: MakeDock, is_prompt: bool
) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    settings = dock.controller.dock.settings
    dock.widget.panel.settings_changed.emit(replace(settings, edits_as_prompts=is_prompt))
    dock.viewer.dims.set_current_step(0, 8)
    dock.settle()
    _brush(dock, np.array([8.0, 24.0, 12.0]), np.array([8.0, 24.0, 16.0]))
    painted = dock.labels.data[8] == 1
    _run(dock)
    (prompts,) = dock.session.runs[-1].prompts
    masks = {m.slice_index: m.mask for m in prompts.masks}
    assert list(masks) == ([8] if is_prompt else [])
    if is_prompt:
        np.testing.assert_array_equal(masks[8], painted)
    np.testing.assert_array_equal(dock.labels.data[8] == 1, painted)
    dock.assert_consistent()
