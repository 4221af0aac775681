"""The adapters at hand: used with a click, exported, imported, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QGridLayout, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_slidesam.gui.views.parts import QuietLabel, choice_box, plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.gui.finetune.state import AdapterRow
    from napari_slidesam.gui.views.dialogs import FileDialogs

ZIP_FILES = "Adapter in one file (*.zip)"
_FOLDERS = "Folder (*)"


def suggested_name(name: str) -> str:
    """Return a file name for an adapter."""
    kept = "".join(c if c.isalnum() or c in " ._-" else "_" for c in name).strip()
    return kept or "adapter"


class AdaptersView(QWidget):
    """A list of adapters, and what can be done with the one that is chosen."""

    use_requested = Signal(str)
    export_requested = Signal(str, str)
    """The adapter's folder, and where to write it."""
    import_requested = Signal(str)
    remove_requested = Signal(str)

    def __init__(self, dialogs: FileDialogs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dialogs = dialogs
        self._rows: tuple[AdapterRow, ...] = ()
        self.box = choice_box("Adapters", "Adapters that were trained or imported here.")
        self.box.setPlaceholderText("None yet")
        self.note = QuietLabel(wrap=True)
        self.use_button = QPushButton("Use")
        self.use_button.setToolTip("Put it on the network of the segment dock; opens that dock.")
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Delete it here. The job that gave it keeps its own copy.")
        self.export_button = self._menu_button(
            "Export", "Write it to a folder or to one file.", self._export_to
        )
        self.import_button = self._menu_button(
            "Import", "Take in an adapter from a folder or a file; it is checked.", self._import_of
        )
        grid = QGridLayout()
        grid.setSpacing(6)
        for i, button in enumerate(
            (self.use_button, self.remove_button, self.export_button, self.import_button)
        ):
            grid.addWidget(button, i // 2, i % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.box)
        layout.addWidget(self.note)
        layout.addLayout(grid)
        self.box.activated.connect(lambda _: self._show_chosen())
        self.use_button.clicked.connect(lambda: self._with_chosen(self.use_requested.emit))
        self.remove_button.clicked.connect(lambda: self._with_chosen(self.remove_requested.emit))
        self._show_chosen()

    @property
    def chosen(self) -> AdapterRow | None:
        """The adapter that is chosen."""
        row = self.box.currentIndex()
        return self._rows[row] if 0 <= row < len(self._rows) else None

    @property
    def summary(self) -> str:
        """A few words on what there is."""
        n = len(self._rows)
        return f"{n} adapter{'s' if n != 1 else ''}" if n else "none yet"

    def set_rows(self, rows: Sequence[AdapterRow], chosen: str | None = None) -> None:
        """Show the adapters; ``chosen`` is the folder of the one to choose."""
        before = self.chosen
        wanted = chosen or (before.folder if before is not None else None)
        self._rows = tuple(rows)
        with QSignalBlocker(self.box):
            self.box.clear()
            self.box.addItems([row.name for row in rows])
            folders = [row.folder for row in rows]
            place = folders.index(wanted) if wanted in folders else len(rows) - 1
            self.box.setCurrentIndex(place)
        self._show_chosen()

    def ask_export(self, folder: str, name: str, *, is_zip: bool) -> None:
        """Ask where to write an adapter, and have it written."""
        title = "Export the adapter"
        suggestion = suggested_name(name) + (".zip" if is_zip else "")
        path = self._dialogs.save_file(self, title, suggestion, ZIP_FILES if is_zip else _FOLDERS)
        if path and is_zip and not path.lower().endswith(".zip"):
            path += ".zip"
        if path:
            self.export_requested.emit(folder, path)

    def _export_to(self, is_zip: bool) -> None:
        chosen = self.chosen
        if chosen is not None:
            self.ask_export(chosen.folder, chosen.name, is_zip=is_zip)

    def _import_of(self, is_zip: bool) -> None:
        title = "Choose an adapter"
        asks = self._dialogs
        path = asks.open_file(self, title, ZIP_FILES) if is_zip else asks.choose_folder(self, title)
        if path:
            self.import_requested.emit(path)

    def _menu_button(self, title: str, tip: str, action: object) -> QPushButton:
        button = QPushButton(title)
        button.setToolTip(tip)
        menu = QMenu(self)
        for name, is_zip in (("One file (.zip)…", True), ("Folder…", False)):
            entry = menu.addAction(name)
            if entry is not None:
                entry.triggered.connect(lambda _=False, z=is_zip: action(z))  # type: ignore[operator]
        button.setMenu(menu)
        return button

    def _with_chosen(self, emit: object) -> None:
        if self.chosen is not None:
            emit(self.chosen.folder)  # type: ignore[operator]

    def _show_chosen(self) -> None:
        chosen = self.chosen
        note = "" if chosen is None else f"for {chosen.model or 'an unknown network'}"
        if chosen is not None and chosen.note:
            note += f" · {chosen.note}"
        self.note.setText(note)
        self.note.setToolTip(plain_tip(chosen.folder) if chosen is not None else "")
        self.note.setVisible(bool(note))
        for button in (self.use_button, self.remove_button, self.export_button):
            button.setEnabled(chosen is not None)
