"""The rules of the segment dock, as functions of values: no Qt, no napari, no session.

Which object a new box belongs to
---------------------------------
1. No object is selected, or the selected one is accepted: a new object.
2. The box is on a slice, or along an axis, where the selected object cannot take it (its own
   box is on that slice): a new object.
3. The selected object is being edited (Re-edit): it goes to that object.
4. The box covers the selected object on that slice, or on the nearest slice of it when that is
   near: it repairs the object. Covers: the centre of one lies in the other.
5. Else a new object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.errors import PromptError
from napari_slidesam.intensity import Intensity
from napari_slidesam.prompts import ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_slidesam.geometry import Box
    from napari_slidesam.gui.drawing import DrawnBox
    from napari_slidesam.gui.state import SegmentSettings
    from napari_slidesam.prompts import PointPrompt

REPAIR_REACH = 3
"""Slices beyond the end of an object on which a box that covers it still repairs it."""

CLICK_PX = 3.0
"""A press that moves less far on the screen is a click, not a drag."""


@dataclass(frozen=True, slots=True)
class Target:
    """The selected object, as far as the rule above looks at it.

    Parameters
    ----------
    object_id : int
    axis : int
    box_slices : frozenset of int
        Slices that carry a box of it.
    boxes : mapping of int to Box
        Bounding boxes of its mask and of its own boxes, by slice.
    is_accepted, is_editing : bool
    """

    object_id: int
    axis: int
    box_slices: frozenset[int]
    boxes: Mapping[int, Box] = field(default_factory=dict)
    is_accepted: bool = False
    is_editing: bool = False


def owner_of_box(drawn: DrawnBox, target: Target | None) -> int | None:
    """Return the object that a new box belongs to, or None for a new one."""
    if target is None or target.is_accepted or drawn.plane.axis != target.axis:
        return None
    index = drawn.plane.slice_index
    if index in target.box_slices:
        return None
    if target.is_editing:
        return target.object_id
    if not target.boxes:
        return None
    nearest = min(target.boxes, key=lambda i: (abs(i - index), i))
    if abs(nearest - index) > REPAIR_REACH:
        return None
    return target.object_id if covers(drawn.box.box, target.boxes[nearest]) else None


def covers(a: Box, b: Box) -> bool:
    """Whether the centre of one box lies in the other."""
    return a.contains(*b.centre_yx) or b.contains(*a.centre_yx)


def object_prompts(
    object_id: int, axis: int, boxes: Sequence[DrawnBox], points: Sequence[PointPrompt]
) -> ObjectPrompts | None:
    """Return what is drawn for an object as its prompts; None where nothing says where it is.

    Raises
    ------
    PromptError
        The drawings contradict each other.
    """
    if not boxes and not any(p.positive for p in points):
        return None
    return ObjectPrompts(
        object_id,
        boxes=tuple(b.box for b in boxes),
        points=tuple(points),
        masks=tuple(b.mask for b in boxes if b.mask is not None),
        axis=axis,
    )


def same_prompts(a: ObjectPrompts | None, b: ObjectPrompts | None) -> bool:
    """Whether two objects' prompts ask for the same; masks are compared by identity."""
    if a is None or b is None:
        return a is b
    if (a.object_id, a.axis, set(a.boxes), set(a.points)) != (
        b.object_id,
        b.axis,
        set(b.boxes),
        set(b.points),
    ):
        return False
    return {id(m) for m in a.masks} == {id(m) for m in b.masks}


def run_config(
    settings: SegmentSettings, contrast_limits: tuple[float, float] | None
) -> PropagationConfig:
    """Return the options of a run from what is set in the panel."""
    config = PropagationConfig(
        z_range=settings.z_range,
        max_extent_slices=0 if settings.only_this_slice else settings.max_extent_slices,
        intensity=settings.intensity,
    )
    if settings.use_contrast_limits and contrast_limits is not None:
        low, high = contrast_limits
        if low < high:
            config = replace(config, intensity=Intensity("limits", float(low), float(high)))
    return config


def check_z_range(prompts: ObjectPrompts, z_range: tuple[int, int] | None) -> None:
    """Raise `PromptError` where a prompt lies outside the range of slices that may be entered."""
    if z_range is None:
        return
    outside = [i for i in prompts.slice_indices if not z_range[0] <= i < z_range[1]]
    if outside:
        raise PromptError(
            f"Slice {outside[0]} lies outside the range {z_range[0]} to {z_range[1] - 1} that is "
            "set in the panel: widen the range or draw inside it."
        )


def counted(n_objects: int) -> str:
    """Return "1 object" or "3 objects"."""
    return f"{n_objects} object{'' if n_objects == 1 else 's'}"


def listed(object_ids: Iterable[int]) -> str:
    """Return "object 3" or "objects 3, 4"."""
    ids = sorted(object_ids)
    return f"object{'s' if len(ids) > 1 else ''} {', '.join(str(i) for i in ids)}"
