"""Undo and redo of whole operations, several levels at once from their menus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QHBoxLayout, QMenu, QToolButton, QWidget

from napari_slidesam.gui.views.glyphs import Glyph, GlyphButton
from napari_slidesam.gui.views.parts import QuietLabel, plain_tip, shown_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.gui.state import HistoryState

_MOST_LEVELS = 20


class LevelsButton(QWidget):
    """A button for one level, and an arrow beside it with a menu of several."""

    requested = Signal(int)

    def __init__(self, verb: str, glyph: Glyph, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._verb = verb
        self._names: tuple[str, ...] = ()
        self.button = GlyphButton(glyph, f"Nothing to {verb.lower()}")
        self.button.setFixedSize(QSize(28, 26))
        self.arrow = GlyphButton(Glyph.DOWN, f"{verb} several operations")
        self.arrow.setFixedSize(QSize(18, 26))
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.arrow.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.arrow.setMenu(self.menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.button)
        layout.addWidget(self.arrow)
        self.button.clicked.connect(lambda: self.requested.emit(1))
        self._show()

    @property
    def names(self) -> tuple[str, ...]:
        """The operations, the next one first."""
        return self._names

    def set_names(self, names: Sequence[str]) -> None:
        """Set the operations, the next one first."""
        if tuple(names) != self._names:
            self._names = tuple(names)
            self._show()

    def _show(self) -> None:
        verb = self._verb
        tip = f"{verb} “{self._names[0]}”" if self._names else f"Nothing to {verb.lower()}"
        self.button.setToolTip(plain_tip(tip))
        self.button.setAccessibleName(tip)
        self.button.setEnabled(bool(self._names))
        self.arrow.setEnabled(len(self._names) > 1)

    def _fill_menu(self) -> None:
        """Make the entries only when they are looked at: the names change with each operation."""
        self.menu.clear()
        for level, name in enumerate(self._names[:_MOST_LEVELS], 1):
            prefix = f"{self._verb} " if level == 1 else f"{self._verb} {level}, back to before "
            if self._verb == "Redo" and level > 1:
                prefix = f"{self._verb} {level}, up to "
            action = QAction(shown_text(f"{prefix}“{name}”"), self.menu)
            action.triggered.connect(lambda _=False, n=level: self.requested.emit(n))
            self.menu.addAction(action)


class HistoryBar(QWidget):
    """Undo, redo, and the name of what would be undone next.

    An entry deeper in a menu asks as many times as it has levels.
    """

    undo_requested = Signal()
    redo_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.undo = LevelsButton("Undo", Glyph.UNDO)
        self.redo = LevelsButton("Redo", Glyph.REDO)
        self.last = QuietLabel()
        self.last.setToolTip("The last operation: what Undo takes back.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.undo)
        layout.addWidget(self.redo)
        layout.addWidget(self.last, 1)
        self.undo.requested.connect(self._undo)
        self.redo.requested.connect(self._redo)

    def set_state(self, state: HistoryState) -> None:
        """Show what can be undone and redone."""
        self.undo.set_names(state.undo_names)
        self.redo.set_names(state.redo_names)
        self.last.setText(state.undo_names[0] if state.undo_names else "")

    def _undo(self, n_levels: int) -> None:
        for _ in range(n_levels):
            self.undo_requested.emit()

    def _redo(self, n_levels: int) -> None:
        for _ in range(n_levels):
            self.redo_requested.emit()
