from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QLineEdit

from napari_slidesam.gui.views.object_model import Column, size_text, volume_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from napari_slidesam.gui.state import ObjectEntry
    from napari_slidesam.gui.views.panel import SegmentPanel

    MakeEntry = Callable[..., ObjectEntry]

LEFT = Qt.MouseButton.LeftButton


def _place(panel: SegmentPanel, row: int, column: Column) -> QPoint:
    table = panel.objects.table
    return table.visualRect(table.model().index(row, column)).center()


def _click(qtbot: QtBot, panel: SegmentPanel, row: int, column: Column) -> None:
    qtbot.mouseClick(panel.objects.table.viewport(), LEFT, pos=_place(panel, row, column))


def _double_click(qtbot: QtBot, panel: SegmentPanel, row: int) -> None:
    _click(qtbot, panel, row, Column.NAME)
    place = _place(panel, row, Column.NAME)
    qtbot.mouseDClick(panel.objects.table.viewport(), LEFT, pos=place)


def _names(panel: SegmentPanel) -> list[str]:
    model = panel.objects.model
    return [model.entry(row).name for row in range(model.rowCount())]


def _editor(panel: SegmentPanel) -> QLineEdit | None:
    editors = panel.objects.table.viewport().findChildren(QLineEdit)
    return editors[0] if editors else None


def test_a_click_selects_and_setting_does_not(
    qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry
) -> None:
    objects = [entry(4), entry(7), entry(9)]
    panel.set_objects(objects, 7)
    assert panel.objects.table.currentIndex().row() == 1
    _click(qtbot, panel, 2, Column.NAME)
    _click(qtbot, panel, 2, Column.QUALITY)
    assert said.taken() == [("object_selected", 9)]
    panel.set_objects(objects, None)
    assert not panel.objects.table.selectedIndexes()
    _click(qtbot, panel, 2, Column.NAME)
    assert said.taken() == [("object_selected", 9)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (Column.VISIBLE, ("object_visibility_changed", 7, False)),
        (Column.ACCEPTED, ("object_accepted", 7, True)),
        (Column.EDIT, ("object_edit_requested", 7)),
        (Column.DELETE, ("object_deleted", 7)),
    ],
)
def test_buttons_answer_to_mouse_and_keys(
    qtbot: QtBot,
    panel: SegmentPanel,
    said: Any,
    entry: MakeEntry,
    column: Column,
    expected: tuple[Any, ...],
) -> None:
    panel.set_objects([entry(4), entry(7)], 4)
    _click(qtbot, panel, 1, column)
    assert said.taken() == [expected]  # and the row is not selected
    table = panel.objects.table
    table.setCurrentIndex(table.model().index(1, column))
    said.clear()
    table.setFocus()
    qtbot.keyClick(table, Qt.Key.Key_Space)
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert said.taken() == [expected, expected]


def test_set_toggles_are_taken_back(
    qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry
) -> None:
    panel.set_objects([entry(4, is_visible=False, is_accepted=True)], 4)
    _click(qtbot, panel, 0, Column.VISIBLE)
    _click(qtbot, panel, 0, Column.ACCEPTED)
    expected = [("object_visibility_changed", 4, True), ("object_accepted", 4, False)]
    assert said.taken() == expected


def test_a_press_that_slips_off_a_button_does_nothing(
    qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry
) -> None:
    panel.set_objects([entry(4), entry(7)], 4)
    viewport = panel.objects.table.viewport()
    qtbot.mousePress(viewport, LEFT, pos=_place(panel, 0, Column.DELETE))
    qtbot.mouseRelease(viewport, LEFT, pos=_place(panel, 1, Column.DELETE))
    qtbot.mousePress(viewport, LEFT, pos=_place(panel, 0, Column.DELETE))
    panel.set_objects([entry(7)], 7)  # the object vanishes under the pointer
    qtbot.mouseRelease(viewport, LEFT, pos=_place(panel, 0, Column.DELETE))
    assert said.taken() == []


def test_delete_key_deletes(qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry) -> None:
    panel.set_objects([entry(4), entry(7)], 7)
    qtbot.keyClick(panel.objects.table, Qt.Key.Key_Delete)
    assert said.taken() == [("object_deleted", 7)]


def test_rename_goes_on_while_rows_stream(
    qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry
) -> None:
    panel.set_objects([entry(4), entry(7)], 7)
    _double_click(qtbot, panel, 1)
    editor = _editor(panel)
    assert editor is not None
    assert editor.text() == "nucleus 7"
    editor.selectAll()
    qtbot.keyClicks(editor, "mito")
    for voxels in range(5):  # its own row, a row that comes, one that goes
        panel.set_objects([entry(4), entry(7, voxels=voxels), entry(8)], 7)
        QApplication.processEvents()
    panel.set_objects([entry(7, voxels=9), entry(8)], 7)
    qtbot.keyClicks(editor, "sis")
    assert _editor(panel) is editor
    assert editor.text() == "mitosis"
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: _editor(panel) is None)
    assert said.taken() == [("object_renamed", 7, "mitosis")]
    assert _names(panel)[0] == "nucleus 7"  # until the controller says so


@pytest.mark.parametrize("typed", ["", "   ", "nucleus 4"])
def test_an_empty_or_equal_name_is_none(
    qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry, typed: str
) -> None:
    panel.set_objects([entry(4)], 4)
    _double_click(qtbot, panel, 0)
    editor = _editor(panel)
    assert editor is not None
    editor.setText(typed)
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: _editor(panel) is None)
    assert said.taken() == []


def test_rows_change_in_place(panel: SegmentPanel, said: Any, entry: MakeEntry) -> None:
    model = panel.objects.model
    panel.set_objects([entry(i) for i in range(1, 31)], 25)
    table = panel.objects.table
    bar = table.verticalScrollBar()
    bar.setValue(bar.maximum() // 2)
    before, changed, resets = bar.value(), [], []
    model.dataChanged.connect(lambda first, last: changed.append((first.row(), last.row())))
    model.modelReset.connect(lambda: resets.append(1))
    panel.set_objects([entry(i, voxels=5 if i == 12 else 1000 * i) for i in range(1, 31)], 25)
    assert changed == [(11, 11)]
    assert not resets
    assert bar.value() == before
    assert table.currentIndex().row() == 24
    # Deleted, new and reordered rows keep the selection on its object.
    panel.set_objects([entry(25), entry(3), entry(40), entry(1)], 25)
    assert [model.entry(r).object_id for r in range(4)] == [25, 3, 40, 1]
    assert table.currentIndex().row() == 0
    assert not resets
    assert said == []


def test_letters_are_left_to_napari(
    qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry
) -> None:
    panel.set_objects([entry(4, name="apple"), entry(7, name="nucleus")], 4)
    qtbot.keyClicks(panel.objects.table, "n")
    assert panel.objects.table.currentIndex().row() == 0
    assert said == []


def test_menu_of_a_row(qtbot: QtBot, panel: SegmentPanel, said: Any, entry: MakeEntry) -> None:
    panel.set_objects([entry(4)], 4)
    menu = panel.objects.menu_for(4)
    actions = {action.text(): action for action in menu.actions()}
    assert list(actions) == ["Rename", "Edit again", "Hide", "Accept", "Delete"]
    for name in ("Edit again", "Hide", "Accept", "Delete"):
        actions[name].trigger()
    assert [name for name, *_ in said.taken()] == [
        "object_edit_requested",
        "object_visibility_changed",
        "object_accepted",
        "object_deleted",
    ]
    panel.set_objects([], None)
    actions["Delete"].trigger()  # gone meanwhile
    assert said.taken() == []
    menu.deleteLater()


def test_count_and_empty_text(panel: SegmentPanel, entry: MakeEntry) -> None:
    assert panel.objects.empty.isVisible()
    panel.set_objects([entry(1), entry(2, is_accepted=True)], 1)
    assert not panel.objects.empty.isVisible()
    assert panel.objects.count.text() == "2, 1 accepted"


@pytest.mark.parametrize(
    ("volume", "unit", "text"),
    [
        (0.01234, "mm", "0.0123 mm³"),
        (241.96, "um", "242 µm³"),
        (1234567.0, "micrometer", "1,234,567 µm³"),
        (4.2e10, "um", "4.20\N{MULTIPLICATION SIGN}10¹⁰ µm³"),
        (12.0, "µm³", "12 µm³"),
        (1000.0, "pixel", ""),
    ],
)
def test_volumes_in_words(volume: float, unit: str, text: str) -> None:
    assert volume_text(volume, unit) == text


def test_sizes_in_words(entry: MakeEntry) -> None:
    assert size_text(entry(1, voxels=0)) == "empty"
    assert size_text(entry(1, voxels=0, is_running=True)) == "growing…"
    assert size_text(entry(1, voxels=1, unit="pixel")) == "1 voxel"
    assert size_text(entry(2)) == "40 µm³ · 2,000 voxels"


def test_cells_speak(panel: SegmentPanel, entry: MakeEntry) -> None:
    panel.set_objects([entry(3, name="<i>x"), entry(4, quality=None)], None)
    model, roles = panel.objects.model, Qt.ItemDataRole
    for row in range(2):
        for column in Column:
            index = model.index(row, column)
            assert index.data(roles.ToolTipRole)
            assert index.data(roles.AccessibleTextRole)
    assert "&lt;i&gt;x" in model.index(0, Column.NAME).data(roles.ToolTipRole)
