"""What is drawn in napari's layers as prompts, and prompts as drawings; numbers only.

Vertices are in index coordinates of a layer on the image's grid, shape (N, D): the axes before
z first, then z, y, x, or y, x alone for a 2D image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from skimage.draw import polygon2mask

from napari_slidesam.engine.planes import plane_axes, plane_shape
from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import INDEX_TO_EDGE, Box
from napari_slidesam.gui.layers import N_SPATIAL, Plane
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, PointPrompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SIDE_PX = 0.8
"""A smaller box is a slip of the mouse; one drawn around one pixel is about 1 wide."""

MAX_TILT_PX = 0.5
"""Vertices of one drawing lie on one slice."""

_ELLIPSE_VERTICES = 64
_OUTLINED = ("ellipse", "polygon", "path")


@dataclass(frozen=True, slots=True, eq=False)
class DrawnBox:
    """A drawing on one slice: a box, and a mask where an outline was drawn."""

    plane: Plane
    box: BoxPrompt
    mask: MaskPrompt | None = None


def drawn_box(
    vertices: NDArray[np.float64],
    kind: str,
    shape_zyx: tuple[int, int, int],
    displayed_axis: int,
) -> DrawnBox:
    """Return what a shape means.

    Parameters
    ----------
    vertices : ndarray of float, shape (N, D)
    kind : str
        ``rectangle``, ``ellipse``, ``polygon``, ``path`` or ``line``.
    shape_zyx : tuple of 3 ints
    displayed_axis : int
        Where the drawing leaves open which axis it lies across.

    Raises
    ------
    PromptError
        It is too small, outside the image, or not on one slice.
    """
    plane, corners_yx = _on_plane(np.asarray(vertices, dtype=float), shape_zyx, displayed_axis)
    shape_yx = plane_shape(shape_zyx, plane.axis)
    if kind == "ellipse":
        corners_yx = ellipse_outline(corners_yx)
    extent = np.ptp(corners_yx, axis=0)
    if min(extent) < MIN_SIDE_PX:
        raise PromptError(
            f"The drawing is only {extent[0]:.1f} x {extent[1]:.1f} pixels large: press and drag "
            "to draw a box around the object."
        )
    box = Box.from_corners((corners_yx + INDEX_TO_EDGE).tolist()).clipped(shape_yx)
    if box is None or min(box.height, box.width) < MIN_SIDE_PX / 2:
        raise PromptError("The drawing lies outside the image: draw it on the image.")
    mask: MaskPrompt | None = None
    if kind in _OUTLINED and len(corners_yx) >= N_SPATIAL:
        pixels = polygon2mask(shape_yx, corners_yx)
        if pixels.any():
            mask = MaskPrompt(plane.slice_index, pixels)
    return DrawnBox(plane, BoxPrompt(plane.slice_index, box), mask)


def _on_plane(
    vertices: NDArray[np.float64], shape_zyx: tuple[int, int, int], displayed_axis: int
) -> tuple[Plane, NDArray[np.float64]]:
    """Return the plane of a drawing and its vertices (y, x) in it."""
    count = max(0, vertices.shape[1] - N_SPATIAL)
    leading = tuple(round(float(v)) for v in vertices[:, :count].mean(axis=0))
    spatial = vertices[:, count:]
    missing = N_SPATIAL - spatial.shape[1]
    spatial = np.pad(spatial, ((0, 0), (missing, 0)))
    if not np.isfinite(spatial).all():
        raise PromptError("The drawing has a corner that is no number: draw it again.")
    tilt = np.ptp(spatial, axis=0)
    axis = displayed_axis if tilt[displayed_axis] < MAX_TILT_PX else int(np.argmin(tilt))
    if tilt[axis] >= MAX_TILT_PX:
        raise PromptError(
            "The drawing lies across several slices: keep the slider still while you draw."
        )
    index = round(float(spatial[:, axis].mean()))
    if not 0 <= index < shape_zyx[axis]:
        raise PromptError(
            f"The drawing is on slice {index}, but the image has slices 0 to "
            f"{shape_zyx[axis] - 1}: move the slider onto the image."
        )
    return Plane(axis, index, leading), spatial[:, plane_axes(axis)]


def ellipse_outline(corners_yx: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an ellipse as a polygon, from the four corners of the rectangle around it."""
    centre = corners_yx.mean(axis=0)
    first, second = (corners_yx[1] - corners_yx[0]) / 2, (corners_yx[3] - corners_yx[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_VERTICES, endpoint=False)[:, np.newaxis]
    outline: NDArray[np.float64] = centre + np.cos(angle) * first + np.sin(angle) * second
    return outline


def box_vertices(prompt: BoxPrompt, plane: Plane, ndim: int) -> NDArray[np.float64]:
    """Return the four corners of a box, as napari draws a rectangle; shape (4, ndim)."""
    y0, x0, y1, x1 = (v - INDEX_TO_EDGE for v in prompt.box.yxyx)
    out = np.empty((4, len(plane.leading) + N_SPATIAL))
    out[:, : len(plane.leading)] = plane.leading
    spatial = out[:, len(plane.leading) :]
    spatial[:, plane.axis] = prompt.slice_index
    y_axis, x_axis = plane_axes(plane.axis)
    spatial[:, y_axis], spatial[:, x_axis] = (y0, y0, y1, y1), (x0, x1, x1, x0)
    return out[:, out.shape[1] - ndim :]


def drawn_point(
    position: NDArray[np.float64], positive: bool, axis: int, shape_zyx: tuple[int, int, int]
) -> PointPrompt:
    """Return what a point means for an object along an axis.

    Raises
    ------
    PromptError
        It lies outside the image.
    """
    spatial = np.asarray(position, dtype=float)[-N_SPATIAL:]
    spatial = np.pad(spatial, (N_SPATIAL - len(spatial), 0))
    index = round(float(spatial[axis]))
    y, x = (float(spatial[a]) for a in plane_axes(axis))
    height, width = plane_shape(shape_zyx, axis)
    inside = -INDEX_TO_EDGE <= y < height - INDEX_TO_EDGE
    inside &= -INDEX_TO_EDGE <= x < width - INDEX_TO_EDGE
    if not (inside and 0 <= index < shape_zyx[axis]):
        raise PromptError("The point lies outside the image: click on the image.")
    return PointPrompt(index, y, x, positive)


def point_position(prompt: PointPrompt, plane: Plane, ndim: int) -> NDArray[np.float64]:
    """Return where a point is drawn; shape (ndim,)."""
    out = np.empty(len(plane.leading) + N_SPATIAL)
    out[: len(plane.leading)] = plane.leading
    spatial = out[len(plane.leading) :]
    spatial[plane.axis] = prompt.slice_index
    y_axis, x_axis = plane_axes(plane.axis)
    spatial[y_axis], spatial[x_axis] = prompt.y, prompt.x
    return out[len(out) - ndim :]


def leading_of_position(position: NDArray[np.float64]) -> tuple[int, ...]:
    """Return where a vertex stands on the axes before z."""
    return tuple(round(float(v)) for v in position[: max(0, len(position) - N_SPATIAL)])
