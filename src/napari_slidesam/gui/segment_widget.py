"""The dock widget "Segment with Slide-SAM": panel, controller, and what outlives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_slidesam.gui.controller import SegmentController
from napari_slidesam.gui.recovery import recovery_root
from napari_slidesam.gui.settings import settings_store
from napari_slidesam.gui.views.panel import SegmentPanel

if TYPE_CHECKING:
    import napari


class SegmentWidget(QWidget):
    """The segment dock of a viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        napari gives it by this name.
    parent : QWidget, optional
    """

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("slide_sam_segment")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        # A dock that does not want the height gets an empty space below it from napari.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.panel = SegmentPanel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self.controller = SegmentController(
            unwrapped(napari_viewer),
            self.panel,
            store=settings_store(),
            recovery_root=recovery_root(),
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


def unwrapped(viewer: napari.Viewer) -> napari.Viewer:
    """Return the viewer itself, where napari hands out a proxy of it.

    The proxy gives another proxy of a layer each time, so no layer would be the same as itself.
    Only public names of the viewer are used.
    """
    real: napari.Viewer = getattr(viewer, "__wrapped__", viewer)
    return real
