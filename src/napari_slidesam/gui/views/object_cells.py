"""How the cells of the object list are drawn, and its names edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QAbstractItemModel, QModelIndex, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPalette, QPen
from qtpy.QtWidgets import QLineEdit, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from napari_slidesam.gui.views.colours import ATTENTION, quality_colour
from napari_slidesam.gui.views.glyphs import Glyph, draw_glyph
from napari_slidesam.gui.views.object_model import Column, ObjectModel, size_text
from napari_slidesam.gui.views.parts import draw_text

if TYPE_CHECKING:
    from napari_slidesam.gui.state import ObjectEntry

_FILLED = "napari_slidesam_filled"
"""Property of an editor that shows the name it began with."""


def row_height(widget: QWidget) -> int:
    """Return the height of a row: two lines and some air."""
    return 2 * widget.fontMetrics().height() + 10


class ObjectDelegate(QStyledItemDelegate):
    """Draws swatch, name and size, the quality as a bar, and the small buttons."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the height of two lines."""
        return QSize(24, 2 * option.fontMetrics.height() + 10)

    def createEditor(
        self, parent: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget:
        """Return a line to type a name."""
        editor = QLineEdit(parent)
        editor.setAccessibleName("Name of the object")
        return editor

    def setEditorData(self, editor: QWidget | None, index: QModelIndex) -> None:
        """Fill the editor once: rows that change while someone types leave it alone."""
        if isinstance(editor, QLineEdit) and not editor.property(_FILLED):
            editor.setProperty(_FILLED, True)
            editor.setText(str(index.data(Qt.ItemDataRole.EditRole)))

    def setModelData(
        self, editor: QWidget | None, model: QAbstractItemModel | None, index: QModelIndex
    ) -> None:
        """Hand on the name that was typed."""
        if isinstance(editor, QLineEdit) and model is not None:
            model.setData(index, editor.text())

    def updateEditorGeometry(
        self, editor: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Put the editor over the name."""
        if editor is not None:
            area = option.rect.adjusted(18, 0, -2, 0)
            height = min(area.height() - 4, 26)
            editor.setGeometry(area.x(), area.center().y() - height // 2, area.width(), height)

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Draw a cell."""
        model = index.model()
        if painter is None or not isinstance(model, ObjectModel):
            return
        entry, column = model.entry(index.row()), Column(index.column())
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        # The view has drawn the selected row's ground, in the theme's colour.
        rule = option.rect.adjusted(0, option.rect.height() - 1, 0, 0)
        painter.fillRect(rule, _faint(option.palette.color(QPalette.ColorRole.Text), 0.08))
        palette = option.palette.color(QPalette.ColorRole.Text)
        area = QRectF(option.rect)
        if column is Column.NAME:
            _draw_name(painter, area, entry, palette)
        elif column is Column.QUALITY:
            _draw_quality(painter, area, entry, palette)
        else:
            is_hot = bool(option.state & QStyle.StateFlag.State_MouseOver)
            _draw_button(painter, area, entry, column, palette, is_hot)
        if option.state & QStyle.StateFlag.State_HasFocus:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(_faint(palette, 0.5), 1))
            painter.drawRoundedRect(area.adjusted(1.5, 1.5, -1.5, -1.5), 2, 2)
        painter.restore()


def _faint(colour: QColor, alpha: float) -> QColor:
    faint = QColor(colour)
    faint.setAlphaF(alpha)
    return faint


def _draw_name(painter: QPainter, area: QRectF, entry: ObjectEntry, text: QColor) -> None:
    swatch = QRectF(area.left() + 3, area.center().y() - 6, 12, 12)
    colour = QColor.fromRgbF(*(min(max(c, 0.0), 1.0) for c in entry.colour_rgba[:3]))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour if entry.is_visible else _faint(colour, 0.35))
    painter.drawRoundedRect(swatch, 3, 3)
    if entry.is_running:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(_faint(text, 0.85), 1.3, Qt.PenStyle.DotLine))
        painter.drawRoundedRect(swatch.adjusted(-2.5, -2.5, 2.5, 2.5), 4, 4)
    lines = area.adjusted(22, 4, -4, -5)
    half = lines.height() / 2
    painter.setPen(text if entry.is_visible else _faint(text, 0.55))
    draw_text(painter, lines.adjusted(0, 0, 0, -half), entry.name)
    painter.setPen(_faint(text, 0.7 if entry.is_visible else 0.45))
    draw_text(painter, lines.adjusted(0, half, 0, 0), size_text(entry))


def _draw_quality(painter: QPainter, area: QRectF, entry: ObjectEntry, text: QColor) -> None:
    bar = QRectF(area.left() + 3, area.center().y() + 5, area.width() - 6, 4)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(_faint(text, 0.12))
    painter.drawRoundedRect(bar, 2, 2)
    number = area.adjusted(3, 3, -3, -area.height() / 2 + 3)
    if entry.quality is None:
        painter.setPen(_faint(text, 0.5))
        draw_text(painter, number, "-", Qt.AlignmentFlag.AlignRight)
        return
    score = min(max(entry.quality, 0.0), 1.0)
    painter.setBrush(quality_colour(score))
    painter.drawRoundedRect(QRectF(bar.left(), bar.top(), bar.width() * score, 4), 2, 2)
    painter.setPen(_faint(text, 0.85))
    draw_text(painter, number, f"{score:.2f}", Qt.AlignmentFlag.AlignRight)


def _draw_button(
    painter: QPainter,
    area: QRectF,
    entry: ObjectEntry,
    column: Column,
    text: QColor,
    is_hot: bool,
) -> None:
    """Draw one of the small buttons; a tick that is set is in colour on a filled ground."""
    button = QRectF(area.center().x() - 10, area.center().y() - 10, 20, 20)
    glyph = {
        Column.VISIBLE: Glyph.EYE if entry.is_visible else Glyph.EYE_OFF,
        Column.ACCEPTED: Glyph.CHECK,
        Column.EDIT: Glyph.PENCIL,
        Column.DELETE: Glyph.BIN,
    }[column]
    colour = _faint(text, 0.95 if is_hot else 0.6)
    if column is Column.VISIBLE and not entry.is_visible:
        colour = _faint(text, 0.95 if is_hot else 0.4)
    if column is Column.ACCEPTED:
        colour = _faint(text, 0.8 if is_hot else 0.35)
    if column is Column.DELETE and is_hot:
        colour = ATTENTION
    painter.setPen(Qt.PenStyle.NoPen)
    if column is Column.ACCEPTED and entry.is_accepted:
        painter.setBrush(quality_colour(1.0))
        painter.drawRoundedRect(button.adjusted(1, 1, -1, -1), 3, 3)
        colour = QColor(Qt.GlobalColor.white)
    elif is_hot:
        painter.setBrush(_faint(text, 0.1))
        painter.drawRoundedRect(button, 3, 3)
    draw_glyph(painter, glyph, button.adjusted(3, 3, -3, -3), colour)
