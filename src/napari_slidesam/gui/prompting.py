"""From what is drawn to what is grown: owners of new prompts, and requests for runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.planes import plane_shape
from napari_slidesam.errors import PromptError, SlideSamError
from napari_slidesam.geometry import Box
from napari_slidesam.gui.decisions import Target, owner_of_box, same_prompts
from napari_slidesam.gui.drawing import leading_of_position
from napari_slidesam.gui.prompts_sync import PromptSync
from napari_slidesam.prompts import MaskPrompt, ObjectPrompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.engine.objects import ObjectState
    from napari_slidesam.gui.dock import Dock
    from napari_slidesam.gui.drawing import DrawnBox
    from napari_slidesam.gui.runs import Runs

Leading = tuple[int, ...]


class Prompting:
    """Says whose a new prompt is, and has changed objects grown.

    Parameters
    ----------
    dock : Dock
    runs : Runs
    """

    def __init__(self, dock: Dock, runs: Runs) -> None:
        self._dock, self._runs = dock, runs
        self._not_run: dict[Leading, set[int]] = {}
        self.sync = PromptSync(
            displayed_axis=dock.displayed_axis,
            view=lambda: (dock.displayed(), tuple(dock.viewer.dims.order)),
            owner_of_box=self._owner_of_box,
            owner_of_point=self._owner_of_point,
            on_changed=self._take,
            on_selected=self._select,
            on_refused=dock.say,
            colour_of=dock.colours.colour_of,
        )

    def forget(self) -> None:
        """Forget what waits for the button."""
        self._not_run.clear()

    def run(self) -> None:
        """Grow what was drawn since the last run; without that, the selected object."""
        session, leading = self._dock.session, self._dock.leading
        if session is None:
            self._dock.say("There is no image: open one and choose it.")
            return
        waiting = self._not_run.pop(leading, set()) & set(session.object_ids)
        waiting |= {i for i in session.object_ids if self._has_not_grown(i)}
        if not waiting and self._dock.selected in session.object_ids:
            waiting = {i for i in (self._dock.selected,) if i is not None}
        states = [session.object_state(i) for i in sorted(waiting)]
        found = [s.prompts or painted_prompts(s, session.shape_zyx) for s in states]
        requested = [prompts for prompts in found if prompts is not None]
        for prompts in requested:
            self._runs.request(leading, prompts)
        if requested:
            self._runs.start()
        else:
            self._dock.say("Draw a box around an object first.")

    def show(self, leading: Leading) -> None:
        """Draw the prompts of the session and of what waits for a run."""
        session = self._dock.session_at(leading)
        if session is None:
            return
        given: dict[int, ObjectPrompts | None] = {
            i: state.prompts for i, state in session.state.objects.items()
        }
        self.sync.show(leading, {**given, **self._runs.waiting(leading)})

    def _has_not_grown(self, object_id: int) -> bool:
        session = self._dock.session
        assert session is not None
        state = session.object_state(object_id)
        return state.prompts is not None and not state.slices and not state.stops

    def _new_id(self, leading: Leading) -> int:
        workspace = self._dock.workspace
        assert workspace is not None
        drawn = [r.object_id for r in workspace.box_rows if r.drawn.plane.leading == leading]
        drawn += [
            r.object_id for r in workspace.point_rows if leading_of_position(r.position) == leading
        ]
        highest = max([0, *drawn, *self._runs.waiting(leading)])
        return max(workspace.session(leading).next_free_id(), highest + 1)

    def _owner_of_box(self, drawn: DrawnBox) -> int:
        """Return the selected object's id where the box is for it, else a new one."""
        owner = owner_of_box(drawn, self._target(drawn.plane.leading))
        if owner is None:
            owner = self._new_id(drawn.plane.leading)
            self._dock.select(owner)
        return owner

    def _target(self, leading: Leading) -> Target | None:
        workspace, selected = self._dock.workspace, self._dock.selected
        if workspace is None or selected is None:
            return None
        rows = [
            r
            for r in workspace.box_rows
            if r.object_id == selected and r.drawn.plane.leading == leading
        ]
        boxes = {r.drawn.plane.slice_index: r.drawn.box.box for r in rows}
        session = workspace.session(leading)
        state = session.state.objects.get(selected)
        if state is None and not rows:
            return None
        axis = rows[0].drawn.plane.axis if rows else 0
        if state is not None:
            axis = axis if rows else state.axis
            for index, patch in state.own_slices.items() if state.axis == axis else ():
                if patch.n_voxels:
                    y0, x0, y1, x1 = (
                        float(v)
                        for v in (
                            patch.region.y0,
                            patch.region.x0,
                            patch.region.y1,
                            patch.region.x1,
                        )
                    )
                    boxes[index] = Box(y0, x0, y1, x1)
        return Target(
            selected,
            axis,
            frozenset(r.drawn.plane.slice_index for r in rows),
            boxes,
            is_accepted=state is not None and state.is_accepted,
            is_editing=self._dock.is_editing,
        )

    def _owner_of_point(self, position: NDArray[np.float64], positive: bool) -> int:
        leading = leading_of_position(position)
        target = self._target(leading)
        if target is not None and not target.is_accepted:
            return target.object_id
        if not positive:
            raise PromptError(
                "A negative point says where an object is not: select the object first."
            )
        owner = self._new_id(leading)
        self._dock.select(owner)
        return owner

    def _select(self, owner: tuple[Leading, int]) -> None:
        """Select the object of a box that was clicked, where it is another one."""
        leading, object_id = owner
        if leading == self._dock.leading and object_id != self._dock.selected:
            self._dock.select(object_id)

    def _take(self, touched: tuple[tuple[Leading, int], ...]) -> None:
        """Deal with objects whose drawings changed."""
        self._dock.panel.show_message("", False)
        for leading, object_id in touched:
            try:
                self._take_object(leading, object_id)
            except SlideSamError as error:
                self._dock.say(str(error), True)
                self.show(leading)
        self._runs.start()
        for leading in dict.fromkeys(place for place, _ in touched):
            self.show(leading)  # also what changed while a mouse button was down
        self._dock.on_changed()

    def _take_object(self, leading: Leading, object_id: int) -> None:
        workspace = self._dock.workspace
        assert workspace is not None
        session = workspace.session(leading)
        state = session.state.objects.get(object_id)
        axis = self.sync.axis_of(leading, object_id)
        if axis is None:
            grown_from = None if state is None else state.prompts
            axis = self._dock.displayed_axis() if grown_from is None else grown_from.axis
        prompts = self.sync.prompts_of(leading, object_id, axis)
        if prompts is None:
            self._remove(leading, object_id)
            return
        known = self._runs.waiting(leading).get(object_id)
        if known is None and state is not None:
            known = state.prompts
        prompts = _with_given_masks(prompts, known)
        if same_prompts(prompts, known):
            return
        if self._dock.settings.auto_run:
            self._runs.request(leading, prompts)
            return
        if state is None:
            session.add_object(prompts)
        else:
            session.set_prompts(object_id, prompts)
        self._not_run.setdefault(leading, set()).add(object_id)

    def _remove(self, leading: Leading, object_id: int) -> None:
        """Remove an object that no drawing is left of; one drawn by hand stays."""
        self._runs.forget(leading, object_id)
        session = self._dock.session_at(leading)
        if session is None or object_id not in session.object_ids:
            return
        before = session.state
        session.remove_object(object_id)
        self._dock.show_changes(leading, before)
        if self._dock.selected == object_id:
            self._dock.select(None)
        self.show(leading)


def painted_prompts(state: ObjectState, shape_zyx: tuple[int, int, int]) -> ObjectPrompts | None:
    """Return the slices that an object was painted on, along one axis, as mask prompts."""
    drawn = [(axis, index, p) for (axis, index), p in state.edits.items() if p.n_voxels]
    masks = []
    for axis, index, patch in drawn:
        if axis == drawn[-1][0]:
            plane = np.zeros(plane_shape(shape_zyx, axis), dtype=np.bool_)
            plane[patch.region.slices] = patch.mask
            masks.append(MaskPrompt(index, plane))
    if not masks:
        return None
    return ObjectPrompts(state.object_id, masks=tuple(masks), axis=drawn[-1][0])


def _with_given_masks(prompts: ObjectPrompts, known: ObjectPrompts | None) -> ObjectPrompts:
    """Return prompts with the masks that were given otherwise than by a drawing."""
    if known is None or known.axis != prompts.axis:
        return prompts
    drawn_on = {b.slice_index for b in (*known.boxes, *prompts.boxes)}
    drawn_on |= {m.slice_index for m in prompts.masks}
    given = tuple(m for m in known.masks if m.slice_index not in drawn_on)
    return replace(prompts, masks=(*prompts.masks, *given)) if given else prompts
