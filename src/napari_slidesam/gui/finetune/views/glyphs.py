"""Line drawings of the queue's buttons, in the way of the segment dock's."""

from __future__ import annotations

import enum

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QToolButton, QWidget

from napari_slidesam.gui.views.colours import text_colour


class JobGlyph(enum.Enum):
    """The drawings: lines of points in a square of 16 units; True where a line is filled."""

    START = (((4.5, 3), (12.5, 8), (4.5, 13), (4.5, 3)), True)
    PAUSE = (((5, 3.5), (5, 12.5)), ((11, 3.5), (11, 12.5)), False)
    STOP = (((4, 4), (12, 4), (12, 12), (4, 12), (4, 4)), True)
    LOOK = (
        ((3, 4), (4.5, 5.5), (7, 2.5)),
        ((9.5, 4), (14, 4)),
        ((3, 10.5), (4.5, 12), (7, 9)),
        ((9.5, 10.5), (14, 10.5)),
        False,
    )
    UP = (((3.5, 8), (8, 3.5), (12.5, 8)), ((8, 3.5), (8, 13)), False)
    DOWN = (((3.5, 8), (8, 12.5), (12.5, 8)), ((8, 12.5), (8, 3)), False)
    COPY = (
        ((5.5, 5.5), (13, 5.5), (13, 13.5), (5.5, 13.5), (5.5, 5.5)),
        ((10, 5.5), (10, 2.5), (2.5, 2.5), (2.5, 10.5), (5.5, 10.5)),
        False,
    )
    BIN = (
        ((3, 4.5), (13, 4.5)),
        ((6, 4.5), (6.5, 2.5), (9.5, 2.5), (10, 4.5)),
        ((4.2, 4.5), (5, 13.5), (11, 13.5), (11.8, 4.5)),
        False,
    )

    @property
    def lines(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """What is drawn."""
        lines: tuple[tuple[tuple[float, float], ...], ...] = self.value[:-1]
        return lines

    @property
    def is_filled(self) -> bool:
        """Whether it is filled."""
        return bool(self.value[-1])


class JobGlyphButton(QToolButton):
    """A flat button that shows a glyph in the text's colour.

    Parameters
    ----------
    glyph : JobGlyph
    tip : str
        Its tooltip and its accessible name.
    parent : QWidget, optional
    """

    def __init__(self, glyph: JobGlyph, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._glyph = glyph
        self.setAutoRaise(True)
        self.setToolTip(tip)
        self.setAccessibleName(tip)
        self.setFixedSize(QSize(26, 24))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a ground under the pointer, a frame in focus, and the glyph."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        is_hot = self.underMouse() and self.isEnabled()
        if is_hot or self.hasFocus():
            clear = QColor(Qt.GlobalColor.transparent)
            painter.setPen(text_colour(self, 0.5) if self.hasFocus() else clear)
            painter.setBrush(text_colour(self, 0.25 if self.isDown() else 0.12 if is_hot else 0.0))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)
        painter.translate(self.width() / 2 - 7, self.height() / 2 - 7)
        painter.scale(14 / 16, 14 / 16)
        colour = text_colour(self, 1.0 if is_hot else 0.75)
        ends = (Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
        painter.setPen(QPen(colour, 1.6, Qt.PenStyle.SolidLine, *ends))
        painter.setBrush(colour if self._glyph.is_filled else Qt.BrushStyle.NoBrush)
        for line in self._glyph.lines:
            points = QPolygonF([QPointF(x, y) for x, y in line])
            if self._glyph.is_filled:
                painter.drawPolygon(points)
            else:
                painter.drawPolyline(points)
        painter.end()
