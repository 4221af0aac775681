"""What enters a session, checked: prompts, results and labels painted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine.planes import plane_shape
from napari_slidesam.errors import SessionError
from napari_slidesam.prompts import MaskPrompt, ObjectPrompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.engine.objects import ObjectState
    from napari_slidesam.engine.results import SliceResult


def check_prompts(prompts: ObjectPrompts, shape_zyx: tuple[int, int, int]) -> None:
    """Raise `PromptError` where a prompt does not lie in the volume."""
    prompts.check_against(shape_zyx[prompts.axis], plane_shape(shape_zyx, prompts.axis))


def check_result(result: SliceResult, state: ObjectState, shape_zyx: tuple[int, int, int]) -> None:
    """Raise `SessionError` where a streamed result fits neither the volume nor the object."""
    what = f"The result for object {result.object_id}, slice {result.slice_index}"
    if result.axis not in (0, 1, 2) or not 0 <= result.slice_index < shape_zyx[result.axis]:
        raise SessionError(
            f"{what} along axis {result.axis} does not lie in the session's volume of shape "
            f"{shape_zyx} (z, y, x). Propagate through the volume the session was made for."
        )
    height, width = plane_shape(shape_zyx, result.axis)
    region = result.region
    is_inside = 0 <= region.y0 <= region.y1 <= height and 0 <= region.x0 <= region.x1 <= width
    if not is_inside or result.mask.shape != region.shape_yx:
        raise SessionError(
            f"{what} has a mask of shape {result.mask.shape} at {region}, but the plane has shape "
            f"{(height, width)} (y, x). Propagate through the volume the session was made for."
        )
    if result.mask.dtype != np.bool_:
        raise SessionError(f"{what} needs a mask of bool; got {result.mask.dtype}.")
    if state.slices and result.axis != state.axis:
        raise SessionError(
            f"{what} lies along axis {result.axis}, but the object's slices lie along axis "
            f"{state.axis}: call begin_run or clear_slices before it grows along another axis."
        )


def checked_labels(labels: NDArray[Any], shape_yx: tuple[int, int]) -> NDArray[Any]:
    """Return labels painted by hand, or raise `SessionError` where they are no such plane."""
    painted = np.asarray(labels)
    if painted.shape != shape_yx or painted.dtype.kind not in "biu":
        raise SessionError(
            f"Painted labels are integers of shape {shape_yx} (y, x); got {painted.dtype} of "
            f"shape {painted.shape}."
        )
    if painted.min() < 0:
        raise SessionError(f"Painted labels are 0 or object ids; got {painted.min()}.")
    return painted


def run_prompts(
    state: ObjectState, shape_zyx: tuple[int, int, int], *, with_edits: bool
) -> ObjectPrompts:
    """Return the prompts to grow an object from.

    Parameters
    ----------
    state : ObjectState
    shape_zyx : tuple of 3 ints
    with_edits : bool
        Add the planes corrected by hand along the prompts' axis as mask prompts; they take
        the place of mask prompts of the same slices.

    Raises
    ------
    SessionError
        The object has no prompt.
    """
    prompts = state.prompts
    axis = state.axis if prompts is None else prompts.axis
    masks: dict[int, MaskPrompt] = {}
    if with_edits:
        for (edit_axis, index), patch in state.edits.items():
            if edit_axis == axis and patch.n_voxels:
                plane = np.zeros(plane_shape(shape_zyx, axis), dtype=np.bool_)
                plane[patch.region.slices] = patch.mask
                masks[index] = MaskPrompt(index, plane)
    if prompts is not None and not masks:
        return prompts
    if not masks:
        raise SessionError(
            f"Object {state.object_id} has no prompt to grow from: give it one by set_prompts, "
            "or draw it on a slice and begin the run with edits_as_prompts."
        )
    drawn = tuple(masks[index] for index in sorted(masks))
    if prompts is None:
        return ObjectPrompts(state.object_id, masks=drawn, axis=axis)
    kept = tuple(mask for mask in prompts.masks if mask.slice_index not in masks)
    return replace(prompts, masks=(*kept, *drawn))
