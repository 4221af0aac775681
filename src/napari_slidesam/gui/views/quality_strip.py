"""The predicted quality of each slice as bars; a click goes to the slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QHelpEvent, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_slidesam.gui.views.colours import ATTENTION, quality_colour, text_colour

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent, QMouseEvent, QPaintEvent

    from napari_slidesam.gui.state import QualityState

_MARGIN = 8
"""Pixels left and right of the bars."""
_WORST_HEIGHT, _PROMPT_HEIGHT = 9, 9
"""Pixels above the bars for the worst slices' marks, below for the prompted slices'."""
_RANGE_STEP = 8
"""The shown range grows by whole steps, so that it does not move with each new slice."""


@dataclass(frozen=True, slots=True)
class StripScale:
    """Slices to pixels: ``first`` to ``stop`` (half-open) over ``width`` from ``left``."""

    first: int
    stop: int
    left: float
    width: float

    @property
    def pitch(self) -> float:
        """Pixels from one slice to the next."""
        return self.width / max(1, self.stop - self.first)

    def centre(self, slice_index: int) -> float:
        """Return the middle of a slice's bar, at the edge for one outside."""
        inside = min(max(slice_index, self.first), self.stop - 1)
        return self.left + (inside - self.first + 0.5) * self.pitch

    def slice_at(self, x: float) -> int:
        """Return the slice at a pixel; beyond the ends the first or the last."""
        index = self.first + int((x - self.left) // self.pitch)
        return min(max(index, self.first), self.stop - 1)


def shown_range(state: QualityState) -> tuple[int, int]:
    """Return the half-open range of slices to show: those of the object, and some beyond.

    An eighth of the object's length is left on both sides, in whole steps.
    """
    indices = [index for index, _ in state.scores] + list(state.prompted)
    if not indices:
        return 0, max(1, state.n_slices)
    low, high = min(indices), max(indices) + 1
    space = max(3, (high - low) // 8)
    first = (low - space) // _RANGE_STEP * _RANGE_STEP
    stop = -((-high - space) // _RANGE_STEP) * _RANGE_STEP
    return max(0, first), max(1, min(state.n_slices, stop))


class QualityStrip(QWidget):
    """Bars of quality along the selected object's slices.

    The worst slices have a mark above, prompted ones a dot below; a line shows the displayed
    slice. Click, drag, or use the arrow keys; Page Up and Page Down go along the worst slices,
    Home and End to the object's ends.
    """

    slice_requested = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state: QualityState | None = None
        self._scores: dict[int, float] = {}
        self._asked: int | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Quality of slices")
        self._describe()

    def sizeHint(self) -> QSize:
        """Return the strip's size."""
        return QSize(240, 76)

    def minimumSizeHint(self) -> QSize:
        """Return as little width as a narrow dock may give."""
        return QSize(80, 76)

    def set_state(self, state: QualityState | None) -> None:
        """Show an object's slices; None: nothing to show."""
        if state == self._state:
            return
        self._state = state
        self._scores = dict(state.scores) if state is not None else {}
        self._asked = None
        self._describe()
        self.update()

    def scale(self) -> StripScale:
        """Return how slices are laid out now."""
        first, stop = shown_range(self._state) if self._state is not None else (0, 1)
        return StripScale(first, stop, _MARGIN, max(1.0, self.width() - 2.0 * _MARGIN))

    def tip_for(self, slice_index: int) -> str:
        """Return what the tooltip says of a slice."""
        if self._state is None:
            return "Select an object to see the quality of its slices."
        score = self._scores.get(slice_index)
        parts = [f"quality {score:.2f}" if score is not None else "not segmented"]
        if slice_index in self._state.prompted:
            parts.append("prompted")
        if slice_index in self._state.worst:
            parts.append("one of the worst: a box here helps most")
        return f"Slice {slice_index}: {', '.join(parts)}"

    def event(self, event: QEvent | None) -> bool:
        """Answer with the tooltip of the slice under the pointer."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            slice_index = self.scale().slice_at(event.pos().x())
            QToolTip.showText(event.globalPos(), self.tip_for(slice_index), self)
            return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Go to the slice under the pointer."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._asked = None
            self._ask(self.scale().slice_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Go along with the pointer while the button is held."""
        if event is not None and event.buttons() & Qt.MouseButton.LeftButton:
            self._ask(self.scale().slice_at(event.position().x()))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go to another slice by a key."""
        if event is None:
            return
        target = self._target_of(Qt.Key(event.key()))
        if target is None:
            super().keyPressEvent(event)
        else:
            self._ask(target)

    def _target_of(self, key: Qt.Key) -> int | None:
        """Return the slice that a key leads to from the displayed one."""
        state = self._state
        if state is None:
            return None
        first, stop = shown_range(state)
        here = self._here(state, first)
        slices = sorted(self._scores) or [first, stop - 1]
        worst = sorted(state.worst)
        keys = Qt.Key
        if key in (keys.Key_Left, keys.Key_Down):
            return max(0, here - 1)
        if key in (keys.Key_Right, keys.Key_Up):
            return min(state.n_slices - 1, here + 1)
        if key == keys.Key_Home:
            return slices[0]
        if key == keys.Key_End:
            return slices[-1]
        if key == keys.Key_PageDown:
            return next((i for i in worst if i > here), None)
        if key == keys.Key_PageUp:
            return next((i for i in reversed(worst) if i < here), None)
        return None

    def _here(self, state: QualityState, first: int) -> int:
        if self._asked is not None:  # asked for, and not yet displayed
            return self._asked
        return state.current if state.current is not None else first

    def _ask(self, slice_index: int) -> None:
        if self._state is None or slice_index == self._asked:
            return
        self._asked = slice_index
        self.slice_requested.emit(slice_index)

    def _describe(self) -> None:
        state = self._state
        if state is None or not self._scores:
            text = "No slices yet."
        else:
            ends = f"{min(self._scores)} to {max(self._scores)}"
            worst = ", ".join(map(str, state.worst)) or "none"
            text = f"Slices {ends} of {state.n_slices}; the worst: {worst}."
            if state.current is not None:
                text += f" Displayed: {self.tip_for(state.current)}."
        self.setAccessibleDescription(text)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw frame, bars, marks and the line of the displayed slice."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = self.fontMetrics().height()
        bars = QRectF(self.rect()).adjusted(0, _WORST_HEIGHT + 2, 0, -_PROMPT_HEIGHT - line)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(text_colour(self, 0.06))
        painter.drawRoundedRect(bars, 3, 3)
        if self._state is not None:
            scale = self.scale()
            inner = bars.adjusted(0, 2, 0, -1)
            self._draw_bars(painter, scale, inner)
            self._draw_marks(painter, scale, bars, self._state)
            self._draw_current(painter, scale, bars, self._state)
            self._draw_ends(painter, scale)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(text_colour(self, 0.5), 1))
            painter.drawRoundedRect(bars.adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)
        painter.end()

    def _draw_bars(self, painter: QPainter, scale: StripScale, area: QRectF) -> None:
        """Draw a bar per slice; where they are thinner than a pixel, the worst of each pixel."""
        gap = 1.0 if scale.pitch >= 4 else 0.0
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=gap > 0)
        if scale.pitch >= 1:
            bars = [(scale.centre(i) - scale.pitch / 2, v) for i, v in self._scores.items()]
        else:
            columns: dict[int, float] = {}
            for index, score in self._scores.items():
                column = int(scale.centre(index))
                columns[column] = min(score, columns.get(column, 1.0))
            bars = [(float(column), score) for column, score in columns.items()]
        width = max(1.0, scale.pitch - gap)
        for left, score in bars:
            height = max(2.0, min(max(score, 0.0), 1.0) * area.height())
            bar = QRectF(left + gap / 2, area.bottom() - height, width, height)
            painter.fillRect(bar, quality_colour(score))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)

    def _draw_marks(
        self, painter: QPainter, scale: StripScale, bars: QRectF, state: QualityState
    ) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ATTENTION)
        for index in state.worst:
            x, y = scale.centre(index), bars.top() - 2
            corners = [QPointF(x - 4.5, y - 7), QPointF(x + 4.5, y - 7), QPointF(x, y)]
            painter.drawPolygon(QPolygonF(corners))
        painter.setBrush(text_colour(self, 0.85))
        for index in state.prompted:
            painter.drawEllipse(QPointF(scale.centre(index), bars.bottom() + 5), 2.6, 2.6)

    def _draw_current(
        self, painter: QPainter, scale: StripScale, bars: QRectF, state: QualityState
    ) -> None:
        """Draw a line through the displayed slice; at the edge, broken, where it is outside."""
        if state.current is None:
            return
        is_inside = scale.first <= state.current < scale.stop
        x = scale.centre(state.current)
        styles = Qt.PenStyle
        pen = QPen(text_colour(self), 1.5, styles.SolidLine if is_inside else styles.DotLine)
        painter.setPen(pen)
        painter.drawLine(QPointF(x, bars.top() - 3), QPointF(x, bars.bottom() + 2))

    def _draw_ends(self, painter: QPainter, scale: StripScale) -> None:
        """Write the first and the last slice that are shown."""
        font = self.font()
        font.setPointSizeF(max(6.0, font.pointSizeF() * 0.9))
        painter.setFont(font)
        painter.setPen(text_colour(self, 0.6))
        height = self.fontMetrics().height()
        area = QRectF(_MARGIN, self.height() - height, self.width() - 2 * _MARGIN, height)
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft, str(scale.first))
        painter.drawText(area, Qt.AlignmentFlag.AlignRight, str(scale.stop - 1))
