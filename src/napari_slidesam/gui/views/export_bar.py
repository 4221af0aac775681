"""Export of labels and of the table, and the session on disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QMenu, QPushButton, QWidget

if TYPE_CHECKING:
    from napari_slidesam.gui.views.dialogs import FileDialogs


@dataclass(frozen=True, slots=True)
class ExportKind:
    """A format: its key, its name, the ending its paths get, and what it keeps."""

    key: str
    title: str
    ending: str
    other_endings: tuple[str, ...]
    tip: str

    @property
    def kinds(self) -> str:
        """What the file dialog shows."""
        patterns = " ".join(f"*{ending}" for ending in (self.ending, *self.other_endings))
        return f"{self.title} ({patterns})"

    def with_ending(self, path: str) -> str:
        """Return a path that has one of the format's endings."""
        endings = (self.ending, *self.other_endings)
        return path if path.lower().endswith(endings) else path + self.ending


EXPORT_KINDS = (
    ExportKind("nifti", "NIfTI", ".nii.gz", (".nii",), "Labels on the image's grid and affine."),
    ExportKind("tiff", "TIFF", ".tif", (".tiff",), "Labels as ImageJ and others read them."),
    ExportKind("ome-zarr", "OME-Zarr", ".ome.zarr", (".zarr",), "Labels in chunks, a folder."),
    ExportKind("csv", "Table of objects (CSV)", ".csv", (), "Voxels, volume and quality of each."),
)


class ExportBar(QWidget):
    """A menu of formats, and buttons to save and resume the session."""

    export_requested = Signal(str, str)
    session_save_requested = Signal(str)
    session_load_requested = Signal(str)

    def __init__(self, dialogs: FileDialogs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dialogs = dialogs
        self._image_name = ""
        self.export_button = QPushButton("Export labels or table")
        self.export_button.setToolTip("Write all objects to a file; you choose format and place.")
        self.menu = QMenu(self)
        self.menu.setToolTipsVisible(True)
        for kind in EXPORT_KINDS:
            action = self.menu.addAction(f"{kind.title}…")
            if action is not None:
                action.setToolTip(kind.tip)
                action.triggered.connect(partial(self._export, kind))
        self.export_button.setMenu(self.menu)
        self.save_button = QPushButton("Save session…")
        self.save_button.setToolTip(
            "Keep objects, boxes, corrections and history in a folder, to go on another day."
        )
        self.load_button = QPushButton("Resume session…")
        self.load_button.setToolTip("Go on with a session from its folder; open its image first.")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.export_button, 0, 0, 1, 2)
        layout.addWidget(self.save_button, 1, 0)
        layout.addWidget(self.load_button, 1, 1)
        self.save_button.clicked.connect(lambda: self._save())
        self.load_button.clicked.connect(lambda: self._load())

    def set_image_name(self, name: str) -> None:
        """Set what suggested file names begin with."""
        self._image_name = name

    def set_has_objects(self, has_objects: bool) -> None:
        """Offer export and saving only where there is something."""
        for button in (self.export_button, self.save_button):
            if button.isEnabled() != has_objects:
                button.setEnabled(has_objects)

    def _suggested(self, ending: str) -> str:
        kept = "".join(c if c.isalnum() or c in " ._-" else "_" for c in self._image_name).strip()
        return f"{kept or 'slide-sam'}{ending}"

    def _export(self, kind: ExportKind, _: bool = False) -> None:
        suffix = "_objects" if kind.key == "csv" else "_labels"
        name = self._suggested(suffix + kind.ending)
        path = self._dialogs.save_file(self, f"Export as {kind.title}", name, kind.kinds)
        if path:
            self.export_requested.emit(kind.key, kind.with_ending(path))

    def _save(self) -> None:
        name = self._suggested("_session")
        path = self._dialogs.save_file(self, "Save the session as a folder", name, "Folders (*)")
        if path:
            self.session_save_requested.emit(path)

    def _load(self) -> None:
        path = self._dialogs.choose_folder(self, "Choose the folder of a session")
        if path:
            self.session_load_requested.emit(path)
