"""What every dock of this plugin is: a panel and its controller, which end with the dock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_slidesam.gui.collector import full_collections

if TYPE_CHECKING:
    import napari


class DockController(Protocol):
    """What works behind a panel."""

    def open(self) -> None:
        """Begin."""

    def close(self) -> None:
        """End; may be called more than once."""


class DockWidget(QWidget):
    """A panel in a dock of napari.

    Parameters
    ----------
    name : str
        The widget's object name.
    panel : QWidget
    controller : DockController
        Opened at once; closed with the dock.
    parent : QWidget, optional
    """

    def __init__(
        self, name: str, panel: QWidget, controller: DockController, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        # A dock that does not want the height gets an empty space below it from napari.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(panel)
        self._close = controller.close
        # Not a bound method: when the signal comes, this widget is gone already.
        self.destroyed.connect(lambda: controller.close())
        self._was_docked = False
        try:
            controller.open()
        except Exception:
            controller.close()
            raise
        full_collections.clean_once()

    def event(self, event: QEvent | None) -> bool:
        """End with the dock: napari takes the widget out of it, and makes another one next time."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._was_docked = True
            elif self._was_docked:
                self._close()
                self.deleteLater()
        return bool(super().event(event))


def unwrapped(viewer: napari.Viewer) -> napari.Viewer:
    """Return the viewer itself, where napari hands out a proxy of it.

    The proxy gives another proxy of a layer each time, so no layer would be the same as itself.
    Only public names of the viewer are used.
    """
    real: napari.Viewer = getattr(viewer, "__wrapped__", viewer)
    return real
