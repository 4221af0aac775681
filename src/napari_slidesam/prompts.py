"""What a person gives to say which object is meant: boxes, points and masks on slices.

A prompt belongs to one slice of a volume cut along one axis. The plane's own axes are the
volume's two other axes in their order: (y, x) for axis 0, (z, x) for axis 1, (z, y) for axis 2;
here they are always called y and x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import INDEX_TO_EDGE, Box, mask_to_box

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """A box around the object on one slice."""

    slice_index: int
    box: Box


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A click on the object (positive) or beside it (negative), in index coordinates."""

    slice_index: int
    y: float
    x: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.y) and math.isfinite(self.x)):
            raise PromptError(f"A point needs two finite numbers y, x; got {self.y}, {self.x}.")


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrompt:
    """The object's whole mask on one slice; shape (Y, X) of the plane, bool."""

    slice_index: int
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.ndim != 2:
            raise PromptError(f"A mask prompt needs 2 dimensions (y, x); got shape {mask.shape}.")
        if mask.dtype.kind not in "biu":
            raise PromptError(f"A mask prompt needs a bool or integer array; got {mask.dtype}.")
        mask = mask != 0
        if not mask.any():
            raise PromptError("A mask prompt is empty: it needs at least one pixel of the object.")
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPrompts:
    """All prompts of one object, on any slices along one axis.

    Parameters
    ----------
    object_id : int
        Positive; the object's value in a labels volume.
    boxes, points, masks : tuples of prompts
        At least one box, mask or positive point in all.
    axis : int
        The volume axis (0, 1 or 2) along which the slices lie.

    Raises
    ------
    PromptError
        No positive prompt, two boxes or two masks on one slice, or prompts that contradict.
    """

    object_id: int
    boxes: tuple[BoxPrompt, ...] = ()
    points: tuple[PointPrompt, ...] = ()
    masks: tuple[MaskPrompt, ...] = ()
    axis: int = 0

    def __post_init__(self) -> None:
        for name in ("boxes", "points", "masks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.object_id < 1:
            raise PromptError(f"An object id is a positive integer; got {self.object_id}.")
        if self.axis not in (0, 1, 2):
            raise PromptError(f"axis is 0, 1 or 2 (z, y or x); got {self.axis}.")
        if not self.anchor_slices:
            raise PromptError(
                f"Object {self.object_id} has nothing that says where it is: give a box, a mask "
                "or a positive point. Negative points alone only say where it is not."
            )
        for kind, prompts in (("boxes", self.boxes), ("masks", self.masks)):
            indices = [p.slice_index for p in prompts]
            twice = sorted({i for i in indices if indices.count(i) > 1})
            if twice:
                raise PromptError(
                    f"Object {self.object_id} has two {kind} on slice {twice[0]}: keep one, or "
                    "make the other a new object."
                )
        self._check_contradictions()

    @property
    def anchor_slices(self) -> tuple[int, ...]:
        """Sorted slices known to hold the object: those with a box, mask or positive point."""
        found = {b.slice_index for b in self.boxes} | {m.slice_index for m in self.masks}
        found |= {p.slice_index for p in self.points if p.positive}
        return tuple(sorted(found))

    @property
    def slice_indices(self) -> tuple[int, ...]:
        """Sorted slices with any prompt."""
        return tuple(sorted({*self.anchor_slices, *(p.slice_index for p in self.points)}))

    def box_on(self, slice_index: int) -> Box | None:
        """Return the box drawn on this slice, else the bounding box of its mask, else None."""
        for prompt in self.boxes:
            if prompt.slice_index == slice_index:
                return prompt.box
        mask = self.mask_on(slice_index)
        return None if mask is None else mask_to_box(mask)

    def mask_on(self, slice_index: int) -> NDArray[np.bool_] | None:
        """Return the mask given for this slice, if any."""
        for prompt in self.masks:
            if prompt.slice_index == slice_index:
                return prompt.mask
        return None

    def points_on(self, slice_index: int) -> tuple[PointPrompt, ...]:
        """Return the points on this slice."""
        return tuple(p for p in self.points if p.slice_index == slice_index)

    def check_against(self, n_slices: int, plane_shape_yx: tuple[int, int]) -> None:
        """Check that every prompt lies on a slice and touches its plane.

        Raises
        ------
        PromptError
            A slice does not exist, a box or point is outside, or a mask has another shape.
        """
        for index in self.slice_indices:
            if not 0 <= index < n_slices:
                raise PromptError(
                    f"Object {self.object_id} has a prompt on slice {index}, but the volume has "
                    f"slices 0 to {n_slices - 1} along axis {self.axis}."
                )
        for prompt in self.boxes:
            if prompt.box.clipped(plane_shape_yx) is None:
                raise PromptError(
                    f"The box {prompt.box.yxyx} on slice {prompt.slice_index} lies outside the "
                    f"plane of shape {plane_shape_yx} (y, x). Draw it on the image."
                )
        plane = Box(0.0, 0.0, float(plane_shape_yx[0]), float(plane_shape_yx[1]))
        for point in self.points:
            if not plane.contains(point.y + INDEX_TO_EDGE, point.x + INDEX_TO_EDGE):
                raise PromptError(
                    f"The point ({point.y}, {point.x}) on slice {point.slice_index} lies outside "
                    f"the plane of shape {plane_shape_yx} (y, x)."
                )
        for mask in self.masks:
            if mask.mask.shape != plane_shape_yx:
                raise PromptError(
                    f"The mask prompt on slice {mask.slice_index} has shape {mask.mask.shape}, "
                    f"but the plane has shape {plane_shape_yx} (y, x)."
                )

    def _check_contradictions(self) -> None:
        seen: dict[tuple[int, float, float], bool] = {}
        for point in self.points:
            key = (point.slice_index, point.y, point.x)
            if seen.setdefault(key, point.positive) != point.positive:
                raise PromptError(
                    f"Object {self.object_id}: the point ({point.y}, {point.x}) on slice "
                    f"{point.slice_index} is both positive and negative. Remove one."
                )
