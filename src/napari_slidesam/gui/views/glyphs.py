"""Small line drawings in the theme's text colour, and the flat button that wears one.

Drawn when they are painted, so they follow a change of theme and any resolution.
"""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QToolButton, QWidget

from napari_slidesam.gui.views.colours import text_colour

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent


class Glyph(enum.Enum):
    """The drawings; each is given as lines in a square of 16 units.

    A line is a text of commands: ``M x y`` moves, ``L x y`` draws on, ``C`` a cubic curve (three
    points), ``O x y r`` a circle, ``D x y r`` a filled one.
    """

    EYE = "M 1.5 8 C 4 3.2 12 3.2 14.5 8 C 12 12.8 4 12.8 1.5 8 D 8 8 2.1"
    EYE_OFF = "M 1.5 8 C 4 3.2 12 3.2 14.5 8 C 12 12.8 4 12.8 1.5 8 M 3 13.5 L 13 2.5"
    CHECK = "M 3 8.5 L 6.5 12 L 13 4.5"
    PENCIL = "M 3 13 L 3.6 10.2 L 11 2.8 L 13.2 5 L 5.8 12.4 L 3 13 M 9.4 4.4 L 11.6 6.6"
    BIN = (
        "M 3 4.5 L 13 4.5 M 6 4.5 L 6.5 2.5 L 9.5 2.5 L 10 4.5 "
        "M 4.2 4.5 L 5 13.5 L 11 13.5 L 11.8 4.5"
    )
    UNDO = "M 6.5 3 L 3 6.5 L 6.5 10 M 3 6.5 L 9.5 6.5 C 14.2 6.5 14.2 13 9.5 13 L 6.5 13"
    REDO = "M 9.5 3 L 13 6.5 L 9.5 10 M 13 6.5 L 6.5 6.5 C 1.8 6.5 1.8 13 6.5 13 L 9.5 13"
    CLOSE = "M 4 4 L 12 12 M 12 4 L 4 12"
    RIGHT = "M 6 3.5 L 10.5 8 L 6 12.5"
    DOWN = "M 3.5 6 L 8 10.5 L 12.5 6"
    INFO = "O 8 8 6 M 8 7.4 L 8 11.2 D 8 4.9 0.6"
    ALERT = "M 8 2.2 L 14.6 13.6 L 1.4 13.6 L 8 2.2 M 8 6.4 L 8 9.8 D 8 11.7 0.6"
    CLOCK = "O 8 8 6 M 8 4.4 L 8 8 L 10.6 9.6"


@functools.cache
def _paths(glyph: Glyph) -> tuple[QPainterPath, QPainterPath]:
    """Return what is stroked and what is filled, in the square of 16 units."""
    stroked, filled = QPainterPath(), QPainterPath()
    words = iter(glyph.value.split())

    def point() -> QPointF:
        return QPointF(float(next(words)), float(next(words)))

    for command in words:
        if command == "M":
            stroked.moveTo(point())
        elif command == "L":
            stroked.lineTo(point())
        elif command == "C":
            stroked.cubicTo(point(), point(), point())
        else:
            target = stroked if command == "O" else filled
            centre, radius = point(), float(next(words))
            target.addEllipse(centre, radius, radius)
    return stroked, filled


def draw_glyph(painter: QPainter, glyph: Glyph, area: QRectF, colour: QColor) -> None:
    """Draw a glyph into the largest square in the middle of an area."""
    side = min(area.width(), area.height())
    stroked, filled = _paths(glyph)
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(area.center().x() - side / 2, area.center().y() - side / 2)
    painter.scale(side / 16, side / 16)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    round_ends = (Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
    painter.setPen(QPen(colour, 1.5, Qt.PenStyle.SolidLine, *round_ends))
    painter.drawPath(stroked)
    painter.fillPath(filled, colour)
    painter.restore()


class GlyphButton(QToolButton):
    """A flat button that shows a glyph in the text's colour.

    Parameters
    ----------
    glyph : Glyph
    tip : str
        Its tooltip and its accessible name.
    parent : QWidget, optional
    """

    def __init__(self, glyph: Glyph, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._glyph = glyph
        self.setAutoRaise(True)
        self.setToolTip(tip)
        self.setAccessibleName(tip)
        self.setFixedSize(QSize(22, 22))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a ground under the pointer, a frame in focus, and the glyph."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        is_hot = self.underMouse() and self.isEnabled()
        if is_hot or self.hasFocus():
            frame = (
                text_colour(self, 0.5) if self.hasFocus() else QColor(Qt.GlobalColor.transparent)
            )
            painter.setPen(frame)
            painter.setBrush(text_colour(self, 0.25 if self.isDown() else 0.12 if is_hot else 0.0))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)
        side = min(self.width(), self.height(), 22) - 8
        area = QRectF(0, 0, side, side)
        area.moveCenter(QRectF(self.rect()).center())
        draw_glyph(painter, self._glyph, area, text_colour(self, 1.0 if is_hot else 0.75))
        painter.end()
