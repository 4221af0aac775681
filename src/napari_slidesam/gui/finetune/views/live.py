"""The job that is looked at: progress, curves, preview, Dice, and what to do with the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_slidesam.gui.finetune.state import CheckState, LiveState
from napari_slidesam.gui.finetune.views.pictures import CurvesView, PreviewView
from napari_slidesam.gui.views.colours import ATTENTION, quality_colour, text_colour
from napari_slidesam.gui.views.parts import Heading, QuietLabel, Section, plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QPaintEvent

    from napari_slidesam.gui.finetune.state import DiceRow, PreviewState

_MOST_DICE_ROWS = 7
_UNKNOWN = "-"


def wrapping_label(text: str = "") -> QLabel:
    """Return a label of plain text that goes on in a new line and can be copied from."""
    label = QLabel(text)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setIndent(0)
    label.setMinimumWidth(60)
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


class ShareLine(QWidget):
    """A thin line that is filled as far as something is done."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.share: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return the height of the line."""
        return QSize(60, 4)

    def set_share(self, share: float | None) -> None:
        """Show how much is done; None for nothing under way."""
        if share != self.share:
            self.share = share
            self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        area = QRectF(self.rect())
        painter.setBrush(text_colour(self, 0.12))
        painter.drawRoundedRect(area, 2, 2)
        if self.share is not None:
            area.setWidth(max(4.0, area.width() * self.share))
            painter.setBrush(quality_colour(1.0))
            painter.drawRoundedRect(area, 2, 2)
        painter.end()


class FactsView(QWidget):
    """Titles and values, in one or two columns."""

    def __init__(self, n_columns: int = 1, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._n_columns = n_columns
        self._facts: tuple[tuple[str, str], ...] = ()
        self._titles: list[QuietLabel] = []
        self._values: list[QLabel] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What is shown."""
        return self._facts

    def set_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show facts."""
        if tuple(facts) == self._facts:
            return
        self._facts = tuple(facts)
        while len(self._titles) < len(facts):
            self._add_line(len(self._titles))
        for i, (title, value) in enumerate(zip(self._titles, self._values, strict=True)):
            is_shown = i < len(facts)
            title.setVisible(is_shown)
            value.setVisible(is_shown)
            if is_shown:
                title.setText(facts[i][0])
                value.setText(facts[i][1])
                value.setToolTip(plain_tip(facts[i][1]))
        self.setVisible(bool(facts))

    def _add_line(self, i: int) -> None:
        title, value = QuietLabel(), wrapping_label()
        title.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        row, column = divmod(i, self._n_columns)
        top = Qt.AlignmentFlag.AlignTop
        self._grid.addWidget(title, row, 2 * column, top)
        self._grid.addWidget(value, row, 2 * column + 1, top)
        self._grid.setColumnStretch(2 * column + 1, 1)
        self._titles.append(title)
        self._values.append(value)


class CheckView(QWidget):
    """What a job trains on, and what is doubtful about it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.facts = FactsView()
        self.warnings = wrapping_label()
        self.problem = wrapping_label()
        self.problem.setStyleSheet(f"color: {ATTENTION.name()};")
        self.warnings.setStyleSheet(f"color: {quality_colour(0.7).name()};")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        for widget in (self.problem, self.facts, self.warnings):
            layout.addWidget(widget)

    @staticmethod
    def summary(state: CheckState) -> str:
        """Return it in a few words."""
        if state.is_running:
            return "checking …"
        if state.problem:
            return "cannot be trained"
        if state.warnings:
            n = len(state.warnings)
            return f"{n} warning{'s' if n > 1 else ''}"
        return state.facts[0][1] if state.facts else "not checked"

    def set_state(self, state: CheckState) -> None:
        """Show what was found."""
        doing = "reading the labels …" if state.is_running else "not looked at yet"
        self.facts.set_facts(state.facts or (() if state.problem else (("Data", doing),)))
        self.warnings.setText("\n".join(f"⚠ {warning}" for warning in state.warnings))
        self.warnings.setVisible(bool(state.warnings))
        self.problem.setText(state.problem)
        self.problem.setVisible(bool(state.problem))


class DiceTable(QTableWidget):
    """Dice by label, before and after."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, 4, parent)
        self._rows: tuple[DiceRow, ...] = ()
        self.setAccessibleName("Dice by label")
        self.setHorizontalHeaderLabels(["label", "before", "after", "change"])
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setShowGrid(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Dice on what is held out, of the untouched network and of the best one.")
        across, down = self.horizontalHeader(), self.verticalHeader()
        if across is not None:
            across.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            across.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            across.setHighlightSections(False)
        if down is not None:
            down.hide()
            down.setDefaultSectionSize(self.fontMetrics().height() + 8)

    def set_rows(self, rows: Sequence[DiceRow]) -> None:
        """Show the table; hidden where there is nothing."""
        if tuple(rows) == self._rows and self.rowCount() == len(rows):
            return
        self._rows = tuple(rows)
        self.setRowCount(len(rows))
        for i, row in enumerate(rows):
            change = None
            if row.before is not None and row.after is not None:
                change = row.after - row.before
            texts = (row.label, _dice(row.before), _dice(row.after), _dice(change, "+.3f"))
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                side = Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight
                item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
                if column == 3 and change is not None:
                    item.setForeground(quality_colour(1.0) if change >= 0 else ATTENTION)
                self.setItem(i, column, item)
        across, down = self.horizontalHeader(), self.verticalHeader()
        if across is not None and down is not None:
            n_shown = min(len(rows), _MOST_DICE_ROWS)
            height = across.sizeHint().height() + n_shown * down.defaultSectionSize()
            self.setFixedHeight(height + 2 * self.frameWidth())
        self.setVisible(bool(rows))


def _dice(value: float | None, form: str = ".3f") -> str:
    return _UNKNOWN if value is None else f"{value:{form}}"


class LiveView(QWidget):
    """Everything about one job."""

    use_requested = Signal()
    export_requested = Signal()
    look_changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._had_steps = False
        self._shown_name: str | None = None
        self.heading = Heading("")
        self.line = ShareLine()
        self.facts = FactsView(n_columns=2)
        self.message = wrapping_label()
        self.curves = CurvesView()
        self.preview = PreviewView()
        self.dice = DiceTable()
        self.check = CheckView()
        self.check_section = Section(
            "Data check", self.check, "What is trained on, what is left out, and what it takes."
        )
        self.use_button = QPushButton("Use in the segment dock")
        self.use_button.setToolTip(
            "Put the adapter on the network of the dock “Segment with Slide-SAM”; opens it."
        )
        self.export_button = QPushButton("Export adapter…")
        self.export_button.setToolTip("Write the adapter to a folder, or to one .zip file.")
        buttons = QGridLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.use_button, 0, 0)
        buttons.addWidget(self.export_button, 0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (
            self.heading,
            self.line,
            self.facts,
            self.message,
            self.curves,
            self.preview,
            self.dice,
        ):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        layout.addWidget(self.check_section)
        self.use_button.clicked.connect(lambda: self.use_requested.emit())
        self.export_button.clicked.connect(lambda: self.export_requested.emit())
        self.curves.look_changed.connect(self.look_changed)
        self.preview.set_state(None)
        self.set_state(None)

    def set_state(self, state: LiveState | None) -> None:
        """Show a job; None where none is selected."""
        self.setVisible(state is not None)
        shown = LiveState() if state is None else state
        self.heading.setText(f"{shown.name}: {shown.state}" if shown.state else shown.name)
        self.line.set_share(shown.share)
        self.line.setVisible(shown.share is not None)
        self.facts.set_facts(shown.facts)
        self.message.setText(shown.message)
        self.message.setVisible(bool(shown.message))
        self.message.setStyleSheet(f"color: {ATTENTION.name()};" if shown.is_error else "")
        has_curves = bool(shown.curves.steps or shown.curves.dice)
        self.curves.setVisible(has_curves)
        self.dice.set_rows(shown.dice)
        self.dice.setVisible(bool(shown.dice))
        for button in (self.use_button, self.export_button):
            button.setVisible(shown.can_use)
        self.check.set_state(shown.check)
        self.check_section.set_summary(CheckView.summary(shown.check))
        self._open_check(shown, has_curves)

    def set_curves(self, picture: object) -> None:
        """Show the curves as they were drawn."""
        self.curves.set_picture(picture)  # type: ignore[arg-type]

    def set_preview(self, state: PreviewState | None) -> None:
        """Show a slice before and after."""
        self.preview.set_state(state)

    def _open_check(self, state: LiveState, has_steps: bool) -> None:
        """Open the check of a job that has not begun; close it once there are curves."""
        if state.name != self._shown_name:
            self._shown_name, self._had_steps = state.name, has_steps
            self.check_section.set_open(not has_steps)
        elif has_steps and not self._had_steps:
            self._had_steps = True
            self.check_section.set_open(False)
