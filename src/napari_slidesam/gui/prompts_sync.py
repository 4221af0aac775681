"""The boxes and points layers and the prompts of objects, kept alike in both directions.

napari tells that a layer changed more often, and less exactly, than a person changes it: twice
for one box, also on a mode change, and while a shape is still being made. So its events only
say *look*; a moment later, when no mouse button is down, the rows are compared with those
known before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_slidesam.gui.changed_rows import ChangedRows, Gesture
from napari_slidesam.gui.decisions import CLICK_PX, object_prompts
from napari_slidesam.gui.drawing import drawn_point, leading_of_position
from napari_slidesam.gui.drawn_rows import (
    NEGATIVE,
    POSITIVE,
    SIGN_COLOURS,
    DrawnRows,
    owners_of_boxes,
    place_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari.layers import Points, Shapes
    from numpy.typing import NDArray

    from napari_slidesam.gui.changed_rows import Owner
    from napari_slidesam.gui.drawing import DrawnBox
    from napari_slidesam.gui.workspace import Workspace
    from napari_slidesam.prompts import ObjectPrompts

    Colour = tuple[float, float, float, float]

_CLICKED_TOOLS = ("add_polygon", "add_path", "add_polyline", "add_polygon_lasso")
_DRAGGED_TOOLS = ("add_rectangle", "add_ellipse", "add_line")
_SELECTING_TOOLS = ("select", "direct")


class PromptSync(QObject):
    """Reads what is drawn, and draws what a session holds.

    Parameters
    ----------
    view : callable
        What the viewer shows, to compare with later.
    displayed_axis, owner_of_box, owner_of_point : callable
        As for `ChangedRows`.
    on_changed : callable
        Takes the objects, by leading position and id, whose prompts changed.
    on_selected : callable
        Takes the object, by leading position and id, whose boxes a person selected.
    on_refused : callable
        Takes a message for the person who drew.
    colour_of : callable
        Colour of an object.
    """

    def __init__(
        self,
        *,
        displayed_axis: Callable[[], int],
        view: Callable[[], object],
        owner_of_box: Callable[[DrawnBox], int],
        owner_of_point: Callable[[NDArray[np.float64], bool], int],
        on_changed: Callable[[tuple[Owner, ...]], None],
        on_selected: Callable[[Owner], None],
        on_refused: Callable[[str], None],
        colour_of: Callable[[int], Colour],
    ) -> None:
        super().__init__()
        self._view, self._on_changed, self._on_selected = view, on_changed, on_selected
        self._rows = DrawnRows(colour_of)
        self._changed_rows = ChangedRows(
            self._rows,
            displayed_axis=displayed_axis,
            owner_of_box=owner_of_box,
            owner_of_point=owner_of_point,
            on_refused=on_refused,
        )
        self._is_pressed = self._is_click = self._is_alt = False
        self._is_drawing = self._is_broken = self._is_selection = False
        self._pressed_view: object = None
        self._selected: frozenset[int] = frozenset()
        self._is_positive = True
        self._redraw_waits: Mapping[tuple[int, ...], Any] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(lambda: self._look())

    @property
    def is_busy(self) -> bool:
        """Whether something drawn has not been looked at yet."""
        return self._timer.isActive()

    def attach(self, workspace: Workspace | None) -> None:
        """Watch the layers of a workspace from now on, and no others."""
        if self._rows.shapes is not None:
            self._rows.shapes.events.data.disconnect(self._on_boxes)
            self._rows.shapes.events.highlight.disconnect(self._on_highlight)
            _discard(self._rows.shapes.mouse_drag_callbacks, self._press)
        if self._rows.points is not None:
            self._rows.points.events.data.disconnect(self._on_points)
            _discard(self._rows.points.mouse_drag_callbacks, self._press)
        self._timer.stop()
        self._rows.attach(workspace)
        self._is_pressed = self._is_drawing = self._is_broken = self._is_selection = False
        self._pressed_view, self._selected = None, frozenset()
        if self._rows.shapes is not None:
            self._rows.shapes.events.data.connect(self._on_boxes)
            self._rows.shapes.events.highlight.connect(self._on_highlight)
            self._rows.shapes.mouse_drag_callbacks.append(self._press)
        if self._rows.points is not None:
            self._rows.points.events.data.connect(self._on_points)
            self._rows.points.mouse_drag_callbacks.append(self._press)
            self._show_sign()

    def view_moved(self) -> None:
        """End a box that is being dragged when the view moves: napari cannot go on with it.

        A change of the tool is the public way to end it; it is refused when it is looked at.
        """
        shapes = self._rows.shapes
        if shapes is None or self._pressed_view is None or self._is_broken:
            return
        if self._view() != self._pressed_view:
            self._is_broken = True
            mode = shapes.mode
            shapes.mode = "pan_zoom"
            shapes.mode = mode

    def switch_sign(self) -> bool:
        """Make the next points negative, or positive again; whether they are positive now."""
        self._is_positive = not self._is_positive
        self._show_sign()
        return self._is_positive

    def _show_sign(self) -> None:
        if self._rows.points is None:
            return
        sign = POSITIVE if self._is_positive else NEGATIVE
        self._rows.points.feature_defaults = {"object": 0, "sign": sign}
        self._rows.points.selected_data = set()  # else the selected points change their colour
        self._rows.points.current_face_color = SIGN_COLOURS[sign]

    def prompts_of(
        self, leading: tuple[int, ...], object_id: int, axis: int
    ) -> ObjectPrompts | None:
        """Return what is drawn for an object; None where nothing says where it is.

        Raises
        ------
        PromptError
            The drawings contradict each other.
        """
        if self._rows.workspace is None:
            return None
        boxes = [r.drawn for r in self._rows.rows_of(leading, object_id)]
        points = [
            drawn_point(r.position, r.positive, axis, self._rows.workspace.shape_zyx)
            for r in self._rows.workspace.point_rows
            if r.object_id == object_id and leading_of_position(r.position) == leading
        ]
        return object_prompts(object_id, axis, boxes, points)

    def axis_of(self, leading: tuple[int, ...], object_id: int) -> int | None:
        """Return the axis that an object's boxes lie along, or None where it has none."""
        rows = self._rows.rows_of(leading, object_id)
        return rows[0].drawn.plane.axis if rows else None

    def show(self, leading: tuple[int, ...], prompts: Mapping[int, ObjectPrompts | None]) -> None:
        """Draw the prompts of the objects at a leading position, instead of what was there."""
        workspace, shapes, points = self._rows.workspace, self._rows.shapes, self._rows.points
        if workspace is None or shapes is None or points is None:
            return
        if self._is_pressed or self._is_drawing or self._timer.isActive():
            self._redraw_waits = {leading: dict(prompts)}  # what is drawn is looked at first
            return
        self._redraw_waits = None
        boxes = [r for r in workspace.box_rows if r.drawn.plane.leading != leading]
        dots = [r for r in workspace.point_rows if place_of(r) != leading]
        for object_id, given in prompts.items():
            if given is not None:
                boxes += [self._rows.box_row(b, given, leading) for b in given.boxes]
                dots += [self._rows.point_row(p, object_id, given, leading) for p in given.points]
        if _differ(boxes, workspace.box_rows, shapes):
            self._rows.write_boxes(boxes)
        if _differ(dots, workspace.point_rows, points):
            self._rows.write_points(dots)

    # -- what napari tells -------------------------------------------------------------------

    def _on_boxes(self, event: Any) -> None:
        if self._rows.is_writing:
            return
        action = str(getattr(event.action, "value", event.action))
        if action in ("added", "changed", "removed"):
            if action == "added":
                self._is_drawing = False
            self._timer.start()

    def _on_points(self, event: Any) -> None:
        action = str(getattr(event.action, "value", event.action))
        if not self._rows.is_writing and action in ("added", "changed", "removed"):
            self._timer.start()

    def _on_highlight(self, event: Any) -> None:
        """Notice another selection; napari tells of it only among what the mouse lies over."""
        shapes = self._rows.shapes
        if shapes is None:
            return
        selected = frozenset(shapes.selected_data)
        if selected == self._selected:
            return
        self._selected = selected
        if not self._rows.is_writing and str(shapes.mode) in _SELECTING_TOOLS:
            self._is_selection = True
            self._timer.start()

    def _press(self, layer: Any, event: Any) -> Iterator[None]:
        """Follow the mouse from press to release; napari calls it as a generator."""
        self._is_pressed, self._is_alt = True, "Alt" in event.modifiers
        self._is_click = True
        tool = str(layer.mode)
        if layer is not self._rows.shapes:
            tool = ""
        if tool in _CLICKED_TOOLS:
            self._is_drawing = True
        if tool in _DRAGGED_TOOLS:
            self._pressed_view = self._view()
        start = np.asarray(event.pos, dtype=float)
        yield
        while event.type == "mouse_move":
            if np.linalg.norm(np.asarray(event.pos, dtype=float) - start) >= CLICK_PX:
                self._is_click = False
            yield
        self._is_pressed, self._pressed_view = False, None
        if tool not in _DRAGGED_TOOLS:
            self._is_click = False
        self._timer.start()

    # -- what changed ------------------------------------------------------------------------

    def _look(self) -> None:
        if self._rows.workspace is None or self._is_pressed or self._is_drawing:
            return  # the end of the drag, or of the outline, looks again
        touched = self._changed_rows.take(Gesture(self._is_click, self._is_alt, self._is_broken))
        self._is_click = self._is_alt = self._is_broken = False
        self._tell_selection()
        if touched:
            self._on_changed(tuple(dict.fromkeys(touched)))
        elif self._redraw_waits is not None:
            for leading, prompts in self._redraw_waits.items():
                self.show(leading, prompts)

    def _tell_selection(self) -> None:
        """Tell of boxes that a person selected, where all are of one object."""
        shapes, is_selection = self._rows.shapes, self._is_selection
        self._is_selection = False
        if shapes is None or not is_selection:
            return
        owners = owners_of_boxes(shapes, self._selected)
        if len(owners) == 1:
            self._on_selected(owners.pop())


def _differ(rows: list[Any], known: list[Any], layer: Shapes | Points) -> bool:
    """Whether a layer must be written to hold these rows."""
    is_known = sorted(id(r) for r in rows) == sorted(id(r) for r in known)
    return not is_known or len(rows) != len(layer.data)


def _discard(callbacks: list[Any], callback: Any) -> None:
    if callback in callbacks:
        callbacks.remove(callback)
