"""Questions for a file or a folder; beginning where the last answer was."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget


class FileDialogs:
    """Asks for paths; every answer is "" where the person changed their mind.

    Parameters
    ----------
    folder : str
        Where the first question begins.
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder

    def open_file(self, parent: QWidget, title: str, kinds: str) -> str:
        """Ask for a file that exists."""
        path, _ = QFileDialog.getOpenFileName(parent, title, self._folder, kinds)
        return self._remembered(path)

    def save_file(self, parent: QWidget, title: str, name: str, kinds: str) -> str:
        """Ask for a file, or a folder, to write; ``name`` is the suggestion."""
        start = str(Path(self._folder) / name)
        path, _ = QFileDialog.getSaveFileName(parent, title, start, kinds)
        return self._remembered(path)

    def choose_folder(self, parent: QWidget, title: str) -> str:
        """Ask for a folder that exists."""
        return self._remembered(QFileDialog.getExistingDirectory(parent, title, self._folder))

    def _remembered(self, path: str) -> str:
        if path:
            self._folder = str(Path(path).parent)
        return path
