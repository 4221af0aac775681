"""The dock's state as the panel shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_slidesam.gui.layers import image_choices
from napari_slidesam.gui.presenter import ObjectRows, quality_state
from napari_slidesam.gui.state import HistoryState

if TYPE_CHECKING:
    from napari_slidesam.gui.dock import Dock
    from napari_slidesam.gui.runs import Runs

AXIS_NAMES = "zyx"


class Overview:
    """Shows images, plane, objects, quality, progress and history.

    Parameters
    ----------
    dock : Dock
    runs : Runs
    """

    def __init__(self, dock: Dock, runs: Runs) -> None:
        self._dock, self._runs, self._panel = dock, runs, dock.panel
        self._rows = ObjectRows()

    def show_images(self) -> None:
        """List the images that can be segmented."""
        name = None
        if self._dock.workspace is not None and self._dock.workspace.image is not None:
            name = str(self._dock.workspace.image.name)
        self._panel.set_images(image_choices(self._dock.viewer.layers), name)

    def show(self) -> None:
        """Have the panel show the session of what is displayed."""
        session, plane, selected = self._dock.session, self._dock.displayed(), self._dock.selected
        if plane is None:
            self._panel.set_plane("")
            self._panel.set_slice_count(None)
        else:
            workspace = self._dock.workspace
            assert workspace is not None, "a plane is one of its image"
            count = workspace.shape_zyx[plane.axis]
            where = f"{AXIS_NAMES[plane.axis]} = {plane.slice_index} of {count}"
            self._panel.set_plane(where + "".join(f", {i}" for i in plane.leading))
            self._panel.set_slice_count(count)
        self._panel.set_progress(self._runs.progress)
        if session is None or self._dock.workspace is None:
            self._panel.set_objects((), None)
            self._panel.set_quality(None)
            self._panel.set_history(HistoryState())
            return
        entries = self._rows.entries(
            session,
            colour_of=self._dock.colours.colour_of,
            hidden=self._dock.workspace.hidden.get(self._dock.leading, ()),
            running=self._runs.running(self._dock.leading),
            waiting=self._runs.waiting(self._dock.leading),
        )
        is_there = selected in session.object_ids
        is_listed = any(entry.object_id == selected for entry in entries)
        self._panel.set_objects(entries, selected if is_listed else None)
        self._panel.set_quality(
            quality_state(session, selected, plane) if is_there and selected is not None else None
        )
        self._panel.set_history(HistoryState(session.undo_names, session.redo_names))
