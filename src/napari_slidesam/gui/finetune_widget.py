"""The dock widget "Fine-tune Slide-SAM": panel, controller, and what outlives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_slidesam.gui.dock_widget import DockWidget, unwrapped
from napari_slidesam.gui.finetune.controller import FinetuneController
from napari_slidesam.gui.finetune.remembered import RememberedJob
from napari_slidesam.gui.finetune.views.panel import FinetunePanel
from napari_slidesam.jobs.queue import JobQueue

if TYPE_CHECKING:
    import napari
    from qtpy.QtWidgets import QWidget


def job_queue() -> JobQueue:
    """Return the user's queue."""
    return JobQueue()


def remembered_job() -> RememberedJob:
    """Return where the user's settings of the next job are kept."""
    return RememberedJob.of_user()


class FinetuneWidget(DockWidget):
    """The fine-tune dock of a viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        napari gives it by this name.
    parent : QWidget, optional
    """

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        self.panel = FinetunePanel()
        self.controller = FinetuneController(
            unwrapped(napari_viewer), self.panel, queue=job_queue(), remembered=remembered_job()
        )
        super().__init__("slide_sam_finetune", self.panel, self.controller, parent)
