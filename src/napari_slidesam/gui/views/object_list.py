"""The list of objects: name, size, quality, and what can be done to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_slidesam.gui.views.object_cells import ObjectDelegate, row_height
from napari_slidesam.gui.views.object_model import Column, ObjectModel
from napari_slidesam.gui.views.parts import Heading, QuietLabel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent, QMouseEvent

    from napari_slidesam.gui.state import ObjectEntry

_BUTTON_WIDTH, _QUALITY_WIDTH = 25, 46
_LEAST_ROWS, _MOST_ROWS = 3, 7
_BUTTONS = (Column.VISIBLE, Column.ACCEPTED, Column.EDIT, Column.DELETE)


class ObjectTable(QTableView):
    """Rows of objects; cells that are buttons answer to a click, the space bar and Enter."""

    pressed_button = Signal(int, object)
    """Object and column."""
    deleted = Signal(int)

    def __init__(self, model: ObjectModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = model
        self._pressed = QPersistentModelIndex()
        self.setModel(model)
        self.setItemDelegate(ObjectDelegate(self))
        self.setAccessibleName("Objects")
        self.setShowGrid(False)
        self.setMouseTracking(True)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        triggers = QAbstractItemView.EditTrigger
        self.setEditTriggers(triggers.DoubleClicked | triggers.EditKeyPressed)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._lay_out_columns()

    def _lay_out_columns(self) -> None:
        across, down = self.horizontalHeader(), self.verticalHeader()
        if across is not None:
            across.hide()
            across.setMinimumSectionSize(20)
            across.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
            across.setSectionResizeMode(Column.NAME, QHeaderView.ResizeMode.Stretch)
        for column in _BUTTONS:
            self.setColumnWidth(column, _BUTTON_WIDTH)
        self.setColumnWidth(Column.QUALITY, _QUALITY_WIDTH)
        if down is not None:
            down.hide()
            down.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)

    def fit_rows(self) -> None:
        """Be as high as the rows need, from three of them to seven."""
        down = self.verticalHeader()
        height = row_height(self)
        if down is not None and down.defaultSectionSize() != height:
            down.setMinimumSectionSize(height)
            down.setDefaultSectionSize(height)
        shown = min(max(self._model.rowCount(), _LEAST_ROWS), _MOST_ROWS)
        wanted = shown * height + 2 * self.frameWidth()
        if self.height() != wanted or self.minimumHeight() != wanted:
            self.setFixedHeight(wanted)

    def minimumSizeHint(self) -> QSize:
        """Return as little width as a narrow dock may give."""
        return QSize(4 * _BUTTON_WIDTH + _QUALITY_WIDTH + 80, self.minimumHeight())

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Remember the button that is pressed; every other cell selects its row."""
        if event is None:
            return
        index = self.indexAt(event.position().toPoint())
        is_button = index.isValid() and index.column() in _BUTTONS
        self._pressed = QPersistentModelIndex(index if is_button else QModelIndex())
        if not is_button:
            super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Answer to a button that was pressed and released."""
        if event is None:
            return
        pressed, self._pressed = self._pressed, QPersistentModelIndex()
        if not pressed.isValid():
            super().mouseReleaseEvent(event)
            return
        index = self.indexAt(event.position().toPoint())
        is_same = (index.row(), index.column()) == (pressed.row(), pressed.column())
        if is_same and event.button() == Qt.MouseButton.LeftButton:
            self._press(index)

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Take two quick clicks on a button as two."""
        if event is None:
            return
        if self.indexAt(event.position().toPoint()).column() in _BUTTONS:
            self.mousePressEvent(event)
        else:
            super().mouseDoubleClickEvent(event)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Press the current button with space or Enter, delete with Delete."""
        if event is None:
            return
        index, key = self.currentIndex(), event.key()
        keys = Qt.Key
        is_button = index.isValid() and index.column() in _BUTTONS
        if is_button and key in (keys.Key_Space, keys.Key_Return, keys.Key_Enter):
            self._press(index)
        elif index.isValid() and key in (keys.Key_Delete, keys.Key_Backspace):
            self.deleted.emit(self._model.entry(index.row()).object_id)
        else:
            super().keyPressEvent(event)

    def keyboardSearch(self, search: str | None) -> None:
        """Leave letters alone: they are napari's keys."""

    def _press(self, index: QModelIndex) -> None:
        self.pressed_button.emit(self._model.entry(index.row()).object_id, Column(index.column()))


class ObjectListView(QWidget):
    """The table with its title and a menu at the right button."""

    object_selected = Signal(int)
    object_renamed = Signal(int, str)
    object_visibility_changed = Signal(int, bool)
    object_accepted = Signal(int, bool)
    object_edit_requested = Signal(int)
    object_deleted = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ObjectModel(self)
        self.table = ObjectTable(self.model)
        self.count = QuietLabel()
        self.count.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.empty = QuietLabel("Objects appear here as you draw them.", wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._is_setting = False
        self._lay_out()
        self.set_objects((), None)
        selection = self.table.selectionModel()
        if selection is not None:
            selection.currentRowChanged.connect(self._on_row)
        self.model.renamed.connect(self.object_renamed)
        self.table.pressed_button.connect(self._on_button)
        self.table.deleted.connect(self.object_deleted)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.table.customContextMenuRequested.connect(self._show_menu)

    def _lay_out(self) -> None:
        head = QWidget()
        top = QVBoxLayout(self)
        top.setContentsMargins(0, 0, 0, 0)
        top.setSpacing(3)
        line = QHBoxLayout(head)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(Heading("Objects"))
        line.addWidget(self.count, 1)
        top.addWidget(head)
        top.addWidget(self.table)
        inside = QVBoxLayout(self.table)
        inside.addWidget(self.empty)

    def set_objects(self, objects: Sequence[ObjectEntry], selected: int | None) -> None:
        """Show objects; rows are changed in place, and an open editor goes on."""
        self._is_setting = True
        try:
            n_before = self.model.rowCount()
            self.model.set_entries(objects)
            if self.model.rowCount() != n_before or self.table.minimumHeight() == 0:
                self.table.fit_rows()
            self._select(self.model.row_of(selected) if selected is not None else -1)
        finally:
            self._is_setting = False
        self._show_count(objects)

    def _select(self, row: int) -> None:
        index = self.table.currentIndex()
        if row < 0:
            if index.isValid():
                self.table.setCurrentIndex(QModelIndex())
                self.table.clearSelection()
        elif index.row() != row:
            column = index.column() if index.isValid() else Column.NAME
            self.table.setCurrentIndex(self.model.index(row, column))

    def _show_count(self, objects: Sequence[ObjectEntry]) -> None:
        self.empty.setVisible(not objects)
        n_accepted = sum(entry.is_accepted for entry in objects)
        text = f"{len(objects)}" if objects else ""
        if n_accepted:
            text += f", {n_accepted} accepted"
        if text != self.count.text():
            self.count.setText(text)

    def _on_row(self, current: QModelIndex, _: QModelIndex) -> None:
        if current.isValid() and not self._is_setting:
            self.object_selected.emit(self.model.entry(current.row()).object_id)

    def _on_button(self, object_id: int, column: Column) -> None:
        row = self.model.row_of(object_id)
        if row < 0:  # gone while its menu was open
            return
        entry = self.model.entry(row)
        match column:
            case Column.VISIBLE:
                self.object_visibility_changed.emit(object_id, not entry.is_visible)
            case Column.ACCEPTED:
                self.object_accepted.emit(object_id, not entry.is_accepted)
            case Column.EDIT:
                self.object_edit_requested.emit(object_id)
            case Column.DELETE:
                self.object_deleted.emit(object_id)
            case _:
                return

    def menu_for(self, object_id: int) -> QMenu:
        """Return the menu of an object: all that its row's buttons do, in words."""
        entry = self.model.entry(self.model.row_of(object_id))
        titles = {
            Column.EDIT: "Edit again",
            Column.VISIBLE: "Hide" if entry.is_visible else "Show",
            Column.ACCEPTED: "Take acceptance back" if entry.is_accepted else "Accept",
            Column.DELETE: "Delete",
        }
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        rename = menu.addAction("Rename")
        if rename is not None:
            rename.triggered.connect(lambda: self._rename(object_id))
        for column, title in titles.items():
            action = menu.addAction(title)
            if action is not None:
                action.triggered.connect(lambda _=False, c=column: self._on_button(object_id, c))
        return menu

    def _rename(self, object_id: int) -> None:
        row = self.model.row_of(object_id)
        if row >= 0:
            self.table.edit(self.model.index(row, Column.NAME))

    def _show_menu(self, place: QPoint) -> None:
        index = self.table.indexAt(place)
        viewport = self.table.viewport()
        if index.isValid() and viewport is not None:
            menu = self.menu_for(self.model.entry(index.row()).object_id)
            menu.popup(viewport.mapToGlobal(place))
