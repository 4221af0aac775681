"""The fine-tune panel: its parts put together, their signals handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QFrame, QGridLayout, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_slidesam.errors import ConfigError
from napari_slidesam.gui.finetune.views.adapters import AdaptersView
from napari_slidesam.gui.finetune.views.apply import ApplyView
from napari_slidesam.gui.finetune.views.live import LiveView
from napari_slidesam.gui.finetune.views.pairs import PairsView
from napari_slidesam.gui.finetune.views.queue_list import QueueView
from napari_slidesam.gui.finetune.views.settings import AdvancedView, JobSettingsView
from napari_slidesam.gui.views.dialogs import FileDialogs
from napari_slidesam.gui.views.messages import MessageLine
from napari_slidesam.gui.views.parts import Section, chain_focus
from napari_slidesam.jobs.spec import FinetuneJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.gui.finetune.state import AdapterRow

_MARGIN = 10
_WIDTH, _LEAST_WIDTH = 370, 300


class FinetunePanel(QWidget):
    """All of the fine-tune dock: a new job, the queue, the job that is looked at, its result.

    Every ``set_*`` shows a state and emits nothing; the parts' signals are what a person did.

    Parameters
    ----------
    parent : QWidget, optional
    dialogs : FileDialogs, optional
        Asks for files and folders.
    """

    add_requested = Signal(bool)
    """Put the new job into the queue, and start it or not."""
    settings_changed = Signal()
    """A person changed settings of the next job that do not belong to its data."""

    def __init__(self, parent: QWidget | None = None, dialogs: FileDialogs | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("slide_sam_finetune_panel")
        asks = dialogs if dialogs is not None else FileDialogs()
        self.message = MessageLine()
        self.pairs = PairsView(asks)
        self.settings = JobSettingsView(asks)
        self.advanced = AdvancedView()
        self.add_button = QPushButton("Add and check")
        self.add_button.setToolTip(
            "Put the job into the queue and look at its data; nothing is trained yet."
        )
        self.start_button = QPushButton("Add and start")
        self.start_button.setToolTip(
            "Put the job into the queue and train when its turn comes, in a process of its own."
        )
        self.queue = QueueView()
        self.live = LiveView()
        self.adapters = AdaptersView(asks)
        self.apply = ApplyView(asks)
        self.advanced_section = Section("Advanced", self.advanced, "What most jobs leave as it is.")
        self.adapters_section = Section("Adapters", self.adapters, "Use, export, import, remove.")
        self.apply_section = Section(
            "Apply to other volumes", self.apply, "Segment the same labels elsewhere, from boxes."
        )
        self._lay_out()
        self.add_button.clicked.connect(lambda: self.add_requested.emit(False))
        self.start_button.clicked.connect(lambda: self.add_requested.emit(True))
        for view in (self.settings, self.advanced):
            view.changed.connect(lambda: self.settings_changed.emit())

    def sizeHint(self) -> QSize:
        """Return the size of a comfortable dock."""
        return QSize(_WIDTH, 720)

    def minimumSizeHint(self) -> QSize:
        """Return a size that fits a small window: what is below scrolls."""
        return QSize(_LEAST_WIDTH, 160)

    def job(self) -> FinetuneJob:
        """Return the settings that are shown, without data.

        Raises
        ------
        ConfigError
            A field does not hold what it should.
        """
        try:
            job = self.advanced.applied_to(self.settings.applied_to(FinetuneJob("")))
        except ValueError as error:
            raise ConfigError(
                "Labels to train on are whole numbers, such as 1, 3; empty for all. Correct them "
                "under Advanced."
            ) from error
        if not job.axes:
            raise ConfigError("No axis is chosen: tick at least one of z, y and x.")
        return job

    def set_job(self, job: FinetuneJob) -> None:
        """Show a job's settings."""
        self.settings.set_job(job)
        self.advanced.set_job(job)

    def set_adapters(self, rows: Sequence[AdapterRow], chosen: str | None = None) -> None:
        """Show the adapters at hand."""
        self.adapters.set_rows(rows, chosen)
        self.apply.set_adapters(rows)
        self.adapters_section.set_summary(self.adapters.summary)

    def set_can_add(self, can_add: bool) -> None:
        """Offer the buttons of a new job; not while one is being written."""
        for button in (self.add_button, self.start_button):
            button.setEnabled(can_add)

    def show_message(self, text: str, is_error: bool) -> None:
        """Show a message above all; an empty one takes the last away."""
        self.message.show_message(text, is_error)

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(_MARGIN, 8, _MARGIN, 8)
        column.setSpacing(10)
        buttons = QGridLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.add_button, 0, 0)
        buttons.addWidget(self.start_button, 0, 1)
        column.addWidget(self.pairs)
        column.addWidget(self.settings)
        column.addWidget(self.advanced_section)
        column.addLayout(buttons)
        column.addWidget(self.queue)
        column.addWidget(self.live)
        closed = QVBoxLayout()
        closed.setSpacing(0)
        closed.addWidget(self.adapters_section)
        closed.addWidget(self.apply_section)
        column.addLayout(closed)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(content)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(_LEAST_WIDTH)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.scroll_area = scroll
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        news = QVBoxLayout()  # does not scroll away
        news.setContentsMargins(_MARGIN, 0, _MARGIN, 0)
        news.addWidget(self.message)
        outer.addLayout(news)
        outer.addWidget(scroll, 1)
        chain_focus([self.message, content])
