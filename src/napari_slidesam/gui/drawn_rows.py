"""What is in the boxes and points layers: rows read, made of prompts, and written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.gui.drawing import (
    DrawnBox,
    box_vertices,
    leading_of_position,
    point_position,
)
from napari_slidesam.gui.layers import Plane
from napari_slidesam.gui.workspace import BoxRow, PointRow, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari.layers import Points, Shapes

    from napari_slidesam.prompts import BoxPrompt, ObjectPrompts

    Colour = tuple[float, float, float, float]

POSITIVE, NEGATIVE = "+", "-"
SIGN_COLOURS = {POSITIVE: "limegreen", NEGATIVE: "red"}


class DrawnRows:
    """The rows of one workspace's layers.

    Parameters
    ----------
    colour_of : callable
        Colour of an object.
    """

    def __init__(self, colour_of: Callable[[int], Colour]) -> None:
        self._colour_of = colour_of
        self.workspace: Workspace | None = None
        self.shapes: Shapes | None = None
        self.points: Points | None = None
        self.is_writing = False
        self._archive: dict[tuple[tuple[int, ...], int, BoxPrompt], BoxRow] = {}

    def attach(self, workspace: Workspace | None) -> None:
        """Read and write the layers of a workspace from now on, and no others."""
        self.workspace = workspace
        self.shapes = None if workspace is None else workspace.boxes
        self.points = None if workspace is None else workspace.points

    def remember(self, row: BoxRow) -> None:
        """Keep how a box was drawn, for when an undo brings it back."""
        self._archive[(row.drawn.plane.leading, row.drawn.plane.axis, row.drawn.box)] = row

    def rows_of(self, leading: tuple[int, ...], object_id: int) -> list[BoxRow]:
        """Return the boxes of an object at a leading position."""
        rows = [] if self.workspace is None else self.workspace.box_rows
        return [r for r in rows if r.object_id == object_id and r.drawn.plane.leading == leading]

    def box_row(self, box: BoxPrompt, prompts: ObjectPrompts, leading: tuple[int, ...]) -> BoxRow:
        """Return the row of a session's box, as it was drawn where that is known."""
        workspace, shapes = self.workspace, self.shapes
        assert workspace is not None
        assert shapes is not None
        mask = next((m for m in prompts.masks if m.slice_index == box.slice_index), None)
        for row in self.rows_of(leading, prompts.object_id):
            if row.drawn.box == box and row.drawn.mask is mask:
                return row
        plane = Plane(prompts.axis, box.slice_index, leading)
        drawn = DrawnBox(plane, box, mask)
        known = self._archive.get((leading, prompts.axis, box))
        if known is not None:
            return BoxRow(known.vertices, known.kind, drawn, prompts.object_id)
        vertices = box_vertices(box, plane, int(shapes.ndim))
        return BoxRow(vertices, "rectangle", drawn, prompts.object_id)

    def point_row(
        self, point: Any, object_id: int, prompts: ObjectPrompts, leading: tuple[int, ...]
    ) -> PointRow:
        """Return the row of a session's point, as it was set where that is known."""
        workspace, points = self.workspace, self.points
        assert workspace is not None
        assert points is not None
        plane = Plane(prompts.axis, point.slice_index, leading)
        position = point_position(point, plane, int(points.ndim))
        for row in workspace.point_rows:
            is_near = np.allclose(row.position, position, atol=0.5)
            if row.object_id == object_id and row.positive == point.positive and is_near:
                return row
        return PointRow(position, point.positive, object_id)

    def write_boxes(self, rows: list[BoxRow]) -> None:
        """Have the layer hold these boxes and no others."""
        shapes, workspace = self.shapes, self.workspace
        assert shapes is not None
        assert workspace is not None
        workspace.box_rows = rows
        colours = np.array([self._colour_of(r.object_id) for r in rows]).reshape(-1, 4)
        self.is_writing = True
        try:
            kept = [(r.vertices, r.kind) for r in rows]
            is_same = len(kept) == len(shapes.data) and all(
                np.array_equal(a, v) and str(k) == kind
                for (v, kind), a, k in zip(kept, shapes.data, shapes.shape_type, strict=True)
            )
            if not is_same:
                shapes.selected_data = set()
                shapes.data = kept
                shapes.edge_width = shapes.current_edge_width  # napari gives shapes it adds 1
                rows = [
                    replace(r, vertices=np.array(v)) for r, v in zip(rows, shapes.data, strict=True)
                ]
                workspace.box_rows = rows  # with the vertices as the layer rounds them
            shapes.features = {"object": np.array([r.object_id for r in rows], dtype=int)}
            shapes.feature_defaults = {"object": 0}
            if rows:
                shapes.edge_color = colours
            order = list(range(len(rows)))
            if [int(z) for z in shapes.z_index] != order:
                # napari shows shapes of other slices where these do not go up with the rows.
                shapes.z_index = order
            shapes.refresh()
        finally:
            self.is_writing = False

    def write_points(self, rows: list[PointRow]) -> None:
        """Have the layer hold these points and no others."""
        points, workspace = self.points, self.workspace
        assert points is not None
        assert workspace is not None
        workspace.point_rows = rows
        signs = [POSITIVE if r.positive else NEGATIVE for r in rows]
        sign = _default_sign(points)
        self.is_writing = True
        try:
            points.selected_data = set()
            points.data = np.array([r.position for r in rows]).reshape(-1, points.ndim)
            workspace.point_rows = [
                replace(r, position=np.array(v)) for r, v in zip(rows, points.data, strict=True)
            ]
            points.features = {
                "object": np.array([r.object_id for r in rows], dtype=int),
                "sign": np.array(signs, dtype=object),
            }
            points.feature_defaults = {"object": 0, "sign": sign}
            if rows:
                points.face_color = [SIGN_COLOURS[s] for s in signs]
            points.current_face_color = SIGN_COLOURS[sign]
        finally:
            self.is_writing = False


def place_of(row: PointRow) -> tuple[int, ...]:
    """Return where a point stands on the axes before z."""
    return leading_of_position(row.position)


def _default_sign(points: Points) -> str:
    defaults = points.feature_defaults
    return str(defaults["sign"].iloc[0]) if "sign" in defaults and len(defaults) else POSITIVE


def column(layer: Shapes | Points, name: str) -> list[Any]:
    """Return a feature of every row, with a default where a person removed it."""
    missing: Any = 0 if name == "object" else POSITIVE
    count = len(layer.data)
    if name not in layer.features:
        return [missing] * count
    values = [missing if v != v or v is None else v for v in layer.features[name]]
    if name == "object":
        values = [int(v) for v in values]
    return (values + [missing] * count)[:count]


def owners_of_boxes(shapes: Shapes, rows: Iterable[int]) -> set[tuple[tuple[int, ...], int]]:
    """Return the objects, by leading position and id, that rows of the boxes layer belong to."""
    ids = column(shapes, "object")
    return {
        (leading_of_position(shapes.data[row][0]), ids[row])
        for row in rows
        if row < len(ids) and ids[row]
    }
