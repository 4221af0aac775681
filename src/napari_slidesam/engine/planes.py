"""Objects' patches put together as planes and volumes, whatever axis each was drawn along.

::

    a plane of an object           its patch, where the object grew along the plane's axis;
                                   else one line of each of its patches
    + edits, in their order        the same plane: replaces all; a plane across: one line
    + objects, by id               the overlap rule says who owns a voxel of several

Every function works plane by plane: nothing but the output is ever allocated as a whole.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine.objects import PlaneMask
from napari_slidesam.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from napari_slidesam.engine.objects import ObjectState, SlicePatch


class OverlapRule(enum.StrEnum):
    """Who owns a voxel that several objects hold; the earlier object has the lower id."""

    KEEP = "keep"
    """The earlier object keeps its voxels."""
    OVERWRITE = "overwrite"
    """The later object takes them."""


def plane_axes(axis: int) -> tuple[int, int]:
    """Return the volume axes that are a plane's y and x."""
    y_axis, x_axis = (a for a in range(3) if a != axis)
    return y_axis, x_axis


def plane_shape(shape_zyx: tuple[int, int, int], axis: int) -> tuple[int, int]:
    """Return the shape (y, x) of the planes along an axis."""
    y_axis, x_axis = plane_axes(axis)
    return shape_zyx[y_axis], shape_zyx[x_axis]


def whole_plane(shape_zyx: tuple[int, int, int], axis: int) -> Region:
    """Return the region of a whole plane along an axis."""
    return Region(0, 0, *plane_shape(shape_zyx, axis))


def common_region(a: Region, b: Region) -> Region | None:
    """Return what two regions share, or None."""
    y0, x0, y1, x1 = max(a.y0, b.y0), max(a.x0, b.x0), min(a.y1, b.y1), min(a.x1, b.x1)
    return Region(y0, x0, y1, x1) if y1 > y0 and x1 > x0 else None


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """Where a patch of one axis cuts a plane of another.

    ``fixed`` is the plane's axis (0: y, 1: x) along which the line has one position, ``at``;
    along the other it holds ``values`` from ``start`` on. ``replaces``: the whole line of the
    plane is set, not only where ``values`` are.
    """

    fixed: int
    at: int
    start: int
    values: NDArray[np.bool_]
    replaces: bool

    @property
    def region(self) -> Region:
        """The part of the plane that ``values`` cover."""
        stop = self.start + self.values.size
        if self.fixed == 0:
            return Region(self.at, self.start, self.at + 1, stop)
        return Region(self.start, self.at, stop, self.at + 1)

    def draw(self, canvas: NDArray[np.bool_], frame: Region) -> None:
        """Draw the line into a canvas that covers ``frame`` of the plane."""
        first, origin = (frame.y0, frame.x0) if self.fixed == 0 else (frame.x0, frame.y0)
        rows = canvas if self.fixed == 0 else canvas.T
        if not 0 <= self.at - first < rows.shape[0]:
            return
        row = rows[self.at - first]
        if self.replaces:
            row[:] = False
        start = self.start - origin
        if self.values.any():
            row[start : start + self.values.size] |= self.values


def _cut(patch: SlicePatch, patch_axis: int, patch_index: int, axis: int, index: int) -> _Line:
    """Return the line where a patch cuts the plane ``index`` along another axis."""
    axes = plane_axes(patch_axis)
    along = axes.index(axis)  # the patch's own row (0) or column (1) that lies in the plane
    region = patch.region
    low, high = (region.y0, region.y1) if along == 0 else (region.x0, region.x1)
    fixed = plane_axes(axis).index(patch_axis)
    if not low <= index < high:
        return _Line(fixed, patch_index, 0, np.zeros(0, dtype=np.bool_), patch.is_edited)
    start = region.x0 if along == 0 else region.y0
    return _Line(fixed, patch_index, start, patch.line(along, index), patch.is_edited)


def object_plane(state: ObjectState, axis: int, index: int) -> PlaneMask | None:
    """Return an object's mask on one plane along any axis, or None where it is not."""
    edits = list(state.edits.items())
    keys = [key for key, _ in edits]
    patch: SlicePatch | None = None
    lines: list[_Line] = []
    if (axis, index) in state.edits:
        patch = state.edits[axis, index]
        edits = edits[keys.index((axis, index)) + 1 :]
    elif state.axis == axis:
        patch = state.slices.get(index)
    else:
        lines += [_cut(p, state.axis, i, axis, index) for i, p in state.slices.items()]
    lines += [_cut(p, a, i, axis, index) for (a, i), p in edits if a != axis]
    return _drawn(patch, lines)


def _drawn(patch: SlicePatch | None, lines: list[_Line]) -> PlaneMask | None:
    """Return a patch with lines drawn over it in their order."""
    regions = [line.region for line in lines if line.values.any()]
    if patch is not None and patch.n_voxels:
        if not lines:
            return PlaneMask(patch.region, patch.mask)
        regions.append(patch.region)
    if not regions:
        return None
    frame = regions[0]
    for region in regions[1:]:
        frame = frame.union(region)
    canvas = np.zeros(frame.shape_yx, dtype=np.bool_)
    if patch is not None and patch.n_voxels:
        canvas[patch.region.within(frame)] = patch.mask
    for line in lines:
        line.draw(canvas, frame)
    return PlaneMask(frame, canvas) if canvas.any() else None


def object_planes(state: ObjectState) -> Iterator[tuple[int, PlaneMask]]:
    """Yield the planes of an object along its own axis, in order, the empty ones left out."""
    indices = set(state.slices)
    for (axis, index), patch in state.edits.items():
        if axis == state.axis:
            indices.add(index)
        elif patch.n_voxels:
            along = plane_axes(axis).index(state.axis)
            region = patch.region
            indices |= set(range(*((region.y0, region.y1), (region.x0, region.x1))[along]))
    for index in sorted(indices):
        plane = object_plane(state, state.axis, index)
        if plane is not None:
            yield index, plane


def filled_slices(state: ObjectState) -> dict[int, tuple[int, Region]]:
    """Return the slices of an object along its own axis: voxels and bounding box of each.

    Slices without a voxel are left out.
    """
    if not state.has_cross_edits:
        patches = state.own_slices.items()
        return {i: (patch.n_voxels, patch.region) for i, patch in patches if patch.n_voxels}
    planes = object_planes(state)
    return {i: (int(np.count_nonzero(plane.mask)), _tight(plane)) for i, plane in planes}


def bounding_box(
    axis: int, slices: dict[int, tuple[int, Region]]
) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Return the half-open box around `filled_slices`, first corner and end, zyx."""
    if not slices:
        return None
    regions = [region for _, region in slices.values()]
    frame = regions[0]
    for region in regions[1:]:
        frame = frame.union(region)
    y_axis, x_axis = plane_axes(axis)
    first = {axis: min(slices), y_axis: frame.y0, x_axis: frame.x0}
    stop = {axis: max(slices) + 1, y_axis: frame.y1, x_axis: frame.x1}
    return (first[0], first[1], first[2]), (stop[0], stop[1], stop[2])


def _tight(plane: PlaneMask) -> Region:
    rows = np.flatnonzero(plane.mask.any(axis=1))
    cols = np.flatnonzero(plane.mask.any(axis=0))
    y0, x0 = plane.region.y0, plane.region.x0
    return Region(
        y0 + int(rows[0]), x0 + int(cols[0]), y0 + int(rows[-1]) + 1, x0 + int(cols[-1]) + 1
    )


def draw_object(out: NDArray[np.bool_], state: ObjectState) -> None:
    """Set an object's voxels in a volume of bool, zyx."""
    stack = np.moveaxis(out, state.axis, 0)
    for index, plane in object_planes(state):
        stack[index][plane.region.slices] |= plane.mask


def draw_labels(out: NDArray[Any], objects: Iterable[ObjectState], rule: OverlapRule) -> None:
    """Write the ids of objects, sorted by id, into a volume of zeros, zyx."""
    for state in objects:
        stack = np.moveaxis(out, state.axis, 0)
        for index, plane in object_planes(state):
            _write(stack[index][plane.region.slices], plane.mask, state.object_id, rule)


def draw_labels_plane(
    out: NDArray[Any],
    region: Region,
    objects: Iterable[ObjectState],
    axis: int,
    index: int,
    rule: OverlapRule,
) -> None:
    """Write the ids of objects, sorted by id, into zeros that cover a region of one plane."""
    for state in objects:
        plane = object_plane(state, axis, index)
        shared = None if plane is None else common_region(plane.region, region)
        if plane is not None and shared is not None:
            mask = plane.mask[shared.within(plane.region)]
            _write(out[shared.within(region)], mask, state.object_id, rule)


def _write(
    target: NDArray[Any], mask: NDArray[np.bool_], object_id: int, rule: OverlapRule
) -> None:
    if rule is OverlapRule.KEEP:
        mask = mask & (target == 0)
    target[mask] = object_id
