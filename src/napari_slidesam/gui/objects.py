"""What a person does with objects in the panel: select, name, hide, accept, delete, undo."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_slidesam.gui.displayed import show_slice
from napari_slidesam.gui.layers import N_SPATIAL, n_leading

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_slidesam.engine.session import Session
    from napari_slidesam.gui.dock import Dock
    from napari_slidesam.gui.painting import Painting
    from napari_slidesam.gui.prompting import Prompting
    from napari_slidesam.gui.runs import Runs


class ObjectActions:
    """Changes the session of what is displayed, and has the layers follow.

    Parameters
    ----------
    dock : Dock
    runs : Runs
    prompting : Prompting
    painting : Painting
    """

    def __init__(self, dock: Dock, runs: Runs, prompting: Prompting, painting: Painting) -> None:
        self._dock, self._runs = dock, runs
        self._prompting, self._painting = prompting, painting

    def select(self, object_id: int) -> None:
        """Select an object; 0 for none."""
        is_waiting = object_id in self._runs.waiting(self._dock.leading)
        is_there = is_waiting or self._known(object_id) is not None
        if not is_there or object_id != self._dock.selected:
            self._dock.select(object_id if is_there else None)

    def new_object(self) -> None:
        """Let the next box, or positive point, begin a new object."""
        self._dock.select(None)
        self._dock.say("The next box is a new object.")

    def rename(self, object_id: int, name: str) -> None:
        """Give an object a name."""
        session = self._known(object_id)
        if session is not None and name.strip():
            session.rename(object_id, name.strip())
        self._dock.on_changed()

    def set_visible(self, object_id: int, is_visible: bool) -> None:
        """Show or hide an object."""
        workspace = self._dock.workspace
        if workspace is None:
            return
        hidden = workspace.hidden.setdefault(self._dock.leading, set())
        (hidden.discard if is_visible else hidden.add)(object_id)
        self.show_hidden()
        self._dock.on_changed()

    def show_hidden(self) -> None:
        """Have the labels layer show what is not hidden."""
        workspace, session = self._dock.workspace, self._dock.session
        if workspace is None or session is None:
            return
        hidden = workspace.hidden.get(self._dock.leading, set()) & set(session.object_ids)
        self._dock.colours.hide(hidden, session.object_ids)

    def toggle_visible(self) -> None:
        """Show or hide the selected object."""
        workspace, selected = self._dock.workspace, self._dock.selected
        if workspace is not None and selected is not None:
            is_hidden = selected in workspace.hidden.get(self._dock.leading, set())
            self.set_visible(selected, is_hidden)

    def accept(self, object_id: int, is_accepted: bool) -> None:
        """Take an object as it is, or not any more."""
        session = self._known(object_id)
        if session is None:
            return
        (session.accept if is_accepted else session.unaccept)(object_id)
        if is_accepted and self._dock.selected == object_id:
            self._dock.select(None)  # a box drawn now is not meant for what is done
        self._dock.on_changed()

    def accept_selected(self) -> None:
        """Take the selected object as it is."""
        if self._dock.selected is not None:
            self.accept(self._dock.selected, True)

    def edit(self, object_id: int) -> None:
        """Let every box on another slice go to an object, until something else is selected."""
        session = self._known(object_id)
        if session is None:
            return
        session.unaccept(object_id)
        self._dock.select(object_id, is_editing=True)
        name = session.object_state(object_id).name
        self._dock.say(
            f"Editing {name}: boxes on other slices, points and paint go to it until another "
            "object is selected or accepted."
        )

    def delete(self, object_id: int) -> None:
        """Remove an object, its mask and its prompts."""
        leading = self._dock.leading
        self._runs.forget(leading, object_id)
        session = self._known(object_id)
        if session is not None:
            before = session.state
            session.remove_object(object_id)
            self._dock.show_changes(leading, before)
        if self._dock.selected == object_id:
            self._dock.select(None)
        self._prompting.show(leading)

    def go_to_slice(self, slice_index: int) -> None:
        """Show a slice of the selected object, along the axis that it grew along."""
        workspace, session = self._dock.workspace, self._dock.session
        selected = self._dock.selected
        if workspace is None or session is None or selected not in session.object_ids:
            return
        image = workspace.image
        if image is None or selected is None:
            return
        axis = session.object_state(selected).axis
        plane = self._dock.displayed()
        dims = self._dock.viewer.dims
        if image.ndim >= N_SPATIAL and (plane is None or plane.axis != axis):
            offset = int(dims.ndim) - N_SPATIAL
            first = [d for d in range(int(dims.ndim)) if d < offset]
            rest = [offset + a for a in range(N_SPATIAL) if a != axis]
            dims.ndisplay = 2
            dims.order = (*first, offset + axis, *rest)
        assert n_leading(image) == len(self._dock.leading)
        show_slice(dims, image, axis, slice_index)

    def go_to_worst(self) -> None:
        """Show the next of the slices where one more box helps most."""
        session, selected = self._dock.session, self._dock.selected
        if session is None or selected not in session.object_ids or selected is None:
            return
        worst = session.worst_slices(selected)
        if not worst:
            return
        plane = self._dock.displayed()
        shown = plane.slice_index if plane is not None else -1
        place = worst.index(shown) + 1 if shown in worst else 0
        self.go_to_slice(worst[place % len(worst)])

    def undo(self) -> None:
        """Take the last operation back; a run that goes on is stopped first."""
        self._runs.when_idle(lambda: self._move("undo"))

    def redo(self) -> None:
        """Do what was undone last again."""
        self._runs.when_idle(lambda: self._move("redo"))

    def _move(self, verb: str) -> None:
        session, leading = self._dock.session, self._dock.leading
        if session is None:
            return
        if not (session.can_undo if verb == "undo" else session.can_redo):
            self._dock.say(f"There is nothing to {verb}.")
            return
        before = session.state
        step: Callable[[], object] = session.undo if verb == "undo" else session.redo
        step()
        settings = replace(self._dock.settings, overlap_rule=session.overlap_rule)
        if settings != self._dock.settings:
            self._dock.settings = settings
            self._dock.panel.set_settings(settings)
        self._dock.show_changes(leading, before)
        if self._dock.selected not in session.object_ids:
            self._dock.select(None)
        self._painting.forget_strokes()
        self.show_hidden()
        self._prompting.show(leading)

    def _known(self, object_id: int) -> Session | None:
        session = self._dock.session
        return session if session is not None and object_id in session.object_ids else None
