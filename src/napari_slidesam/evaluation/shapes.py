"""Baselines that never look at the image: the box swept through the slices, and the ellipse.

Both know what a person knows who drew the boxes: that evenly spaced boxes on an object leave
half their distance at either end, and that things are about as deep as they are wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.objects import PlaneMask
from napari_slidesam.evaluation.tracing import Trace
from napari_slidesam.geometry import INDEX_TO_EDGE, Box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_slidesam.evaluation.tracing import BoxTask

_MIN_SIDE_PX = 1e-3
_EPSILON = 1e-9


def trace_box(task: BoxTask) -> Trace:
    """Sweep the box: as deep as its mean side, or straight between and beyond several boxes."""
    planes = {}
    for index, box, _ in _interpolated(task):
        region = box.outer_region(task.plane_shape_yx)
        inside = _inside_box(box, region.y0, region.x0, region.shape_yx)
        planes[index] = PlaneMask(region, inside)
    return Trace(planes)


def trace_ellipse(task: BoxTask) -> Trace:
    """Fill an ellipsoid of one box, or interpolated ellipses of several with rounded ends.

    One box gives the ellipsoid whose depth is the box's mean side (with the spacing). Several
    give ellipses in linearly interpolated boxes; beyond the outer boxes the ellipses shrink as
    the sections of the ellipsoid that is as long as the object.
    """
    planes = {}
    for index, box, scale in _interpolated(task, follow_slope=True):
        shrunk = _scaled(box, scale)
        region = shrunk.outer_region(task.plane_shape_yx)
        inside = inside_ellipse(shrunk, region.y0, region.x0, region.shape_yx)
        if inside.any():
            planes[index] = PlaneMask(region, inside)
    return Trace(planes)


def inside_ellipse(
    box: Box, y0: int, x0: int, shape_yx: tuple[int, int], share: float = 1.0
) -> NDArray[np.bool_]:
    """Return which pixels of a region have their centre in the ellipse that a box holds.

    Parameters
    ----------
    box : Box
    y0, x0 : int
        Where the region starts in the plane.
    shape_yx : tuple of 2 ints
        The region's lengths.
    share : float
        The ellipse's axes as a share of the box's sides.
    """
    cy, cx = box.centre_yx
    ys = (np.arange(shape_yx[0]) + y0 + INDEX_TO_EDGE - cy) / (share * box.height / 2)
    xs = (np.arange(shape_yx[1]) + x0 + INDEX_TO_EDGE - cx) / (share * box.width / 2)
    return (ys**2)[:, np.newaxis] + (xs**2)[np.newaxis, :] <= 1.0


def _inside_box(box: Box, y0: int, x0: int, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    ys = np.arange(shape_yx[0]) + y0 + INDEX_TO_EDGE
    xs = np.arange(shape_yx[1]) + x0 + INDEX_TO_EDGE
    rows, cols = (ys >= box.y0) & (ys < box.y1), (xs >= box.x0) & (xs < box.x1)
    return rows[:, np.newaxis] & cols[np.newaxis, :]


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far an object goes along the slices, in slices.

    ``cap`` from an outer prompted slice to the object's end, ``half`` half of its length.
    """

    cap: float
    half: float

    def section(self, beyond: float) -> float:
        """Return the ellipsoid's width ``beyond`` an outer prompted slice; there it is 1."""
        at_prompt = 1.0 - ((self.half - self.cap) / self.half) ** 2
        there = 1.0 - ((self.half - self.cap + beyond) / self.half) ** 2
        return math.sqrt(max(there, 0.0) / at_prompt)


def _reach(task: BoxTask) -> _Reach:
    slices = list(task.boxes)
    if len(slices) == 1:
        box = task.boxes[slices[0]]
        step, dy, dx = task.spacing_syx
        half = (box.height * dy + box.width * dx) / 4 / step
        return _Reach(half, half)
    gap = (slices[-1] - slices[0]) / (len(slices) - 1)
    return _Reach(gap / 2, gap * len(slices) / 2)


def _interpolated(task: BoxTask, follow_slope: bool = False) -> Iterator[tuple[int, Box, float]]:
    """Yield (slice, box, width of the rounded end) for all slices the boxes speak of.

    With ``follow_slope`` the centres go on beyond the outer boxes as between the outer two.
    """
    slices = np.array(list(task.boxes), dtype=float)
    boxes = np.array([box.yxyx for box in task.boxes.values()])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    reach = _reach(task)
    first = max(math.ceil(slices[0] - reach.cap + _EPSILON), 0)
    last = min(math.floor(slices[-1] + reach.cap - _EPSILON), task.n_slices - 1)
    # An object thinner than a slice is still on the slice that was prompted.
    for index in range(min(first, int(slices[0])), max(last, int(slices[-1])) + 1):
        beyond = max(slices[0] - index, index - slices[-1], 0.0)
        centre = [np.interp(index, slices, values) for values in centres.T]
        if follow_slope and beyond and len(slices) > 1:
            outer, inner = (0, 1) if index < slices[0] else (-1, -2)
            slope = (centres[outer] - centres[inner]) / abs(slices[outer] - slices[inner])
            centre = list(centres[outer] + beyond * slope)
        side = [np.interp(index, slices, values) for values in sides.T]
        start, stop = np.subtract(centre, np.divide(side, 2)), np.add(centre, np.divide(side, 2))
        box = Box(float(start[0]), float(start[1]), float(stop[0]), float(stop[1]))
        if box.clipped(task.plane_shape_yx) is not None:
            yield index, box, reach.section(beyond)


def _scaled(box: Box, scale: float) -> Box:
    cy, cx = box.centre_yx
    half_y = max(box.height * scale, _MIN_SIDE_PX) / 2
    half_x = max(box.width * scale, _MIN_SIDE_PX) / 2
    return Box(cy - half_y, cx - half_x, cy + half_y, cx + half_x)
