"""What the parts of the segment dock share: viewer, panel, image, and what is selected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_slidesam.errors import PromptError, VolumeError
from napari_slidesam.gui.displayed import leading_of
from napari_slidesam.gui.presenter import LabelColours
from napari_slidesam.gui.stream import LabelsStream

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari

    from napari_slidesam.engine.session import Session
    from napari_slidesam.engine.session_state import SessionState
    from napari_slidesam.gui.layers import Plane
    from napari_slidesam.gui.state import SegmentSettings
    from napari_slidesam.gui.views.panel import SegmentPanel
    from napari_slidesam.gui.workspace import Workspace


class Dock:
    """The state of one dock; changed by its controller and the controller's parts.

    Parameters
    ----------
    viewer : napari.Viewer
    panel : SegmentPanel
    settings : SegmentSettings
    """

    def __init__(
        self, viewer: napari.Viewer, panel: SegmentPanel, settings: SegmentSettings
    ) -> None:
        self.viewer, self.panel, self.settings = viewer, panel, settings
        self.workspace: Workspace | None = None
        self.selected: int | None = None
        self.is_editing = False
        self.colours = LabelColours()
        self.on_changed: Callable[[], None] = lambda: None
        self.stream = LabelsStream(self.session_at, self.displayed)

    @property
    def leading(self) -> tuple[int, ...]:
        """Where the axes before z stand."""
        image = None if self.workspace is None else self.workspace.image
        return () if image is None else leading_of(self.viewer.dims, image)

    @property
    def session(self) -> Session | None:
        """The session of what is displayed; None without an image."""
        if self.workspace is None or self.workspace.image is None:
            return None
        return self.workspace.session(self.leading)

    def session_at(self, leading: tuple[int, ...]) -> Session | None:
        """Return the session of a leading position, where there is one."""
        return None if self.workspace is None else self.workspace.sessions.get(leading)

    def displayed(self) -> Plane | None:
        """Return the plane on the screen, or None where no plane of the image is."""
        if self.workspace is None or self.workspace.image is None:
            return None
        try:
            return self.workspace.displayed(self.viewer)
        except VolumeError:
            return None

    def displayed_axis(self) -> int:
        """Return the axis that the planes on the screen lie along.

        Raises
        ------
        PromptError
            Nothing can be drawn on what is displayed.
        """
        if self.workspace is None or self.workspace.image is None:
            raise PromptError("There is no image to draw on: open one and choose it in the panel.")
        try:
            return self.workspace.displayed(self.viewer).axis
        except VolumeError as error:
            raise PromptError(str(error)) from error

    def show_changes(self, leading: tuple[int, ...], before: SessionState) -> None:
        """Have the labels painted anew where a session differs from an earlier state."""
        session = self.session_at(leading)
        if session is not None:
            self.stream.mark_changes(leading, before, session.changed_since(before))
        self.on_changed()

    def select(self, object_id: int | None, *, is_editing: bool = False) -> None:
        """Select an object; points go to it, and boxes that repair it."""
        self.selected, self.is_editing = object_id, is_editing and object_id is not None
        labels = None if self.workspace is None else self.workspace.labels
        if labels is not None and object_id is not None:
            labels.selected_label = object_id
        self.on_changed()

    def say(self, text: str, is_error: bool = False) -> None:
        """Show a message in the panel."""
        self.panel.show_message(text, is_error)
