"""Small parts that several sections of the panel are made of."""

from __future__ import annotations

import html
import itertools
from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import QEvent, QObject, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QFont, QPainter, QTextOption
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLayout,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_slidesam.gui.views.colours import text_colour
from napari_slidesam.gui.views.glyphs import Glyph, draw_glyph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qtpy.QtGui import QPaintEvent


SpinBox = TypeVar("SpinBox", QSpinBox, QDoubleSpinBox)


def plain_tip(text: str) -> str:
    """Return a tooltip that shows the text as it is, whatever brackets are in it."""
    return f"<qt>{html.escape(text)}</qt>" if "<" in text else text


def shown_text(text: str) -> str:
    """Return a text for buttons and menus, in which an ampersand stays one."""
    return text.replace("&", "&&")


def draw_text(
    painter: QPainter,
    area: QRectF,
    text: str,
    alignment: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignLeft,
    *,
    wrap: bool = False,
) -> None:
    """Draw text with the painter's pen and font, in the middle of the area's height.

    Without ``wrap`` it is cut with an ellipsis where there is no room.
    """
    option = QTextOption(alignment | Qt.AlignmentFlag.AlignVCenter)
    modes = QTextOption.WrapMode
    option.setWrapMode(modes.WordWrap if wrap else modes.NoWrap)
    if not wrap:
        elide = Qt.TextElideMode.ElideRight
        text = painter.fontMetrics().elidedText(text, elide, max(0, int(area.width())))
    painter.drawText(area, text, option)


def _in_layout_order(item: QWidget | QLayout) -> Iterator[QWidget]:
    """Yield the widgets that the Tab key reaches, as they are laid out."""
    layout = item.layout() if isinstance(item, QWidget) else item
    if isinstance(item, QWidget) and item.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield item
    elif layout is not None:
        children = (layout.itemAt(i) for i in range(layout.count()))
        for child in children:
            if child is None:
                continue
            widget, inner = child.widget(), child.layout()
            if widget is not None:  # an empty combo box is false
                yield from _in_layout_order(widget)
            elif inner is not None:
                yield from _in_layout_order(inner)


def chain_focus(widgets: Sequence[QWidget]) -> None:
    """Make the Tab key go through widgets as they are laid out, not as they were made."""
    reached = [inner for widget in widgets for inner in _in_layout_order(widget)]
    for before, after in itertools.pairwise(reached):
        QWidget.setTabOrder(before, after)


class _WheelGuard(QObject):
    """Keeps the wheel for the panel's scrolling: a closed box changes only when it has focus."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Refuse wheel events of widgets without focus."""
        if event is None or event.type() != QEvent.Type.Wheel or not isinstance(watched, QWidget):
            return False
        if watched.hasFocus():
            return False
        event.ignore()
        return True


def guard_wheel(widget: QComboBox | QAbstractSpinBox) -> None:
    """Let the wheel scroll the panel, not the widget under the pointer."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_WheelGuard(widget))


def choice_box(name: str, tip: str) -> QComboBox:
    """Return a combo box that shrinks with a narrow dock."""
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.setAccessibleName(name)
    box.setToolTip(tip)
    guard_wheel(box)
    return box


def number_box(box: SpinBox, name: str, tip: str) -> SpinBox:
    """Return a spin box with its name and tooltip, quiet while it is typed into."""
    box.setAccessibleName(name)
    box.setToolTip(tip)
    box.setKeyboardTracking(False)
    box.setCorrectionMode(QAbstractSpinBox.CorrectionMode.CorrectToNearestValue)
    guard_wheel(box)
    return box


def form_layout(parent: QWidget | None = None) -> QFormLayout:
    """Return a form whose fields take what is left of the width."""
    form = QFormLayout(parent)
    form.setContentsMargins(0, 0, 0, 0)
    form.setHorizontalSpacing(8)
    form.setVerticalSpacing(5)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    return form


class Heading(QLabel):
    """The title of a part of the panel that is always open."""

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setIndent(0)
        font = self.font()
        font.setWeight(QFont.Weight.DemiBold)
        self.setFont(font)


def add_row(form: QFormLayout, title: str, field: QWidget) -> None:
    """Add a field with its title, flush with everything above and below."""
    label = QLabel(title)
    label.setIndent(0)
    label.setBuddy(field)
    form.addRow(label, field)


class ChipButton(QToolButton):
    """A small button with a text on a faint ground."""

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(tip)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return the size of the text and some air."""
        metrics = self.fontMetrics()
        return QSize(metrics.horizontalAdvance(self.text()) + 14, metrics.height() + 4)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw ground and text."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        strong = self.underMouse() or self.hasFocus()
        area = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.setPen(text_colour(self, 0.5) if self.hasFocus() else Qt.PenStyle.NoPen)
        painter.setBrush(text_colour(self, 0.3 if self.isDown() else 0.2 if strong else 0.12))
        painter.drawRoundedRect(area, 3, 3)
        painter.setPen(text_colour(self))
        draw_text(painter, area, self.text(), Qt.AlignmentFlag.AlignHCenter)
        painter.end()


class QuietLabel(QLabel):
    """A line of secondary text: fainter, cut with an ellipsis where there is no room.

    Parameters
    ----------
    text : str
    wrap : bool
        Go on in a new line instead of being cut.
    parent : QWidget, optional
    """

    def __init__(
        self, text: str = "", *, wrap: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(text, parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(wrap)
        policy = QSizePolicy.Policy
        if not wrap:
            self.setSizePolicy(policy.Ignored, policy.Fixed)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the text in the theme's colour, a little see-through."""
        painter = QPainter(self)
        painter.setPen(text_colour(self, 0.7))
        side = self.alignment() & Qt.AlignmentFlag.AlignHorizontal_Mask
        draw_text(painter, QRectF(self.contentsRect()), self.text(), side, wrap=self.wordWrap())
        painter.end()


class _SectionHeader(QToolButton):
    """The line that opens and closes a section: an arrow, the title, and a summary at the right."""

    def __init__(self, title: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setText(title)
        self.setCheckable(True)
        self.setAutoRaise(True)
        self.setAccessibleName(title)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.summary = ""

    def sizeHint(self) -> QSize:
        """Return the height of a line of text and some air."""
        metrics = self.fontMetrics()
        return QSize(metrics.horizontalAdvance(self.text()) + 28, metrics.height() + 10)

    def minimumSizeHint(self) -> QSize:
        """Return as little width as a narrow dock may give."""
        return QSize(60, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a rule above, the arrow, the title and what the closed section is set to."""
        painter = QPainter(self)
        area = self.rect()
        painter.fillRect(0, 0, area.width(), 1, text_colour(self, 0.15))
        if self.underMouse() or self.hasFocus():
            painter.fillRect(area.adjusted(0, 1, 0, 0), text_colour(self, 0.07))
        arrow = Glyph.DOWN if self.isChecked() else Glyph.RIGHT
        draw_glyph(painter, arrow, QRectF(2, area.center().y() - 4, 11, 11), text_colour(self, 0.8))
        title = QRectF(area.adjusted(20, 1, -4, 0))
        painter.setPen(text_colour(self))
        draw_text(painter, title, self.text())
        if self.summary and not self.isChecked():
            used = self.fontMetrics().horizontalAdvance(self.text()) + 14
            painter.setPen(text_colour(self, 0.6))
            rest = title.adjusted(used, 0, 0, 0)
            draw_text(painter, rest, self.summary, Qt.AlignmentFlag.AlignRight)
        painter.end()


class Section(QWidget):
    """A part of the panel that opens and closes at a click or with the space bar.

    Parameters
    ----------
    title : str
    content : QWidget
    tip : str
        Tooltip of the title.
    parent : QWidget, optional
    """

    toggled = Signal(bool)

    def __init__(
        self, title: str, content: QWidget, tip: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.content = content
        self.header = _SectionHeader(title, self)
        self.header.setToolTip(tip)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.header)
        layout.addWidget(content)
        content.setContentsMargins(4, 6, 4, 10)
        content.hide()
        self.header.toggled.connect(self._show_content)

    @property
    def is_open(self) -> bool:
        """Whether the content is shown."""
        return self.header.isChecked()

    def set_open(self, is_open: bool) -> None:
        """Open or close the section."""
        self.header.setChecked(is_open)

    def set_summary(self, summary: str) -> None:
        """Show in a few words, beside the title of the closed section, what it is set to."""
        if summary != self.header.summary:
            self.header.summary = summary
            self.header.setAccessibleDescription(summary)
            self.header.update()

    def _show_content(self, is_open: bool) -> None:
        self.content.setVisible(is_open)
        self.toggled.emit(is_open)
