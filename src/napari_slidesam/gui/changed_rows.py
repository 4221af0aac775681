"""What a person changed in the boxes and points layers, found by comparing rows.

The rows of a layer are compared with those known before: one that is the same is kept, one that
carries an object's id was moved, one without an id is new and gets an owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import PromptError
from napari_slidesam.gui.drawing import DrawnBox, drawn_box, drawn_point
from napari_slidesam.gui.drawn_rows import NEGATIVE, DrawnRows, column, place_of
from napari_slidesam.gui.workspace import BoxRow, PointRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Owner = tuple[tuple[int, ...], int]
"""An object: its leading position and id."""


@dataclass(frozen=True, slots=True)
class Gesture:
    """How the mouse moved when something was drawn.

    Parameters
    ----------
    is_click : bool
        It was pressed and released without a drag.
    is_alt : bool
        Alt was down.
    is_broken : bool
        The view moved before it was released.
    """

    is_click: bool = False
    is_alt: bool = False
    is_broken: bool = False


class ChangedRows:
    """Brings rows up to date with what is in the layers.

    Parameters
    ----------
    rows : DrawnRows
    displayed_axis : callable
        The volume axis that the displayed planes lie along; raises `PromptError`.
    owner_of_box : callable
        Takes a new drawing, returns the id of the object that it belongs to.
    owner_of_point : callable
        Takes position and sign of a new point, returns the id of its object; raises
        `PromptError` where it can have none.
    on_refused : callable
        Takes a message for the person who drew.
    """

    def __init__(
        self,
        rows: DrawnRows,
        *,
        displayed_axis: Callable[[], int],
        owner_of_box: Callable[[DrawnBox], int],
        owner_of_point: Callable[[NDArray[np.float64], bool], int],
        on_refused: Callable[[str], None],
    ) -> None:
        self._rows, self._displayed_axis = rows, displayed_axis
        self._owner_of_box, self._owner_of_point = owner_of_box, owner_of_point
        self._on_refused = on_refused
        self._gesture = Gesture()

    def take(self, gesture: Gesture) -> list[Owner]:
        """Take over what changed; return the objects whose drawings did, some more than once."""
        self._gesture = gesture
        return [*self._look_at_boxes(), *self._look_at_points()]

    def _look_at_boxes(self) -> list[Owner]:
        shapes, workspace = self._rows.shapes, self._rows.workspace
        if shapes is None or workspace is None:
            return []
        left, rows, touched = list(workspace.box_rows), [], []
        is_written = True
        ids = column(shapes, "object")
        kinds = [str(getattr(k, "value", k)) for k in shapes.shape_type]
        changed: list[tuple[NDArray[np.float64], str, int]] = []
        for vertices, kind, object_id in zip(shapes.data, kinds, ids, strict=True):
            known = next((r for r in left if r.is_same(vertices, kind)), None)
            if known is None:
                changed.append((np.array(vertices, dtype=float), kind, object_id))
                continue
            left.remove(known)
            rows.append(known)
            is_written &= known.object_id == object_id
        for vertices, kind, object_id in changed:
            moved = next((r for r in left if object_id and r.object_id == object_id), None)
            row = self._changed_row(vertices, kind, object_id, moved, rows)
            if moved is not None:
                left.remove(moved)
            if row is not None:
                rows.append(row)
                touched.append((row.drawn.plane.leading, row.object_id))
            is_written &= row is not None and row.object_id == object_id and row is not moved
        touched += [(r.drawn.plane.leading, r.object_id) for r in left]
        workspace.box_rows = rows
        if not is_written or len(rows) != len(shapes.data):
            self._rows.write_boxes(rows)
        return touched

    def _changed_row(
        self,
        vertices: NDArray[np.float64],
        kind: str,
        object_id: int,
        moved: BoxRow | None,
        rows: list[BoxRow],
    ) -> BoxRow | None:
        """Return what became of a drawing that is new or was moved; None where it goes."""
        workspace = self._rows.workspace
        assert workspace is not None
        if object_id == 0 and self._gesture.is_broken:
            self._on_refused("The view moved while you drew: draw the box again.")
            return None
        if object_id == 0 and self._gesture.is_click:
            self._on_refused("Press and drag to draw a box around the object.")
            return None
        try:
            drawn = drawn_box(vertices, kind, workspace.shape_zyx, self._displayed_axis())
        except PromptError as error:
            self._on_refused(str(error))
            return moved
        same = [r for r in rows if r.object_id == object_id and object_id]
        is_taken = any(r.drawn.plane == drawn.plane for r in same)
        if object_id == 0 or is_taken or any(r.drawn.plane.axis != drawn.plane.axis for r in same):
            workspace.box_rows = rows  # so that the rule sees the boxes before this one
            object_id = self._owner_of_box(drawn)
        row = BoxRow(vertices, kind, drawn, object_id)
        self._rows.remember(row)
        return row

    def _look_at_points(self) -> list[Owner]:
        points, workspace = self._rows.points, self._rows.workspace
        if points is None or workspace is None:
            return []
        left, rows, touched = list(workspace.point_rows), [], []
        is_written = True
        table = zip(points.data, column(points, "sign"), column(points, "object"), strict=True)
        for position, sign, object_id in table:
            known = next(
                (
                    r
                    for r in left
                    if r.object_id == object_id
                    and r.positive == (sign != NEGATIVE)
                    and np.array_equal(r.position, position)
                ),
                None,
            )
            if known is not None:
                left.remove(known)
                rows.append(known)
                continue
            row = self._changed_point(np.array(position, dtype=float), sign, object_id)
            if row is None:
                is_written = False
                continue
            rows.append(row)
            touched.append((place_of(row), row.object_id))
            is_written &= row.object_id == object_id and not self._gesture.is_alt
        touched += [(place_of(r), r.object_id) for r in left]
        workspace.point_rows = rows
        if not is_written or len(rows) != len(points.data):
            self._rows.write_points(rows)
        return touched

    def _changed_point(
        self, position: NDArray[np.float64], sign: str, object_id: int
    ) -> PointRow | None:
        workspace = self._rows.workspace
        assert workspace is not None
        positive = sign != NEGATIVE
        if object_id == 0 and self._gesture.is_alt:
            positive = not positive
        try:
            axis = self._displayed_axis()
            drawn_point(position, positive, axis, workspace.shape_zyx)
            if object_id == 0:
                object_id = self._owner_of_point(position, positive)
        except PromptError as error:
            self._on_refused(str(error))
            return None
        return PointRow(position, positive, object_id)
