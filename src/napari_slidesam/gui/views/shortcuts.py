"""The keys that the plugin listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from napari_slidesam.gui.views.colours import text_colour
from napari_slidesam.gui.views.parts import QuietLabel, draw_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QPaintEvent


class KeyCap(QLabel):
    """A key as it is printed on a keyboard."""

    def __init__(self, key: str, parent: QWidget | None = None) -> None:
        super().__init__(key, parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return the size of the text and its frame."""
        metrics = self.fontMetrics()
        return QSize(metrics.horizontalAdvance(self.text()) + 14, metrics.height() + 6)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw frame and key."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.setBrush(text_colour(self, 0.08))
        painter.setPen(text_colour(self, 0.3))
        painter.drawRoundedRect(area, 3, 3)
        painter.setPen(text_colour(self))
        draw_text(painter, area, self.text(), Qt.AlignmentFlag.AlignHCenter)
        painter.end()


class ShortcutsView(QWidget):
    """Keys and what they do, one a line."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[tuple[str, str], ...] = ()
        self._layout = QGridLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setHorizontalSpacing(10)
        self._layout.setVerticalSpacing(4)
        self._layout.setColumnStretch(1, 1)

    def set_shortcuts(self, shortcuts: Sequence[tuple[str, str]]) -> None:
        """Show pairs of key and meaning."""
        if tuple(shortcuts) == self._shown:
            return
        self._shown = tuple(shortcuts)
        while (item := self._layout.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        for row, (key, meaning) in enumerate(self._shown):
            self._layout.addWidget(KeyCap(key), row, 0)
            self._layout.addWidget(QuietLabel(meaning, wrap=True), row, 1)
