"""What is trained on: pairs of layers, and folders or files that are dropped or chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_slidesam.gui.views.colours import ATTENTION, text_colour
from napari_slidesam.gui.views.glyphs import Glyph, GlyphButton
from napari_slidesam.gui.views.parts import Heading, QuietLabel, choice_box, plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QPaintEvent

    from napari_slidesam.gui.finetune.state import PairRow
    from napari_slidesam.gui.views.dialogs import FileDialogs

_EMPTY = "Add an image layer with its labels, or drop a folder or a CSV file of pairs here."


class _NoteLabel(QuietLabel):
    """A line below a pair; in the colour of attention where something is wrong."""

    def set_note(self, text: str, is_wrong: bool) -> None:
        """Show a note."""
        self.setText(text)
        self.setToolTip(plain_tip(text))
        self.setStyleSheet(f"color: {ATTENTION.name()};" if is_wrong else "")
        self.setVisible(bool(text))


class _PairLine(QWidget):
    """One pair: two boxes of layers, or a path; a note; a button that takes it away."""

    changed = Signal(str, str)
    removed = Signal()

    def __init__(self, row: PairRow) -> None:
        super().__init__()
        self.is_on_disk = row.is_on_disk
        self.image_box = choice_box("Image", "The image layer.")
        self.labels_box = choice_box("Labels", "The labels layer of that image, on its grid.")
        self.path = QuietLabel(parent=self)
        self.note = _NoteLabel(wrap=True)
        self.remove_button = GlyphButton(Glyph.CLOSE, "Take this out; layers and files stay")
        line = QHBoxLayout()
        line.setSpacing(6)
        for widget in (self.path, self.image_box, self.labels_box):
            line.addWidget(widget, 1)
            if (widget is self.path) != row.is_on_disk:
                widget.hide()
        line.addWidget(self.remove_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addLayout(line)
        layout.addWidget(self.note)
        for box in (self.image_box, self.labels_box):
            box.activated.connect(lambda _: self._on_chosen())
        self.remove_button.clicked.connect(lambda: self.removed.emit())

    def set_row(self, row: PairRow, images: Sequence[str], labels: Sequence[str]) -> None:
        """Show a pair, and which layers there are."""
        if row.is_on_disk:
            self.path.setText(row.image)
            self.path.setToolTip(plain_tip(row.image))
        else:
            _fill(self.image_box, images, row.image, "No image")
            _fill(self.labels_box, labels, row.labels, "No labels")
        self.note.set_note(row.note, row.is_wrong)

    def _on_chosen(self) -> None:
        self.changed.emit(self.image_box.currentText(), self.labels_box.currentText())


def _fill(box: QComboBox, names: Sequence[str], current: str, nothing: str) -> None:
    with QSignalBlocker(box):
        if [box.itemText(i) for i in range(box.count())] != [*names]:
            box.clear()
            box.addItems([*names])
        box.setPlaceholderText(nothing)
        box.setCurrentIndex([*names].index(current) if current in names else -1)


class PairsView(QWidget):
    """The table of pairs; folders and files are dropped on it."""

    pair_added = Signal()
    pair_changed = Signal(int, str, str)
    pair_removed = Signal(int)
    paths_added = Signal(object)
    """A list of paths."""

    def __init__(self, dialogs: FileDialogs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dialogs = dialogs
        self._lines: dict[int, _PairLine] = {}
        self._is_over = False
        self.setAcceptDrops(True)
        self.heading = Heading("Images and labels")
        self.empty = QuietLabel(_EMPTY, wrap=True)
        self.add_button = QPushButton("Add layers")
        self.add_button.setToolTip("Add an image layer with its labels layer.")
        self.folder_button = QPushButton("Add folder…")
        self.folder_button.setToolTip(
            "Add volumes from the disk: a folder with imagesTr and labelsTr (nnU-Net), or with "
            "images and labels. It can be dropped here too."
        )
        self._column = QVBoxLayout()
        self._column.setSpacing(5)
        buttons = QGridLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.add_button, 0, 0)
        buttons.addWidget(self.folder_button, 0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.heading)
        layout.addWidget(self.empty)
        layout.addLayout(self._column)
        layout.addLayout(buttons)
        self.add_button.clicked.connect(lambda: self.pair_added.emit())
        self.folder_button.clicked.connect(lambda: self._choose_folder())

    @property
    def lines(self) -> tuple[_PairLine, ...]:
        """The pairs that are shown."""
        return tuple(self._lines.values())

    def set_rows(
        self, rows: Sequence[PairRow], images: Sequence[str], labels: Sequence[str]
    ) -> None:
        """Show the pairs, and which layers there are to choose from."""
        keys = [row.key for row in rows]
        for key in [key for key in self._lines if key not in keys]:
            line = self._lines.pop(key)
            self._column.removeWidget(line)
            line.hide()
            line.deleteLater()
        for row in rows:
            if row.key not in self._lines:
                self._lines[row.key] = self._new_line(row)
            self._lines[row.key].set_row(row, images, labels)
        self.empty.setVisible(not rows)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take folders and files."""
        data = None if event is None else event.mimeData()
        if event is None or data is None or not data.hasUrls():
            return
        self._set_over(True)
        event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent | None) -> None:
        """Stand as before."""
        self._set_over(False)

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Add what was dropped."""
        self._set_over(False)
        data = None if event is None else event.mimeData()
        if event is None or data is None:
            return
        paths = [url.toLocalFile() for url in data.urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.paths_added.emit(paths)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a ground while something is held over it."""
        if self._is_over:
            painter = QPainter(self)
            painter.fillRect(self.rect(), text_colour(self, 0.1))
            painter.end()

    def _new_line(self, row: PairRow) -> _PairLine:
        line = _PairLine(row)
        key = row.key
        line.changed.connect(lambda image, labels: self.pair_changed.emit(key, image, labels))
        line.removed.connect(lambda: self.pair_removed.emit(key))
        self._column.addWidget(line)
        return line

    def _set_over(self, is_over: bool) -> None:
        self._is_over = is_over
        self.update()

    def _choose_folder(self) -> None:
        path = self._dialogs.choose_folder(self, "Choose a folder of images and labels")
        if path:
            self.paths_added.emit([path])
