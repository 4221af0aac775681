"""Lines at the bottom of the panel: what went wrong or well, and an offer to resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_slidesam.gui.views.colours import ATTENTION, quality_colour, text_colour
from napari_slidesam.gui.views.glyphs import Glyph, GlyphButton, draw_glyph
from napari_slidesam.gui.views.parts import plain_tip

if TYPE_CHECKING:
    from qtpy.QtGui import QColor, QPaintEvent

    from napari_slidesam.gui.state import RecoveryOffer


class _Sign(QWidget):
    """A glyph that stands at the left of a line."""

    def __init__(self, glyph: Glyph, colour: QColor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._glyph, self._colour = glyph, colour
        self.setFixedSize(QSize(18, 18))

    def set_sign(self, glyph: Glyph, colour: QColor) -> None:
        """Show another glyph."""
        self._glyph, self._colour = glyph, colour
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the glyph."""
        painter = QPainter(self)
        draw_glyph(painter, self._glyph, QRectF(self.rect()).adjusted(1, 1, -1, -1), self._colour)
        painter.end()


class _Card(QWidget):
    """A softly filled area with a coloured edge at its left."""

    def __init__(self, colour: QColor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._edge = colour

    def set_edge(self, colour: QColor) -> None:
        """Set the colour of the edge."""
        self._edge = colour
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw area and edge."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(text_colour(self, 0.08))
        painter.drawRoundedRect(QRectF(self.rect()), 3, 3)
        painter.fillRect(QRectF(0, 0, 3, self.height()), self._edge)
        painter.end()


def _wrapping_label() -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setMinimumWidth(60)
    return label


class MessageLine(_Card):
    """The last message; an error stays until it is closed or another message comes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(quality_colour(1.0), parent)
        self.sign = _Sign(Glyph.INFO, quality_colour(1.0))
        self.label = _wrapping_label()
        self.close_button = GlyphButton(Glyph.CLOSE, "Close this message")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(9, 5, 4, 5)
        layout.setSpacing(6)
        layout.addWidget(self.sign, 0, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self.label, 1)
        layout.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.close_button.clicked.connect(lambda: self.hide())
        self.hide()

    def show_message(self, text: str, is_error: bool) -> None:
        """Show a message; an empty one closes the line."""
        colour = ATTENTION if is_error else quality_colour(1.0)
        self.sign.set_sign(Glyph.ALERT if is_error else Glyph.INFO, colour)
        self.set_edge(colour)
        self.label.setText(text)
        self.label.setAccessibleName(f"Error: {text}" if is_error else text)
        self.setVisible(bool(text))


class RecoveryBar(_Card):
    """An offer to go on with the session that an earlier napari left behind."""

    answered = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(quality_colour(0.7), parent)
        self.label = _wrapping_label()
        self.resume_button = QPushButton("Resume")
        self.resume_button.setToolTip("Go on with that session.")
        self.decline_button = QPushButton("Start anew")
        self.decline_button.setToolTip("Leave that session and begin with no objects.")
        buttons = QHBoxLayout()
        buttons.setSpacing(6)
        buttons.addStretch(1)
        buttons.addWidget(self.decline_button)
        buttons.addWidget(self.resume_button)
        line = QHBoxLayout()
        line.setSpacing(6)
        sign = _Sign(Glyph.CLOCK, quality_colour(0.7))
        line.addWidget(sign, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.label, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(9, 6, 6, 6)
        layout.setSpacing(6)
        layout.addLayout(line)
        layout.addLayout(buttons)
        self.resume_button.clicked.connect(lambda: self._answer(True))
        self.decline_button.clicked.connect(lambda: self._answer(False))
        self.hide()

    def offer(self, offer: RecoveryOffer) -> None:
        """Ask whether to resume."""
        objects = f"{offer.n_objects} object{'s' if offer.n_objects != 1 else ''}"
        self.label.setText(
            f"napari ended before the session of “{offer.image_name}” was saved: {objects}, "
            f"last kept {offer.saved_at}."
        )
        self.label.setToolTip(plain_tip(offer.folder))
        self.show()

    def _answer(self, is_accepted: bool) -> None:
        self.hide()
        self.answered.emit(is_accepted)
