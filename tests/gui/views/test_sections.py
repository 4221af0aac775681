from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest
from qtpy.QtCore import QPoint, Qt

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.gui.state import DeviceState, HistoryState, ImageChoice, SegmentSettings
from napari_slidesam.gui.views.export_bar import EXPORT_KINDS
from napari_slidesam.intensity import Intensity, IntensityKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QComboBox

    from napari_slidesam.gui.state import ObjectEntry
    from napari_slidesam.gui.views.panel import SegmentPanel

    MakeEntry = Callable[..., ObjectEntry]

LEFT = Qt.MouseButton.LeftButton
DEFAULTS = SegmentSettings()


def _choose(qtbot: QtBot, box: QComboBox, text: str) -> None:
    """Choose an entry in a combo box's list, with the mouse."""
    box.showPopup()
    view = box.view()
    index = box.model().index(box.findText(text), 0)
    view.scrollTo(index)
    qtbot.mouseClick(view.viewport(), LEFT, pos=view.visualRect(index).center())
    box.hidePopup()


def _texts(box: QComboBox) -> list[str]:
    return [box.itemText(i) for i in range(box.count())]


def _type(qtbot: QtBot, box: Any, text: str) -> None:
    """Type a number into a spin box, and leave it with Enter."""
    box.setFocus()
    box.selectAll()
    qtbot.keyClicks(box, text)
    qtbot.keyClick(box, Qt.Key.Key_Return)


# -- image, channel, model ----------------------------------------------------------------


def test_image_and_channel_are_chosen(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    view = panel.image_model
    assert not view.image_box.isEnabled()
    panel.set_images([ImageChoice("plain"), ImageChoice("rgb & co", ("red", "green"))], "plain")
    assert view.channel_box.isHidden()
    _choose(qtbot, view.image_box, "rgb & co")
    assert said.taken() == [("image_chosen", "rgb & co"), ("channel_chosen", 0)]
    assert view.channel_box.isVisible()
    _choose(qtbot, view.channel_box, "green")
    assert said.taken() == [("channel_chosen", 1)]
    panel.set_images([ImageChoice("rgb & co", ("red", "green"))], "rgb & co")
    assert view.channel_box.currentText() == "green"
    panel.set_images([ImageChoice("plain"), ImageChoice("rgb & co", ("red", "green"))], "plain")
    _choose(qtbot, view.image_box, "rgb & co")
    _choose(qtbot, view.image_box, "plain")
    assert said.taken()[-2:] == [("image_chosen", "plain"), ("channel_chosen", None)]


def test_no_image_is_current(panel: SegmentPanel) -> None:
    panel.set_images([ImageChoice("a")], None)
    assert panel.image_model.image_box.currentIndex() == -1


def test_plane_and_device_are_shown_where_known(panel: SegmentPanel) -> None:
    view = panel.image_model
    assert view.plane.isHidden()
    assert view.device.isHidden()
    panel.set_plane("yx, across z")
    panel.set_device(DeviceState(("auto", "cpu"), "cpu, 8 threads"))
    assert view.plane.text() == "yx, across z"
    assert view.device.isVisible()
    assert panel.adapter_device.state.text() == "cpu, 8 threads"


def test_models_by_name(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    box = panel.image_model.model.box
    panel.set_models(["embedded", "sam-b"])
    assert _texts(box) == ["Embedded (Slide-SAM lite)", "sam-b", "File…"]
    _choose(qtbot, box, "sam-b")
    assert said.taken() == [("settings_changed", replace(DEFAULTS, model="sam-b"))]
    _choose(qtbot, box, "sam-b")
    assert said.taken() == []
    _choose(qtbot, box, "Embedded (Slide-SAM lite)")
    assert said.taken() == [("settings_changed", DEFAULTS)]


def test_models_from_files(qtbot: QtBot, panel: SegmentPanel, said: Any, answers: Any) -> None:
    box = panel.image_model.model.box
    _choose(qtbot, box, "File…")  # and no answer
    assert said.taken() == []
    assert box.currentText() == "Embedded (Slide-SAM lite)"
    answers.answer = "/weights/mine.safetensors"
    _choose(qtbot, box, "File…")
    changed = replace(DEFAULTS, model="/weights/mine.safetensors")
    assert said.taken() == [("settings_changed", changed)]
    assert box.currentText() == "mine.safetensors"
    panel.set_settings(DEFAULTS)
    assert box.currentText() == "Embedded (Slide-SAM lite)"
    assert len(answers.asked) == 2


def test_adapter_and_device(qtbot: QtBot, panel: SegmentPanel, said: Any, answers: Any) -> None:
    panel.device_section.set_open(True)
    view = panel.adapter_device
    panel.set_adapters(["/adapters/nuclei"])
    panel.set_device(DeviceState(("auto", "cpu", "cuda:0")))
    assert _texts(view.adapter.box) == ["None", "nuclei", "Folder…"]
    assert _texts(view.device_box) == ["Automatic", "cpu", "cuda:0"]
    _choose(qtbot, view.adapter.box, "nuclei")
    _choose(qtbot, view.device_box, "cuda:0")
    answers.answer = "/other/lora"
    _choose(qtbot, view.adapter.box, "Folder…")
    _choose(qtbot, view.adapter.box, "None")
    changes = [settings for _, settings in said.taken()]
    assert [s.adapter for s in changes] == [
        "/adapters/nuclei",
        "/adapters/nuclei",
        "/other/lora",
        None,
    ]
    assert [s.device for s in changes] == ["auto", "cuda:0", "cuda:0", "cuda:0"]
    qtbot.mouseClick(view.embeddings_check, Qt.MouseButton.LeftButton, pos=QPoint(8, 10))
    ((_, settings),) = said.taken()
    assert settings.keep_embeddings


# -- intensity ----------------------------------------------------------------------------


def test_every_kind_of_intensity_can_be_chosen(
    qtbot: QtBot, panel: SegmentPanel, said: Any
) -> None:
    panel.intensity_section.set_open(True)
    box = panel.intensity.kind_box
    kinds = [box.itemData(i) for i in range(box.count())]
    assert set(kinds) == {*get_args(IntensityKind), "layer"}
    for i in range(1, box.count()):
        _choose(qtbot, box, box.itemText(i))
    changes = [settings for _, settings in said.taken()]
    assert [s.use_contrast_limits for s in changes] == [kind == "layer" for kind in kinds[1:]]
    assert [s.intensity.kind for s in changes[1:]] == kinds[2:]


def test_percentiles_stay_in_order(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.intensity_section.set_open(True)
    _choose(qtbot, panel.intensity.kind_box, "Percentiles")
    assert said.taken()[0][1].intensity == Intensity("percentiles")
    pair = panel.intensity.percentiles
    assert pair.isVisible()
    assert panel.intensity.limits.isHidden()
    _type(qtbot, pair.lower_box, "2.5")
    assert said.taken()[-1][1].intensity == Intensity("percentiles", 2.5, 99.5)
    _type(qtbot, pair.upper_box, "1")
    assert said.taken()[-1][1].intensity == Intensity("percentiles", 0.9, 1.0)
    _type(qtbot, pair.upper_box, "0")
    assert said.taken()[-1][1].intensity == Intensity("percentiles", 0.0, 0.1)
    _type(qtbot, pair.lower_box, "99.9")
    assert said.taken()[-1][1].intensity == Intensity("percentiles", 99.9, 100.0)


def test_limits_push_each_other(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.intensity_section.set_open(True)
    _choose(qtbot, panel.intensity.kind_box, "Limits")
    pair = panel.intensity.limits
    _type(qtbot, pair.lower_box, "5000")
    assert said.taken()[-1][1].intensity == Intensity("limits", 5000.0, 5001.0)
    _type(qtbot, pair.upper_box, "-20.5")
    assert said.taken()[-1][1].intensity == Intensity("limits", -21.5, -20.5)


# -- range, extent, overlap ---------------------------------------------------------------


def test_range_is_shown_with_both_ends_inside(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.range_section.set_open(True)
    view = panel.range
    panel.set_slice_count(60)
    assert view.range_check.text() == "Stay within slices (of 0 to 59)"
    qtbot.mouseClick(view.range_check, LEFT, pos=QPoint(8, 10))
    assert said.taken()[-1][1].z_range == (0, 60)
    _type(qtbot, view.first_box, "10")
    _type(qtbot, view.last_box, "20")
    assert said.taken()[-1][1].z_range == (10, 21)
    _type(qtbot, view.first_box, "30")
    assert said.taken()[-1][1].z_range == (30, 31)
    _type(qtbot, view.last_box, "4")
    assert said.taken()[-1][1].z_range == (4, 5)
    qtbot.mouseClick(view.range_check, LEFT, pos=QPoint(8, 10))
    assert said.taken() == [("settings_changed", DEFAULTS)]
    assert not view.first_box.isEnabled()


def test_a_range_survives_a_shorter_stack(panel: SegmentPanel, said: Any) -> None:
    settings = replace(DEFAULTS, z_range=(10, 91))
    panel.set_slice_count(100)
    panel.set_settings(settings)
    panel.set_slice_count(20)
    assert panel.range.applied_to(DEFAULTS) == settings
    panel.set_slice_count(None)
    assert panel.range.applied_to(DEFAULTS) == settings
    assert said == []


def test_extent_overlap_and_edits(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.range_section.set_open(True)
    view = panel.range
    qtbot.mouseClick(view.extent_check, LEFT, pos=QPoint(8, 10))
    _type(qtbot, view.extent_box, "7")
    assert said.taken()[-1][1].max_extent_slices == 7
    _choose(qtbot, view.overlap_box, "Later object takes")
    assert said.taken()[-1][1].overlap_rule is OverlapRule.OVERWRITE
    qtbot.mouseClick(view.edits_check, LEFT, pos=QPoint(8, 10))
    assert said.taken()[-1][1].edits_as_prompts is False


# -- history ------------------------------------------------------------------------------


def test_undo_and_redo_one_level(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    bar = panel.history
    qtbot.mouseClick(bar.undo.button, LEFT)
    assert said.taken() == []
    panel.set_history(HistoryState(("Grow 2", "Draw"), ("Paint",)))
    assert bar.undo.button.toolTip() == "Undo “Grow 2”"
    assert bar.last.text() == "Grow 2"
    assert not bar.redo.arrow.isEnabled()
    qtbot.mouseClick(bar.undo.button, LEFT)
    qtbot.mouseClick(bar.redo.button, LEFT)
    assert said.taken() == [("undo_requested",), ("redo_requested",)]


def test_undo_several_levels(panel: SegmentPanel, said: Any) -> None:
    panel.set_history(HistoryState(("Grow 2", "Draw & paint", "Grow 1"), ("a", "b")))
    for button, n_levels, name in (
        (panel.history.undo, 3, "undo_requested"),
        (panel.history.redo, 2, "redo_requested"),
    ):
        button.menu.aboutToShow.emit()
        actions = button.menu.actions()
        assert len(actions) == n_levels
        actions[-1].trigger()
        assert said.taken() == [(name,)] * n_levels
    panel.history.undo.menu.aboutToShow.emit()
    assert "Draw && paint" in panel.history.undo.menu.actions()[1].text()


# -- export and session -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "answer", "path"),
    [
        ("nifti", "/out/a", "/out/a.nii.gz"),
        ("nifti", "/out/a.nii", "/out/a.nii"),
        ("tiff", "/out/a.b", "/out/a.b.tif"),
        ("tiff", "/out/A.TIFF", "/out/A.TIFF"),
        ("ome-zarr", "/out/a", "/out/a.ome.zarr"),
        ("ome-zarr", "/out/a.zarr", "/out/a.zarr"),
        ("csv", "/out/a.csv", "/out/a.csv"),
        ("csv", "", None),
    ],
)
def test_export(
    panel: SegmentPanel,
    said: Any,
    answers: Any,
    entry: MakeEntry,
    key: str,
    answer: str,
    path: str | None,
) -> None:
    panel.set_images([ImageChoice("a/b: nuclei")], "a/b: nuclei")
    panel.set_objects([entry(1)], None)
    answers.answer = answer
    place = [kind.key for kind in EXPORT_KINDS].index(key)
    panel.export.menu.actions()[place].trigger()
    ((_, suggestion, kinds),) = answers.asked
    assert suggestion.startswith("a_b_ nuclei_")
    assert suggestion.endswith(EXPORT_KINDS[place].ending)
    assert EXPORT_KINDS[place].ending in kinds
    assert said.taken() == ([("export_requested", key, path)] if path else [])


def test_session_is_saved_and_resumed(
    qtbot: QtBot, panel: SegmentPanel, said: Any, answers: Any, entry: MakeEntry
) -> None:
    panel.export_section.set_open(True)
    assert not panel.export.save_button.isEnabled()  # nothing to save
    assert not panel.export.export_button.isEnabled()
    panel.set_objects([entry(1)], None)
    for button in (panel.export.save_button, panel.export.load_button):
        qtbot.mouseClick(button, LEFT)
    assert said.taken() == []
    answers.answer = "/data/monday"
    for button in (panel.export.save_button, panel.export.load_button):
        qtbot.mouseClick(button, LEFT)
    expected = [("session_save_requested", "/data/monday")]
    assert said.taken() == [*expected, ("session_load_requested", "/data/monday")]
