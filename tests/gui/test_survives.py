"""What people do to a viewer while the dock works in it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from qtpy.QtWidgets import QApplication

from napari_slidesam.engine.session import Session
from napari_slidesam.gui.recovery import Recovery
from napari_slidesam.gui.segment_widget import SegmentWidget
from napari_slidesam.gui.state import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari
    from pytestqt.qtbot import QtBot

    OpenDock = Any
    MakeDock = Callable[..., OpenDock]
    MakeViewer = Callable[[], napari.Viewer]

SMALL = (8, 14, 14)


def _columns(n_slices: int = 240) -> np.ndarray:
    """Two objects through all slices: a run through them takes a while."""
    image = np.random.default_rng(0).integers(30, 50, (1, 48, 48)).astype(np.uint8)
    image[:, 8:20, 8:20] = 180
    image[:, 26:38, 28:40] = 180
    return np.repeat(image, n_slices, axis=0)


def _start(open_dock: MakeDock, **options: Any) -> OpenDock:
    """Open the dock on a long volume, and have a run under way in it."""
    dock = open_dock(image=_columns(), **options)
    dock.boxes.add(dock.corners((120, 14, 14)), shape_type="rectangle")
    dock.wait(lambda: len(dock.session.planes) > 2)
    return dock


def _cancel(dock: OpenDock) -> None:
    dock.controller.runs.cancel()
    dock.settle()


@pytest.mark.parametrize("which", ["labels", "boxes", "points"])
def test_a_layer_of_the_dock_removed_during_a_run_comes_back(
    open_dock: MakeDock, which: str
) -> None:
    dock = _start(open_dock)
    removed = getattr(dock, which)
    dock.viewer.layers.remove(removed)
    dock.wait(lambda: len(dock.viewer.layers) == 4)
    assert getattr(dock, which) is not removed
    assert "made again" in dock.messages()
    n_planes = len(dock.session.planes)
    dock.wait(lambda: len(dock.session.planes) > n_planes + 1)
    _cancel(dock)
    assert len(dock.boxes.data) == 1
    dock.assert_consistent()


def test_renamed_reordered_and_hidden_during_a_run(open_dock: MakeDock) -> None:
    dock = _start(open_dock)
    dock.labels.name = "cells"
    dock.viewer.layers["balls"].name = "picture"
    dock.viewer.layers.move(0, 3)
    dock.viewer.layers.reverse()
    dock.labels.visible = False
    dock.boxes.visible = False
    n_planes = len(dock.session.planes)
    dock.wait(lambda: len(dock.session.planes) > n_planes + 1)
    _cancel(dock)
    dock.labels.visible = True
    dock.assert_consistent()
    assert dock.widget.panel.image_model.image_box.currentText() == "picture"


def test_the_image_removed_during_a_run(open_dock: MakeDock) -> None:
    dock = _start(open_dock)
    labels = dock.labels
    dock.viewer.layers.remove("balls")
    dock.wait(lambda: dock.controller.workspace is None)
    assert "removed" in dock.messages()
    assert labels in dock.viewer.layers
    assert np.asarray(labels.data).any()
    dock.settle()
    dock.viewer.add_image(dock.balls(), name="next")
    dock.wait(lambda: dock.controller.workspace is not None)
    dock.draw(dock.corners())
    assert dock.session.object_ids == (1,)


def test_all_layers_cleared_during_a_run(open_dock: MakeDock) -> None:
    dock = _start(open_dock)
    dock.viewer.layers.clear()
    dock.wait(lambda: dock.controller.workspace is None)
    dock.settle()
    assert len(dock.viewer.layers) == 0


def test_the_array_of_the_image_replaced_during_a_run(open_dock: MakeDock) -> None:
    dock = _start(open_dock)
    image = dock.viewer.layers["balls"]
    image.data = _columns()[:, ::-1]
    dock.settle()
    assert not dock.controller.runs.is_running
    assert dock.session.object_ids == (1,)
    dock.assert_consistent()
    kept = dock.labels
    image.data = dock.balls()
    dock.settle()
    assert dock.session.shape_zyx == (12, 48, 48)
    assert dock.session.object_ids == ()
    assert dock.labels is not kept
    assert kept in dock.viewer.layers
    dock.draw(dock.corners())
    assert dock.session.object_ids == (1,)
    dock.assert_consistent()


def test_the_viewer_closed_during_a_run(open_dock: MakeDock, qtbot: QtBot) -> None:
    dock = _start(open_dock)
    dock.viewer.close()
    qtbot.waitUntil(lambda: not _our_threads())
    assert not _our_threads()


def _our_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("slide-sam")]


def test_the_dock_closed_during_a_run_and_opened_again(open_dock: MakeDock, qtbot: QtBot) -> None:
    dock = _start(open_dock)
    session, labels, viewer = dock.session, dock.labels, dock.viewer
    viewer.window.remove_dock_widget(dock.widget)
    assert not _our_threads()
    assert len(viewer.layers) == 4
    np.testing.assert_array_equal(labels.data, session.labels())
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="again")
    again = type(dock)(viewer, widget, qtbot)
    again.settle()
    assert len(viewer.layers) == 4
    assert again.session is session
    again.widget.panel.settings_changed.emit(SegmentSettings(max_extent_slices=2))
    again.draw(again.corners((10, 32, 34)))
    assert again.session.object_ids == (1, 2)
    again.assert_consistent()


def test_a_copy_of_the_labels_is_a_layer_of_its_own(open_dock: MakeDock) -> None:
    from copy import deepcopy

    dock = open_dock()
    dock.draw(dock.corners())
    data, options, kind = deepcopy(dock.labels.as_layer_data_tuple())
    assert kind == "labels"
    options["name"] = "copy"
    dock.viewer.add_labels(data, **options)
    dock.settle()
    dock.controller.objects.delete(1)
    dock.settle()
    assert dock.viewer.layers["copy"].data.any()
    assert not dock.labels.data.any()


def test_two_viewers_at_once(open_dock: MakeDock) -> None:
    docks = [open_dock(), open_dock()]
    for dock, centre in zip(docks, docks[0].centres, strict=True):
        dock.boxes.add(dock.corners(centre), shape_type="rectangle")
    for dock in docks:
        dock.settle()
        dock.assert_consistent()
        assert dock.session.object_ids == (1,)
    assert not np.array_equal(docks[0].labels.data, docks[1].labels.data)


def test_the_slider_moved_and_the_axes_rolled_while_drawing(open_dock: MakeDock) -> None:
    dock = open_dock()
    dims = dock.viewer.dims
    for change in (lambda: dims.set_current_step(0, 9), dims.roll, dims.transpose):
        dims.order = (0, 1, 2)
        dims.set_current_step(0, 6)
        dock.settle()
        start, end = dock.corners()[[0, 2]]
        dock.send(dock.boxes, "mouse_press", start)
        dock.send(dock.boxes, "mouse_move", (start + end) / 2)
        change()
        dock.qtbot.wait(20)
        hidden = dims.order[0]
        end[hidden] = dims.point[hidden]  # the mouse is on what is displayed now
        dock.send(dock.boxes, "mouse_move", end)
        dock.send(dock.boxes, "mouse_release", end)
        dock.settle()
        dock.assert_consistent()
        assert len(dock.boxes.data) == len(dock.session.object_ids)
    dims.order = (0, 1, 2)
    dock.draw(dock.corners(dock.centres[1]))
    dock.assert_consistent()


def test_3d_is_refused_with_a_hint(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.viewer.dims.ndisplay = 3
    dock.qtbot.wait(20)
    assert "2D" in dock.messages()
    dock.draw(dock.corners())
    assert dock.session.object_ids == ()
    assert "2D" in dock.messages()
    dock.viewer.dims.ndisplay = 2
    dock.qtbot.wait(20)
    assert "Shift+B" in dock.messages()
    dock.draw(dock.corners())
    assert dock.session.object_ids == (1,)


def test_boxes_outside_partly_outside_and_of_one_pixel(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners((6, 90, 90)))
    assert "outside" in dock.messages()
    assert len(dock.boxes.data) == 0
    dock.draw(dock.corners((40, 14, 14)))
    assert "slices 0 to 11" in dock.messages()
    assert dock.session.object_ids == ()
    dock.draw(dock.corners((6, 4, 4), half=8))
    dock.draw(dock.corners((6, 32, 34), half=0.5))
    assert dock.session.object_ids == (1, 2)
    dock.assert_consistent()


def _as_multiscale(image: np.ndarray) -> dict[str, Any]:
    return {"image": [image, image[:, ::2, ::2]], "multiscale": True}


def _as_dask(image: np.ndarray) -> dict[str, Any]:
    return {"image": da.from_array(image, chunks=(1, 48, 48))}


def _as_zarr(image: np.ndarray) -> dict[str, Any]:
    return {"image": zarr.array(image, chunks=(1, 48, 48))}


def _as_rgb(image: np.ndarray) -> dict[str, Any]:
    return {"image": np.stack([image] * 3, axis=-1), "rgb": True}


@pytest.mark.parametrize("kind", [_as_multiscale, _as_dask, _as_zarr, _as_rgb])
def test_arrays_of_every_kind(
    open_dock: MakeDock, kind: Callable[[np.ndarray], dict[str, Any]]
) -> None:
    dock = open_dock(**kind(_columns(5)))
    dock.draw(dock.corners((2, 14, 14)))
    assert dock.labels.data.shape == (5, 48, 48)
    assert (dock.labels.data[2, 10:18, 10:18] == 1).mean() > 0.7
    dock.assert_consistent()


def test_a_2d_image(open_dock: MakeDock) -> None:
    dock = open_dock(image=_columns(1)[0])
    vertices = dock.corners((0, 14, 14))[:, 1:]
    dock.draw(vertices)
    assert dock.labels.data.shape == (48, 48)
    assert (dock.labels.data[10:18, 10:18] == 1).mean() > 0.7
    dock.draw(dock.corners((0, 32, 34))[:, 1:], "ellipse")
    np.testing.assert_array_equal(dock.labels.data, dock.session.labels()[0])
    dock.controller.objects.undo()
    dock.settle()
    assert len(dock.boxes.data) == 1


def test_each_time_point_has_objects_of_its_own(open_dock: MakeDock) -> None:
    dock = open_dock(image=np.stack([_columns(5), _columns(5)[:, ::-1]]))
    dock.viewer.dims.set_current_step(0, 1)
    dock.settle()
    dock.draw(dock.corners((2, 48 - 14, 14), leading=(1,)))
    assert dock.session.object_ids == (1,)
    assert (dock.labels.data[1, 2, 30:38, 10:18] == 1).mean() > 0.7
    assert not dock.labels.data[0].any()
    dock.viewer.dims.set_current_step(0, 0)
    dock.qtbot.wait(150)
    assert dock.session.object_ids == ()
    dock.draw(dock.corners((2, 14, 14), leading=(0,)))
    assert dock.session.object_ids == (1,)
    np.testing.assert_array_equal(dock.labels.data[0], dock.session.labels())
    dock.controller.objects.undo()
    dock.settle()
    assert len(dock.boxes.data) == 1
    assert not dock.labels.data[0].any()
    assert dock.labels.data[1].any()


def test_labels_painted_while_they_stream(open_dock: MakeDock) -> None:
    dock = _start(open_dock)
    dock.viewer.dims.set_current_step(0, 120)
    dock.labels.selected_label = 1
    dock.labels.mode = "paint"
    dock.labels.brush_size = 3
    dock.drag(dock.labels, np.array([120.0, 40.0, 6.0]), np.array([120.0, 40.0, 12.0]))
    dock.wait(lambda: bool(dock.session.object_state(1).edits))
    n_planes = len(dock.session.planes)
    dock.wait(lambda: len(dock.session.planes) > n_planes)
    _cancel(dock)
    assert dock.labels.data[120, 40, 9] == 1
    assert (dock.labels.data[120, 10:18, 10:18] == 1).mean() > 0.7
    dock.assert_consistent()


@pytest.mark.parametrize(
    "error", [RuntimeError("device lost"), torch.OutOfMemoryError("no memory left")]
)
def test_a_network_that_fails_during_a_run(
    open_dock: MakeDock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    dock = open_dock(image=_columns(20))
    predictor = dock.controller.network.predictor(dock.controller.dock.settings)
    works, calls = predictor.model.predict_windows, []

    def fail(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise error
        return works(*args)

    monkeypatch.setattr(predictor.model, "predict_windows", fail)
    monkeypatch.setattr("napari_slidesam.engine.batching._warn", lambda message: None)
    dock.draw(dock.corners((10, 14, 14)))
    assert str(error) in dock.messages()
    assert dock.labels.data[10].any()
    dock.assert_consistent()
    monkeypatch.undo()
    dock.draw(dock.corners((10, 32, 34)))
    assert set(np.unique(dock.labels.data)) == {0, 1, 2}
    dock.controller.objects.undo()
    dock.controller.objects.undo()
    dock.settle()
    assert not dock.labels.data.any()


def test_a_network_that_cannot_be_loaded(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.widget.panel.settings_changed.emit(SegmentSettings(model="/nowhere/net.safetensors"))
    dock.settle()
    assert "net.safetensors" in dock.messages()
    dock.draw(dock.corners())
    assert "net.safetensors" in dock.messages()
    dock.widget.panel.settings_changed.emit(SegmentSettings())
    dock.widget.panel.run_requested.emit()
    dock.settle()
    assert dock.labels.data.any()


def test_fifty_boxes_in_a_row(open_dock: MakeDock) -> None:
    image = np.random.default_rng(0).integers(30, 50, (1, 80, 160)).astype(np.uint8)
    centres = [(0, 8 + 16 * (k % 5), 8 + 16 * (k // 5)) for k in range(50)]
    for _, y, x in centres:
        image[0, y - 4 : y + 4, x - 4 : x + 4] = 200
    dock = open_dock(image=image)
    for centre in centres:
        dock.boxes.add(dock.corners(centre, half=5), shape_type="rectangle")
        QApplication.processEvents()
    dock.settle()
    assert dock.session.object_ids == tuple(range(1, 51))
    assert sorted(dock.boxes.features["object"]) == list(range(1, 51))
    dock.assert_consistent()


def test_what_a_crash_left_behind_is_offered(
    open_dock: MakeDock, user_folders: Path, tmp_path: Path
) -> None:
    first = open_dock()
    first.draw(first.corners())
    recovery = Recovery(user_folders / "recovery")
    first.session.save(tmp_path / "kept")
    recovery.save(Session.load(tmp_path / "kept"), "balls", ())
    assert Recovery(user_folders / "recovery").left_behind() == ()  # it still lives
    for lock in recovery._locks.values():  # as the system does when a process dies
        lock.close()
    second = open_dock()
    assert second.widget.panel.recovery.isVisibleTo(second.widget.panel)
    second.widget.panel.recovery_answered.emit(True)
    second.settle()
    assert second.session.object_ids == (1,)
    np.testing.assert_array_equal(second.labels.data, first.labels.data)
    assert len(second.boxes.data) == 1


def test_autosave_keeps_what_changed_and_a_closed_dock_leaves_nothing(
    open_dock: MakeDock, user_folders: Path
) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.controller.keeping.autosave()
    dock.settle()
    (folder,) = (user_folders / "recovery").iterdir()
    assert Session.load(folder / "session").object_ids == (1,)
    dock.viewer.window.remove_dock_widget(dock.widget)
    assert list((user_folders / "recovery").iterdir()) == []


def test_the_dock_opens_from_the_plugin_menu(make_viewer: MakeViewer, qtbot: QtBot) -> None:
    viewer = make_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-slidesam", "Segment with Slide-SAM")
    assert isinstance(widget, SegmentWidget)
    assert widget.controller.workspace is None
    viewer.add_image(_columns(3), name="later")
    qtbot.waitUntil(lambda: widget.controller.workspace is not None)
