"""The dock widget "Fine-tune Slide-SAM": panel, controller, and what outlives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_slidesam.gui.finetune.controller import FinetuneController
from napari_slidesam.gui.finetune.remembered import RememberedJob
from napari_slidesam.gui.finetune.views.panel import FinetunePanel
from napari_slidesam.gui.segment_widget import unwrapped
from napari_slidesam.jobs.queue import JobQueue

if TYPE_CHECKING:
    import napari


def job_queue() -> JobQueue:
    """Return the user's queue."""
    return JobQueue()


def remembered_job() -> RememberedJob:
    """Return where the user's settings of the next job are kept."""
    return RememberedJob.of_user()


class FinetuneWidget(QWidget):
    """The fine-tune dock of a viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        napari gives it by this name.
    parent : QWidget, optional
    """

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("slide_sam_finetune")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        # A dock that does not want the height gets an empty space below it from napari.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.panel = FinetunePanel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self.controller = FinetuneController(
            unwrapped(napari_viewer), self.panel, queue=job_queue(), remembered=remembered_job()
        )
        # Not a bound method: when the signal comes, this widget is gone already.
        controller = self.controller
        self.destroyed.connect(lambda: controller.close())
        self._was_docked = False
        try:
            self.controller.open()
        except Exception:
            self.controller.close()
            raise

    def event(self, event: QEvent | None) -> bool:
        """End with the dock: napari takes the widget out of it, and makes another one next time."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._was_docked = True
            elif self._was_docked:
                self.controller.close()
                self.deleteLater()
        return bool(super().event(event))
