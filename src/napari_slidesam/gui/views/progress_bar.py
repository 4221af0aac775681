"""Run, cancel, and how far the runs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_slidesam.gui.views.colours import quality_colour, text_colour
from napari_slidesam.gui.views.parts import QuietLabel

if TYPE_CHECKING:
    from qtpy.QtGui import QHideEvent, QPaintEvent, QShowEvent

    from napari_slidesam.gui.state import ProgressState

_FRAME_MS = 50
_STEP = 0.02
"""Share of the line that the runner goes on by in a frame."""


class BusyLine(QWidget):
    """A thin line along which something runs: how many slices there will be nobody knows."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._place = 0.0
        self._is_busy = False
        self._timer = QTimer(self)
        self._timer.setInterval(_FRAME_MS)
        self._timer.timeout.connect(self._advance)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def is_busy(self) -> bool:
        """Whether something runs."""
        return self._is_busy

    def sizeHint(self) -> QSize:
        """Return the height of the line."""
        return QSize(60, 4)

    def set_busy(self, is_busy: bool) -> None:
        """Let it run or stand still."""
        if is_busy == self._is_busy:
            return
        self._is_busy = is_busy
        if is_busy and self.isVisible():
            self._timer.start()
        else:
            self._timer.stop()
        self.update()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Run where something runs."""
        super().showEvent(event)
        if self._is_busy:
            self._timer.start()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Stand still while nobody looks."""
        self._timer.stop()
        super().hideEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the line, and the runner where there is one."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(text_colour(self, 0.12))
        area = QRectF(self.rect())
        painter.drawRoundedRect(area, 2, 2)
        if self.is_busy:
            length = area.width() * 0.3
            left = (area.width() + length) * self._place - length
            painter.setBrush(quality_colour(1.0))
            painter.setClipRect(area)
            painter.drawRoundedRect(QRectF(left, 0, length, area.height()), 2, 2)
        painter.end()

    def _advance(self) -> None:
        self._place = (self._place + _STEP) % 1.0
        self.update()


def progress_text(state: ProgressState) -> str:
    """Return the progress in words."""
    queued = f"{state.queued} waiting" if state.queued else ""
    if not state.is_running:
        return queued or "Ready"
    if state.slices == 0:
        return " · ".join(filter(None, ("Starting…", queued)))
    count = f"{state.slices} slice{'s' if state.slices != 1 else ''}"
    speed = f"{state.slices_per_second:.3g}/s" if state.slices_per_second > 0 else ""
    return " · ".join(filter(None, (count, speed, queued)))


class ProgressView(QWidget):
    """Run and Cancel, a line that shows work under way, and slices with their speed."""

    run_requested = Signal()
    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.text = QuietLabel("Ready")
        self.text.setAccessibleName("Progress")
        self.text.setToolTip("Slices of the run under way, its speed, and boxes waiting for it.")
        self.line = BusyLine()
        self.run_button = QPushButton("Run")
        self.run_button.setToolTip(
            "Segment the boxes that wait; without any, the selected object again."
        )
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip(
            "Stop after the slice under way, and forget what waits. What has grown stays."
        )
        self.cancel_button.setEnabled(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.text, 1)
        for button in (self.run_button, self.cancel_button):
            button.setMinimumWidth(64)
            row.addWidget(button)
        layout.addLayout(row)
        layout.addWidget(self.line)
        self.run_button.clicked.connect(lambda: self.run_requested.emit())
        self.cancel_button.clicked.connect(lambda: self.cancel_requested.emit())

    def set_state(self, state: ProgressState) -> None:
        """Show how far the runs are."""
        text = progress_text(state)
        if text != self.text.text():
            self.text.setText(text)
        self.cancel_button.setEnabled(state.is_running or state.queued > 0)
        self.line.set_busy(state.is_running)
