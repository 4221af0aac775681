"""The dock widget "Segment with Slide-SAM": panel, controller, and what outlives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_slidesam.gui.controller import SegmentController
from napari_slidesam.gui.dock_widget import DockWidget, unwrapped
from napari_slidesam.gui.recovery import recovery_root
from napari_slidesam.gui.settings import settings_store
from napari_slidesam.gui.views.panel import SegmentPanel

if TYPE_CHECKING:
    import napari
    from qtpy.QtWidgets import QWidget


class SegmentWidget(DockWidget):
    """The segment dock of a viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        napari gives it by this name.
    parent : QWidget, optional
    """

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        self.panel = SegmentPanel()
        self.controller = SegmentController(
            unwrapped(napari_viewer),
            self.panel,
            store=settings_store(),
            recovery_root=recovery_root(),
        )
        super().__init__("slide_sam_segment", self.panel, self.controller, parent)
