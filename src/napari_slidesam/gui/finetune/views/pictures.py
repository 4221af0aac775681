"""Pictures that were drawn elsewhere: the curves, and a slice before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QImage, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_slidesam.gui.finetune.curves import CurvesLook
from napari_slidesam.gui.views.colours import text_colour
from napari_slidesam.gui.views.parts import draw_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qtpy.QtGui import QHideEvent, QPaintEvent, QResizeEvent, QShowEvent

    from napari_slidesam.gui.finetune.state import PreviewState

_CURVES_HEIGHT = 210
_SETTLE_MS = 120
"""A dock that is dragged wider asks for one picture, not for hundred."""

_GAP = 6.0


def _image(picture: NDArray[np.uint8]) -> QImage:
    """Return a picture of shape (H, W, 3) or (H, W, 4) with pixels of its own."""
    height, width, channels = picture.shape
    formats = QImage.Format
    kind = formats.Format_RGBA8888 if channels == 4 else formats.Format_RGB888
    return QImage(picture.tobytes(), width, height, channels * width, kind).copy()


class CurvesView(QWidget):
    """Shows the curves; asks for another picture where size or theme have changed.

    ``look_changed`` carries the `CurvesLook` that fits.
    """

    look_changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._picture: QImage | None = None
        self._look: CurvesLook | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Curves")
        self.setToolTip(
            "Above, the loss of each step and its running mean. Below, Dice on what is held out; "
            "the broken line is the network before."
        )
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLE_MS)
        self._timer.timeout.connect(lambda: self._ask())

    def sizeHint(self) -> QSize:
        """Return the height of two small plots."""
        return QSize(200, _CURVES_HEIGHT)

    @property
    def look(self) -> CurvesLook:
        """What a picture has to be like now."""
        ratio = self.devicePixelRatioF()
        colour = text_colour(self)
        points = self.font().pointSizeF()
        return CurvesLook(
            max(64, round(self.width() * ratio)),
            max(64, round(self.height() * ratio)),
            ratio,
            (colour.redF(), colour.greenF(), colour.blueF()),
            max(6.0, min(9.0, (points if points > 0 else 9.0) - 2)),
        )

    def set_picture(self, picture: NDArray[np.uint8] | None) -> None:
        """Show a picture, or nothing."""
        self._picture = None if picture is None else _image(picture)
        self.update()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Ask for a picture of the new size."""
        super().resizeEvent(event)
        self._timer.start()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Ask for a picture that fits."""
        super().showEvent(event)
        self._timer.start()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Ask for nothing while nobody looks."""
        self._timer.stop()
        super().hideEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the picture; one of another size is stretched until the next comes."""
        if self._look is not None and self.look != self._look:
            self._timer.start()  # another theme
        if self._picture is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QRectF(self.rect()), self._picture)
        painter.end()

    def _ask(self) -> None:
        self._look = self.look
        self.look_changed.emit(self._look)


class PreviewView(QWidget):
    """The same slice before and after, side by side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pictures: tuple[QImage, ...] = ()
        self._title = ""
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setAccessibleName("Preview")
        self.setToolTip(
            "A slice that is held out, segmented by the network before and after: the mask in "
            "yellow, the label's outline in blue. It is refreshed with each validation."
        )

    @property
    def title(self) -> str:
        """Which slice it is."""
        return self._title

    def set_state(self, state: PreviewState | None) -> None:
        """Show another slice, or nothing."""
        self._pictures = () if state is None else (_image(state.before), _image(state.after))
        self._title = "" if state is None else state.title
        self.setAccessibleDescription(self._title)
        self.setVisible(state is not None)
        self.updateGeometry()
        self.update()

    def hasHeightForWidth(self) -> bool:
        """Return whether the height follows the width: that of the slice does."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Return the height of two pictures side by side and a line above and below."""
        lines = 2 * (self.fontMetrics().height() + 4)
        if not self._pictures:
            return lines
        picture = self._pictures[0]
        side = (width - _GAP) / 2
        return round(min(side * picture.height() / max(1, picture.width()), 1.5 * side)) + lines

    def sizeHint(self) -> QSize:
        """Return a size that goes with the width at hand."""
        width = max(200, self.width())
        return QSize(width, self.heightForWidth(width))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw both pictures under their titles."""
        if not self._pictures:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        line = self.fontMetrics().height() + 4.0
        side = (self.width() - _GAP) / 2
        painter.setPen(text_colour(self, 0.7))
        for i, (name, picture) in enumerate(zip(("before", "after"), self._pictures, strict=True)):
            left = i * (side + _GAP)
            draw_text(painter, QRectF(left, 0, side, line), name)
            area = QRectF(left, line, side, self.height() - 2 * line)
            painter.drawImage(_fitted(picture, area), picture)
        below = QRectF(0, self.height() - line, self.width(), line)
        draw_text(painter, below, self._title, Qt.AlignmentFlag.AlignLeft)
        painter.end()


def _fitted(picture: QImage, area: QRectF) -> QRectF:
    """Return the largest place of a picture in an area."""
    scale = min(area.width() / picture.width(), area.height() / picture.height())
    place = QRectF(0, 0, picture.width() * scale, picture.height() * scale)
    place.moveCenter(area.center())
    place.moveTop(area.top())
    return place
