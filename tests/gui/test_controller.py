from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.engine.session import Session
from napari_slidesam.gui.settings import FileStore
from napari_slidesam.gui.state import SegmentSettings
from napari_slidesam.gui.views.object_model import size_text
from napari_slidesam.model.library import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    OpenDock = Any
    MakeDock = Callable[..., OpenDock]


def _truth(dock: OpenDock, which: int) -> np.ndarray:
    grid = np.indices((12, 48, 48))
    centre = dock.centres[which]
    return np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))) <= 6


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_layers_are_made_on_the_grid_of_the_image(open_dock: MakeDock) -> None:
    dock = open_dock(scale=(2, 0.5, 0.5), translate=(1, 2, 3), units=("um", "um", "um"))
    assert [layer.name for layer in dock.viewer.layers] == [
        "balls",
        "balls objects",
        "balls points",
        "balls boxes",
    ]
    for layer in dock.viewer.layers:
        np.testing.assert_allclose(layer.scale, (2, 0.5, 0.5))
        np.testing.assert_allclose(layer.translate, (1, 2, 3))
        assert [str(u) for u in layer.units] == ["micrometer"] * 3
    assert dock.viewer.layers.selection.active is dock.boxes
    assert str(dock.boxes.mode) == "add_rectangle"
    assert dock.session.info.unit == "um"


def test_boxes_grow_into_objects_one_label_each(open_dock: MakeDock) -> None:
    dock = open_dock()
    image = dock.viewer.layers["balls"].data.copy()
    for which in (0, 1):
        dock.draw(dock.corners(dock.centres[which]))
    assert dock.session.object_ids == (1, 2)
    for which in (0, 1):
        assert _dice(dock.labels.data == which + 1, _truth(dock, which)) > 0.6
    dock.assert_consistent()
    assert list(dock.boxes.features["object"]) == [1, 2]
    assert dock.session.undo_names == ("segment object 2", "segment object 1")
    np.testing.assert_array_equal(dock.viewer.layers["balls"].data, image)
    dock.wait(lambda: dock.widget.panel.objects.model.rowCount() == 2)


def test_drawing_with_the_mouse_and_a_click_without_a_drag(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.viewer.dims.set_current_step(0, 6)
    dock.settle()
    start, end = dock.corners()[[0, 2]]
    dock.drag(dock.boxes, start, (start + end) / 2, end)
    dock.settle()
    assert dock.session.object_ids == (1,)
    assert len(dock.boxes.data) == 1
    assert str(dock.boxes.mode) == "add_rectangle"
    dock.drag(dock.boxes, np.array([6.0, 40.0, 40.0]))
    dock.settle()
    assert dock.session.object_ids == (1,)
    assert len(dock.boxes.data) == 1
    assert "drag" in dock.messages()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_any_plane_in_any_order_of_the_axes(open_dock: MakeDock, order: tuple[int, ...]) -> None:
    dock = open_dock()
    dock.viewer.dims.order = order
    axis = order[0]
    centre = dock.centres[0]
    dock.viewer.dims.set_current_step(axis, centre[axis])
    start, end = dock.corners(centre, axis, half=5.5)[[0, 2]]
    dock.drag(dock.boxes, start, (start + end) / 2, end)
    dock.settle()
    state = dock.session.object_state(1)
    assert state.axis == axis
    assert state.prompts is not None
    assert state.prompts.anchor_slices == (centre[axis],)
    assert _dice(dock.labels.data == 1, _truth(dock, 0)) > 0.5
    dock.assert_consistent()


def test_a_box_on_another_slice_repairs_the_selected_object(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.draw(dock.corners((9, 14, 14), half=5))
    assert dock.session.object_ids == (1,)
    prompts = dock.session.object_state(1).prompts
    assert prompts is not None
    assert prompts.anchor_slices == (6, 9)
    dock.draw(dock.corners((9, 32, 34), half=5))  # beside the selected object
    assert dock.session.object_ids == (1, 2)
    dock.controller.objects.edit(1)
    dock.draw(dock.corners((3, 20, 20), half=5))
    prompts = dock.session.object_state(1).prompts
    assert prompts is not None
    assert prompts.anchor_slices == (3, 6, 9)
    dock.controller.objects.accept(1, True)
    dock.draw(dock.corners((8, 14, 14), half=5))
    assert dock.session.object_ids == (1, 2, 3)
    assert dock.session.object_state(1).is_accepted


def test_outlines_are_mask_prompts(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners(), "ellipse")
    prompts = dock.session.object_state(1).prompts
    assert prompts is not None
    assert len(prompts.masks) == 1
    assert prompts.masks[0].mask[14, 14]
    assert not prompts.masks[0].mask[8, 8]
    triangle = np.array([[6, 26, 27], [6, 26, 41], [6, 38, 34]], dtype=float)
    dock.draw(triangle, "polygon")
    other = dock.session.object_state(2).prompts
    assert other is not None
    assert other.masks[0].mask.sum() < other.boxes[0].box.height * other.boxes[0].box.width


def test_points_refine_and_negative_ones_need_an_object(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.controller.switch_sign()
    dock.points.add(np.array([[6.0, 14.0, 14.0]]))
    dock.settle()
    assert dock.session.object_ids == ()
    assert len(dock.points.data) == 0
    assert "select" in dock.messages()
    dock.draw(dock.corners())
    dock.points.add(np.array([[6.0, 22.0, 22.0]]))
    dock.settle()
    prompts = dock.session.object_state(1).prompts
    assert prompts is not None
    assert [(p.y, p.x, p.positive) for p in prompts.points] == [(22.0, 22.0, False)]
    dock.controller.switch_sign()
    dock.controller.objects.new_object()
    dock.points.add(np.array([[6.0, 32.0, 34.0]]))
    dock.settle()
    assert dock.session.object_ids == (1, 2)
    assert list(dock.points.features["sign"]) == ["-", "+"]
    assert list(dock.points.features["object"]) == [1, 2]


def test_alt_click_sets_a_point_of_the_other_sign(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.viewer.dims.set_current_step(0, 6)
    dock.controller.images.draw("points")
    dock.drag(dock.points, np.array([6.0, 22.0, 22.0]), modifiers=("Alt",))
    dock.settle()
    assert list(dock.points.features["sign"]) == ["-"]


def test_moving_and_deleting_a_box(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    first = dock.labels.data.copy()
    dock.boxes.data = [dock.corners(dock.centres[1])]
    dock.settle()
    assert dock.session.object_ids == (1,)
    assert _dice(dock.labels.data == 1, _truth(dock, 1)) > 0.5
    assert not np.array_equal(first, dock.labels.data)
    dock.boxes.selected_data = {0}
    dock.boxes.remove_selected()
    dock.settle()
    assert dock.session.object_ids == ()
    assert not dock.labels.data.any()


def test_clicking_a_box_selects_its_object(open_dock: MakeDock) -> None:
    dock = open_dock()
    for centre in dock.centres:
        dock.draw(dock.corners(centre))
    dock.viewer.dims.set_current_step(0, 6)
    dock.boxes.mode = "select"
    n_runs = len(dock.session.runs)
    for which, at in ((1, (6.0, 14.0, 7.0)), (2, (6.0, 32.0, 27.0)), (1, (6.0, 14.0, 7.0))):
        dock.drag(dock.boxes, np.array(at))
        dock.settle()
        assert dock.boxes.selected_data == {which - 1}
        assert dock.controller.dock.selected == which
        assert dock.labels.selected_label == which
    table = dock.widget.panel.objects.table
    dock.wait(lambda: table.currentIndex().row() == 0)
    dock.drag(dock.boxes, np.array([6.0, 2.0, 44.0]))  # beside all boxes
    dock.settle()
    assert dock.controller.dock.selected == 1
    dock.boxes.selected_data = {0, 1}  # of two objects: neither is meant
    dock.settle()
    assert dock.controller.dock.selected == 1
    dock.widget.panel.object_selected.emit(2)
    assert dock.boxes.selected_data == {0, 1}
    assert len(dock.session.runs) == n_runs


def test_moving_and_resizing_a_box_with_the_mouse_grows_its_object_again(
    open_dock: MakeDock,
) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.viewer.dims.set_current_step(0, 6)
    dock.boxes.mode = "select"
    start, end = np.array([6.0, 11.0, 11.0]), np.array([6.0, 29.0, 31.0])
    dock.drag(dock.boxes, start)
    dock.drag(dock.boxes, start, (start + end) / 2, end)
    dock.settle()
    assert dock.session.object_ids == (1,)
    assert len(dock.session.runs) == 2
    assert _dice(dock.labels.data == 1, _truth(dock, 1)) > 0.5
    corner = dock.boxes.data[0].max(axis=0)
    dock.drag(dock.boxes, corner, corner - [0, 1, 1], corner - [0, 3, 3])
    dock.settle()
    assert len(dock.session.runs) == 3
    prompts = dock.session.object_state(1).prompts
    assert prompts is not None
    assert prompts.boxes[0].box.height == pytest.approx(11, abs=0.6)
    dock.assert_consistent()


def test_undo_and_redo_move_layers_and_session(open_dock: MakeDock) -> None:
    dock = open_dock()
    states = [dock.labels.data.copy()]
    for which in (0, 1):
        dock.draw(dock.corners(dock.centres[which]), "ellipse" if which else "rectangle")
        states.append(dock.labels.data.copy())
    for n_left in (1, 0):
        dock.controller.objects.undo()
        dock.settle()
        np.testing.assert_array_equal(dock.labels.data, states[n_left])
        assert len(dock.boxes.data) == n_left
    for n_left in (1, 2):
        dock.controller.objects.redo()
        dock.settle()
        np.testing.assert_array_equal(dock.labels.data, states[n_left])
        assert len(dock.boxes.data) == n_left
    assert [str(k) for k in dock.boxes.shape_type] == ["rectangle", "ellipse"]
    dock.controller.objects.undo()
    dock.draw(dock.corners(dock.centres[1]))
    assert dock.session.object_ids == (1, 3)  # an id is not given twice


def test_boxes_of_other_slices_stay_hidden_after_undo(open_dock: MakeDock) -> None:
    dock = open_dock()
    for which, centre in enumerate((dock.centres[0], (8, 32, 34))):
        dock.viewer.dims.set_current_step(0, centre[0])
        start, end = dock.corners(centre)[[0, 2]]
        dock.drag(dock.boxes, start, (start + end) / 2, end)
        dock.settle()
        assert len(dock.boxes.data) == which + 1
    dock.controller.objects.undo()
    dock.controller.objects.redo()
    dock.settle()
    # napari mixes up which shapes are on the slice where these do not go up with the rows.
    assert [int(z) for z in dock.boxes.z_index] == [0, 1]
    assert set(dock.boxes.edge_width) == {dock.boxes.current_edge_width}


def test_a_box_that_is_drawn_as_a_run_ends_is_not_lost(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.boxes.add(dock.corners(dock.centres[1]), shape_type="rectangle")
    dock.controller.prompting.show(())  # before the new box was looked at
    dock.settle()
    assert dock.session.object_ids == (1, 2)
    assert len(dock.boxes.data) == 2


def test_painting_by_hand_is_a_correction_that_can_be_undone(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    dock.viewer.dims.set_current_step(0, 6)
    dock.settle()
    before = dock.labels.data.copy()
    dock.labels.selected_label = 1
    dock.labels.mode = "paint"
    dock.labels.brush_size = 3
    dock.drag(dock.labels, np.array([6.0, 30.0, 10.0]), np.array([6.0, 30.0, 16.0]))
    dock.settle()
    assert dock.labels.data[6, 30, 12] == 1
    assert (0, 6) in dock.session.object_state(1).edits
    dock.assert_consistent()
    assert str(dock.labels.mode) == "paint"
    painted = dock.labels.data.copy()
    dock.labels.undo()  # napari's own: its history is empty, nothing stale comes back
    np.testing.assert_array_equal(dock.labels.data, painted)
    dock.controller.objects.undo()
    dock.settle()
    np.testing.assert_array_equal(dock.labels.data, before)
    dock.controller.objects.redo()
    dock.controller.prompting.run()
    dock.settle()
    assert dock.labels.data[6, 30, 12] == 1  # kept through a run


def test_an_object_painted_by_hand_grows_from_the_paint(open_dock: MakeDock) -> None:
    dock = open_dock()
    dock.viewer.dims.set_current_step(0, 6)
    dock.settle()
    dock.labels.selected_label = 4
    dock.labels.mode = "paint"
    dock.labels.brush_size = 11
    dock.drag(dock.labels, np.array([6.0, 14.0, 14.0]))
    dock.settle()
    assert dock.session.object_ids == (4,)
    painted = dock.labels.data.copy()
    assert not painted[[5, 7]].any()
    dock.widget.panel.object_selected.emit(4)
    dock.widget.panel.run_requested.emit()
    dock.settle()
    assert _dice(dock.labels.data == 4, _truth(dock, 0)) > 0.5
    np.testing.assert_array_equal(dock.labels.data[6], painted[6])
    dock.assert_consistent()


def test_keys_are_free_ones_and_are_taken_away_again(open_dock: MakeDock) -> None:
    dock = open_dock()
    viewer = dock.viewer
    assert {str(key) for key in viewer.keymap} >= {"N", "Q", "G", "J", "K", "H"}
    assert "Ctrl+Z" in {str(key) for key in dock.labels.keymap}
    dock.draw(dock.corners())
    (undo,) = [call for key, call in dock.boxes.keymap.items() if str(key) == "Ctrl+Z"]
    undo(dock.boxes)
    dock.settle()
    assert dock.session.object_ids == ()
    labels = dock.labels
    viewer.window.remove_dock_widget(dock.widget)
    assert not {str(key) for key in viewer.keymap} & {"N", "Q", "G", "J", "K", "H"}
    assert "Ctrl+Z" not in {str(key) for key in labels.keymap}


def test_the_rule_of_overlap_is_undone_in_the_panel_too(open_dock: MakeDock) -> None:
    dock = open_dock()
    for centre in ((6, 14, 14), (6, 18, 18)):
        dock.draw(dock.corners(centre))
    settings = SegmentSettings(overlap_rule=OverlapRule.OVERWRITE)
    dock.widget.panel.settings_changed.emit(settings)
    dock.settle()
    dock.assert_consistent()
    dock.controller.objects.undo()
    dock.settle()
    assert dock.controller.dock.settings.overlap_rule is OverlapRule.KEEP
    dock.assert_consistent()


def test_without_auto_run_boxes_wait_for_the_button(open_dock: MakeDock) -> None:
    dock = open_dock()
    panel = dock.widget.panel
    panel.auto_run_check.setChecked(False)
    for centre in dock.centres:
        dock.draw(dock.corners(centre))
    assert dock.session.object_ids == (1, 2)
    assert not dock.labels.data.any()
    panel.run_requested.emit()
    dock.settle()
    assert set(np.unique(dock.labels.data)) == {0, 1, 2}
    assert len(dock.session.runs) == 1
    assert len(dock.session.runs[0].prompts) == 2


def test_this_slice_only_and_range(open_dock: MakeDock) -> None:
    dock = open_dock()
    settings = SegmentSettings(only_this_slice=True)
    dock.widget.panel.settings_changed.emit(settings)
    dock.draw(dock.corners())
    assert list(dock.session.slices(1)) == [6]
    dock.widget.panel.settings_changed.emit(SegmentSettings(z_range=(5, 9)))
    dock.draw(dock.corners(dock.centres[1]))
    assert set(dock.session.slices(2)) <= {5, 6, 7, 8}
    dock.draw(dock.corners((2, 14, 34), half=4))
    assert "range" in dock.messages()
    assert dock.session.object_ids == (1, 2)
    assert len(dock.boxes.data) == 2


def test_settings_reach_the_run_and_the_file(open_dock: MakeDock, user_folders: Path) -> None:
    dock = open_dock(contrast_limits=(20, 200))
    settings = SegmentSettings(
        use_contrast_limits=True, max_extent_slices=2, overlap_rule=OverlapRule.OVERWRITE
    )
    dock.widget.panel.settings_changed.emit(settings)
    dock.draw(dock.corners())
    config = dock.session.runs[0].config
    assert (config.intensity.kind, config.intensity.lower) == ("limits", 20.0)
    assert config.max_extent_slices == 2
    assert dock.session.overlap_rule is OverlapRule.OVERWRITE
    store = FileStore(user_folders / "segment.json")
    dock.wait(lambda: store.load() == settings)


def test_objects_are_renamed_hidden_accepted_and_deleted(open_dock: MakeDock) -> None:
    dock = open_dock()
    for centre in dock.centres:
        dock.draw(dock.corners(centre))
    panel = dock.widget.panel
    colour = dock.labels.get_color(2)
    panel.object_renamed.emit(1, "cell")
    panel.object_visibility_changed.emit(1, False)
    assert dock.session.object_state(1).name == "cell"
    assert dock.labels.get_color(1)[3] == 0
    np.testing.assert_allclose(dock.labels.get_color(2), colour)
    panel.object_visibility_changed.emit(1, True)
    np.testing.assert_allclose(dock.labels.get_color(2), colour)
    assert dock.labels.get_color(1)[3] == 1
    panel.object_accepted.emit(1, True)
    assert dock.session.object_state(1).is_accepted
    panel.object_edit_requested.emit(1)
    assert not dock.session.object_state(1).is_accepted
    panel.object_deleted.emit(1)
    dock.settle()
    assert dock.session.object_ids == (2,)
    assert set(np.unique(dock.labels.data)) == {0, 2}
    assert len(dock.boxes.data) == 1


def test_going_to_a_slice_turns_the_view_to_the_objects_axis(open_dock: MakeDock) -> None:
    dock = open_dock(scale=(3, 1, 1))
    dock.draw(dock.corners())
    dock.viewer.dims.order = (1, 0, 2)
    dock.widget.panel.object_selected.emit(1)
    dock.widget.panel.slice_requested.emit(8)
    assert tuple(dock.viewer.dims.order) == (0, 1, 2)
    assert dock.viewer.dims.current_step[0] == 8
    dock.controller.objects.go_to_worst()
    assert dock.viewer.dims.current_step[0] in dock.session.worst_slices(1)


def test_exports(open_dock: MakeDock, tmp_path: Path) -> None:
    dock = open_dock(scale=(2, 0.5, 0.5), translate=(3, 2, 1), units=("mm",) * 3)
    dock.draw(dock.corners())
    panel = dock.widget.panel
    for kind, name in (("nifti", "a.nii.gz"), ("tiff", "a.tif"), ("ome-zarr", "a"), ("csv", "a")):
        panel.export_requested.emit(kind, str(tmp_path / name))
    dock.settle()
    assert {p.name for p in tmp_path.iterdir()} >= {"a.nii.gz", "a.tif", "a.zarr", "a.csv"}
    written = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, dock.session.labels())
    np.testing.assert_allclose(
        written.affine, [[0.5, 0, 0, 1], [0, 0.5, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]]
    )
    panel.export_requested.emit("nifti", str(tmp_path / "missing" / "a.nii.gz"))
    dock.settle()
    assert "missing" in dock.messages()


def test_a_session_is_saved_and_loaded(open_dock: MakeDock, tmp_path: Path) -> None:
    dock = open_dock()
    dock.draw(dock.corners())
    labels = dock.labels.data.copy()
    dock.widget.panel.session_save_requested.emit(str(tmp_path / "session"))
    dock.settle()
    dock.draw(dock.corners(dock.centres[1]))
    dock.widget.panel.session_load_requested.emit(str(tmp_path / "session"))
    dock.settle()
    assert dock.session.object_ids == (1,)
    np.testing.assert_array_equal(dock.labels.data, labels)
    assert len(dock.boxes.data) == 1
    Session((3, 4, 5)).save(tmp_path / "other")
    dock.widget.panel.session_load_requested.emit(str(tmp_path / "other"))
    dock.settle()
    assert "shape" in dock.messages()
    assert dock.session.object_ids == (1,)


def test_boxes_drawn_during_a_run_are_grown_together_after_it(open_dock: MakeDock) -> None:
    dock = open_dock(image=np.repeat(dock_image(), 3, axis=0))
    dock.boxes.add(dock.corners((18, 14, 14)), shape_type="rectangle")
    dock.wait(lambda: dock.controller.runs.is_running)
    for centre in ((18, 32, 34), (18, 14, 36)):
        dock.boxes.add(dock.corners(centre), shape_type="rectangle")
    dock.wait(lambda: dock.controller.runs.progress.queued == 2)
    model = dock.widget.panel.objects.model
    dock.wait(lambda: model.rowCount() == 3)
    assert [model.entry(row).is_waiting for row in range(3)] == [False, True, True]
    assert [model.entry(row).name for row in (1, 2)] == ["object 2", "object 3"]
    assert "waiting" in size_text(model.entry(1))
    dock.controller.objects.select(2)
    assert dock.controller.dock.selected == 2
    dock.settle()
    assert [len(run.prompts) for run in dock.session.runs] == [1, 2]
    assert dock.session.object_ids == (1, 2, 3)
    dock.assert_consistent()


def dock_image() -> np.ndarray:
    image = np.random.default_rng(0).integers(30, 50, (12, 48, 48)).astype(np.uint8)
    image[:, 8:20, 8:20] = 180
    image[:, 26:38, 28:40] = 180
    return image


def test_cancel_leaves_a_consistent_layer(open_dock: MakeDock) -> None:
    dock = open_dock(image=np.repeat(dock_image(), 20, axis=0))
    dock.boxes.add(dock.corners((120, 14, 14)), shape_type="rectangle")
    dock.wait(lambda: len(dock.session.planes) > 2)
    dock.widget.panel.cancel_requested.emit()
    dock.settle()
    assert 0 < len(dock.session.slices(1)) < 240
    dock.assert_consistent()
    dock.widget.panel.settings_changed.emit(SegmentSettings(max_extent_slices=2))
    dock.draw(dock.corners((10, 32, 34)))
    assert dock.session.object_ids == (1, 2)


def test_another_scale_begins_an_empty_session_anew_and_is_said_of_another(
    open_dock: MakeDock,
) -> None:
    dock = open_dock()
    assert dock.session.info.spacing_zyx == (1, 1, 1)
    dock.viewer.layers["balls"].scale = (2, 1, 1)
    assert dock.session.info.spacing_zyx == (2, 1, 1)
    dock.draw(dock.corners())
    dock.viewer.layers["balls"].scale = (3, 1, 1)
    assert dock.session.info.spacing_zyx == (2, 1, 1)
    assert dock.session.object_ids == (1,)
    assert "scale changed" in dock.messages()


def test_adapters_beside_the_networks_are_offered(
    open_dock: MakeDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nuclei", "vessels"):
        (tmp_path / "adapters" / name).mkdir(parents=True)
    (tmp_path / "adapters" / "nuclei" / "adapter_config.json").write_text("{}")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    dock = open_dock()
    box = dock.widget.panel.adapter_device.adapter.box
    titles = [box.itemText(i) for i in range(box.count())]
    assert "nuclei" in titles
    assert "vessels" not in titles


def test_the_dock_takes_the_height_that_there_is(open_dock: MakeDock) -> None:
    layout = open_dock().widget.layout()
    assert layout.count() == 1  # napari puts an empty space below what wants no height


def test_settings_are_remembered(open_dock: MakeDock) -> None:
    dock = open_dock()
    settings = replace(SegmentSettings(), auto_run=False)
    dock.widget.panel.settings_changed.emit(settings)
    dock.viewer.window.remove_dock_widget(dock.widget)
    again = open_dock()
    assert again.controller.dock.settings == settings
