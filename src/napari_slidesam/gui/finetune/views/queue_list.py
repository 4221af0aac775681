"""The queue: a line for each job, and buttons for the one that is selected."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from napari_slidesam.gui.finetune.state import Action
from napari_slidesam.gui.finetune.views.glyphs import JobGlyph, JobGlyphButton
from napari_slidesam.gui.views.colours import ATTENTION, quality_colour, text_colour
from napari_slidesam.gui.views.parts import Heading, QuietLabel, draw_text, plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtCore import QModelIndex, QPersistentModelIndex

    from napari_slidesam.gui.finetune.state import JobRow

_ROLE = Qt.ItemDataRole.UserRole
_EMPTY = "No jobs yet. They are kept when napari is closed."
_LEAST_ROWS, _MOST_ROWS = 2, 6

_BUTTONS: tuple[tuple[Action, JobGlyph, str], ...] = (
    (Action.START, JobGlyph.START, "Start, or go on from the checkpoint"),
    (Action.PAUSE, JobGlyph.PAUSE, "Pause: a checkpoint is kept"),
    (
        Action.STOP,
        JobGlyph.STOP,
        "Stop: the best state so far becomes the adapter. Pressed again, the process is ended",
    ),
    (Action.CHECK, JobGlyph.LOOK, "Check the data, and measure what training takes"),
    (Action.UP, JobGlyph.UP, "Earlier in the queue"),
    (Action.DOWN, JobGlyph.DOWN, "Later in the queue"),
    (Action.DUPLICATE, JobGlyph.COPY, "Duplicate: the same data, settings shown above to change"),
    (Action.REMOVE, JobGlyph.BIN, "Remove the job, its data and its adapter"),
)


class _JobDelegate(QStyledItemDelegate):
    """Draws name, state, detail, and the share that is done as a line below."""

    def sizeHint(
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        """Return the height of a line of text and some air."""
        return QSize(100, option.fontMetrics.height() + 12)

    def paint(
        self,
        painter: QPainter | None,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        """Draw a job."""
        row: JobRow | None = index.data(_ROLE)
        widget = self.parent()
        if painter is None or row is None or not isinstance(widget, QWidget):
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(option.rect)
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(area, text_colour(widget, 0.16))
        text = area.adjusted(8, 0, -8, 0)
        right = " · ".join(filter(None, (row.state, row.detail)))
        painter.setPen(ATTENTION if row.state == "failed" else text_colour(widget, 0.65))
        width = min(option.fontMetrics.horizontalAdvance(right) + 6.0, text.width() * 0.62)
        side = QRectF(text.right() - width, text.top(), width, text.height())
        draw_text(painter, side, right, Qt.AlignmentFlag.AlignRight)
        painter.setPen(text_colour(widget))
        draw_text(painter, text.adjusted(0, 0, -width - 8, 0), row.name)
        if row.share is not None:
            line = QRectF(area.left(), area.bottom() - 2, area.width(), 2)
            painter.fillRect(line, text_colour(widget, 0.1))
            line.setWidth(area.width() * row.share)
            painter.fillRect(line, quality_colour(1.0))
        painter.restore()


class QueueView(QWidget):
    """The jobs in their order."""

    job_selected = Signal(str)
    asked = Signal(str, object)
    """A job and an `Action`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[JobRow, ...] = ()
        self.heading = Heading("Queue")
        self.empty = QuietLabel(_EMPTY, wrap=True)
        self.list = QListWidget()
        self.list.setAccessibleName("Jobs")
        self.list.setItemDelegate(_JobDelegate(self.list))
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.buttons: dict[Action, JobGlyphButton] = {}
        bar = QHBoxLayout()
        bar.setSpacing(2)
        for action, glyph, tip in _BUTTONS:
            button = JobGlyphButton(glyph, tip)
            button.clicked.connect(partial(self._ask, action))
            self.buttons[action] = button
            bar.addWidget(button)
            if action in (Action.CHECK, Action.DOWN):
                bar.addSpacing(8)
        bar.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        for widget in (self.heading, self.empty, self.list):
            layout.addWidget(widget)
        layout.addLayout(bar)
        self.list.currentRowChanged.connect(self._on_row)
        self.set_rows((), None)

    @property
    def selected(self) -> str | None:
        """The job that is selected."""
        row = self.list.currentRow()
        return self._rows[row].job_id if 0 <= row < len(self._rows) else None

    def set_rows(self, rows: Sequence[JobRow], selected: str | None) -> None:
        """Show the jobs, and which one is looked at."""
        rows = tuple(rows)
        with QSignalBlocker(self.list):
            while self.list.count() > len(rows):
                self.list.takeItem(self.list.count() - 1)
            while self.list.count() < len(rows):
                self.list.addItem(QListWidgetItem())
            for i, row in enumerate(rows):
                item = self.list.item(i)
                if item is not None and item.data(_ROLE) != row:
                    item.setData(_ROLE, row)
                    item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{row.name}, {row.state}")
                    item.setToolTip(plain_tip(f"{row.name}: {row.state} {row.detail}"))
            self._rows = rows
            ids = [row.job_id for row in rows]
            self.list.setCurrentRow(ids.index(selected) if selected in ids else -1)
        self.empty.setVisible(not rows)
        self.list.setVisible(bool(rows))
        height = self.fontMetrics().height() + 12
        shown = min(max(len(rows), _LEAST_ROWS), _MOST_ROWS)
        self.list.setFixedHeight(height * shown + 2 * self.list.frameWidth() + 2)
        self._show_buttons()

    def _show_buttons(self) -> None:
        row = self.list.currentRow()
        possible = self._rows[row].actions if 0 <= row < len(self._rows) else frozenset()
        for action, button in self.buttons.items():
            if button.isEnabled() != (action in possible):
                button.setEnabled(action in possible)

    def _on_row(self, row: int) -> None:
        self._show_buttons()
        if 0 <= row < len(self._rows):
            self.job_selected.emit(self._rows[row].job_id)

    def _ask(self, action: Action, _: bool = False) -> None:
        if self.selected is not None:
            self.asked.emit(self.selected, action)
