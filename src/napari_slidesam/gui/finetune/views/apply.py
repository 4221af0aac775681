"""Batch apply: the same labels in other volumes, from boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_slidesam.gui.finetune.views.live import ShareLine
from napari_slidesam.gui.views.colours import ATTENTION
from napari_slidesam.gui.views.glyphs import Glyph, GlyphButton
from napari_slidesam.gui.views.image_model import PathChoice
from napari_slidesam.gui.views.parts import QuietLabel, add_row, choice_box, form_layout, plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent

    from napari_slidesam.gui.finetune.state import AdapterRow, ApplyState, TargetRow
    from napari_slidesam.gui.views.dialogs import FileDialogs

BOXES_FILES = "Boxes (*.json *.csv)"
_KEY = Qt.ItemDataRole.UserRole
_MOST_ROWS = 6


class BoxesChoice(PathChoice):
    """A Shapes layer, or a file of boxes."""

    def __init__(self, dialogs: FileDialogs) -> None:
        self._dialogs = dialogs
        tip = (
            "The boxes to start from, the same for all volumes or by their names: a Shapes layer, "
            "or a JSON or CSV file."
        )
        first = ("Choose boxes", "", "A Shapes layer with rectangles, or a file.")
        super().__init__(choice_box("Boxes", tip), first, "File…")

    def ask(self) -> str:
        """Return a file of boxes from the person, or ""."""
        return self._dialogs.open_file(self, "Choose a file of boxes", BOXES_FILES)


class TargetList(QListWidget):
    """Volumes with a tick each; files are dropped on it."""

    dropped = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Volumes")
        self.setAcceptDrops(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return the height of a few lines."""
        rows = min(max(2, self.count()), _MOST_ROWS)
        return QSize(200, rows * (self.fontMetrics().height() + 8) + 8)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files and folders."""
        data = None if event is None else event.mimeData()
        if event is not None and data is not None and data.hasUrls():
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent | None) -> None:
        """Take them anywhere."""
        if event is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Hand on what was dropped."""
        data = None if event is None else event.mimeData()
        if event is None or data is None:
            return
        paths = [url.toLocalFile() for url in data.urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.dropped.emit(paths)


class ApplyView(QWidget):
    """Volumes, boxes, adapter, and how far it is."""

    paths_added = Signal(object)
    target_toggled = Signal(str, bool)
    target_removed = Signal(str)
    run_requested = Signal(str, str, str)
    """Boxes (a layer's name or a path), the adapter's folder, the folder to write to."""
    cancel_requested = Signal()

    def __init__(self, dialogs: FileDialogs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dialogs = dialogs
        self._out = ""
        self.list = TargetList()
        self.list.setToolTip("Open images and files to segment; drop files here.")
        self.files_button = QPushButton("Add files…")
        self.files_button.setToolTip("Add a volume from the disk; a dropped folder adds them all.")
        self.remove_button = GlyphButton(Glyph.CLOSE, "Take the selected file off the list")
        self.boxes = BoxesChoice(dialogs)
        self.adapter_box = choice_box("Adapter", "What is put on the network for this.")
        self.out = QuietLabel()
        self.out_button = QPushButton("Folder…")
        self.out_button.setToolTip("Where labels and summary.csv of files are written.")
        self.run_button = QPushButton("Apply")
        self.run_button.setToolTip("Segment the ticked volumes, one after another.")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop after the slice under way; what is done stays.")
        self.line = ShareLine()
        self.text = QuietLabel(wrap=True)
        self._lay_out()
        self._connect()
        self.set_out("")

    def set_targets(self, rows: Sequence[TargetRow]) -> None:
        """Show the volumes."""
        with QSignalBlocker(self.list):
            while self.list.count() > len(rows):
                self.list.takeItem(self.list.count() - 1)
            while self.list.count() < len(rows):
                self.list.addItem(QListWidgetItem())
            for i, row in enumerate(rows):
                item = self.list.item(i)
                if item is not None:
                    _show_target(item, row)
        self.list.updateGeometry()

    def set_boxes(self, names: Sequence[str]) -> None:
        """Offer Shapes layers."""
        self.boxes.set_names(names)

    def set_adapters(self, rows: Sequence[AdapterRow]) -> None:
        """Offer adapters."""
        chosen = self.adapter_box.currentData()
        with QSignalBlocker(self.adapter_box):
            self.adapter_box.clear()
            self.adapter_box.addItem("None", "")
            for row in rows:
                self.adapter_box.addItem(row.name, row.folder)
            place = self.adapter_box.findData(chosen) if chosen else -1
            self.adapter_box.setCurrentIndex(place if place >= 0 else len(rows))

    def set_out(self, folder: str) -> None:
        """Show where files are written."""
        self._out = folder
        self.out.setText(Path(folder).name if folder else "“segmented”, beside the files")
        self.out.setToolTip(plain_tip(folder))

    def set_state(self, state: ApplyState) -> None:
        """Show how far it is."""
        self.text.setText(state.text)
        self.text.setVisible(bool(state.text))
        self.line.set_share(state.share)
        self.line.setVisible(state.share is not None)
        self.run_button.setEnabled(not state.is_running)
        self.cancel_button.setEnabled(state.is_running)

    def _lay_out(self) -> None:
        files = QHBoxLayout()
        files.setSpacing(6)
        files.addWidget(self.files_button, 1)
        files.addWidget(self.remove_button)
        out = QWidget()
        row = QHBoxLayout(out)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.out, 1)
        row.addWidget(self.out_button)
        form = form_layout()
        add_row(form, "Boxes", self.boxes)
        add_row(form, "Adapter", self.adapter_box)
        add_row(form, "Write to", out)
        buttons = QGridLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.run_button, 0, 0)
        buttons.addWidget(self.cancel_button, 0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.list)
        layout.addLayout(files)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self.line)
        layout.addWidget(self.text)

    def _connect(self) -> None:
        self.list.itemChanged.connect(self._on_item)
        self.list.dropped.connect(self.paths_added)
        self.files_button.clicked.connect(lambda: self._add_file())
        self.remove_button.clicked.connect(lambda: self._remove())
        self.out_button.clicked.connect(lambda: self._choose_out())
        self.run_button.clicked.connect(lambda: self._run())
        self.cancel_button.clicked.connect(lambda: self.cancel_requested.emit())

    def _on_item(self, item: QListWidgetItem) -> None:
        is_chosen = item.checkState() == Qt.CheckState.Checked
        self.target_toggled.emit(str(item.data(_KEY)), is_chosen)

    def _add_file(self) -> None:
        path = self._dialogs.open_file(self, "Choose a volume", "All files (*)")
        if path:
            self.paths_added.emit([path])

    def _remove(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            self.target_removed.emit(str(item.data(_KEY)))

    def _choose_out(self) -> None:
        path = self._dialogs.choose_folder(self, "Choose where labels are written")
        if path:
            self.set_out(path)

    def _run(self) -> None:
        adapter = str(self.adapter_box.currentData() or "")
        self.run_requested.emit(self.boxes.current, adapter, self._out)


def _show_target(item: QListWidgetItem, row: TargetRow) -> None:
    text = row.name + (f": {row.result}" if row.result else "")
    states = Qt.CheckState
    state = states.Checked if row.is_chosen else states.Unchecked
    if (item.data(_KEY), item.text(), item.checkState()) == (row.key, text, state):
        return
    item.setData(_KEY, row.key)
    item.setText(text)
    item.setToolTip(plain_tip(f"{row.key}\n{row.result}" if row.is_on_disk else text))
    item.setCheckState(state)
    item.setForeground(ATTENTION) if row.is_error else item.setData(
        Qt.ItemDataRole.ForegroundRole, None
    )
