"""Prompts made from the true mask, as a person would give them, by named protocol."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import EvaluationError
from napari_slidesam.geometry import Box, Region, mask_to_box
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts, PointPrompt

if TYPE_CHECKING:
    from napari_slidesam.evaluation.placed import PlacedMask

PROTOCOLS = ("1-box", "3-box", "5-box", "n-box", "1-point")
"""k boxes on evenly spaced slices, a box on every slice, or one point on the middle slice."""

BOX_JITTER = 0.05
"""Standard deviation of each box coordinate, as a share of the side along it."""

_N_BOXES = {"1-box": 1, "3-box": 3, "5-box": 5}
_MIN_SIDE_PX = 1.0


def make_prompts(
    protocol: str,
    truth: PlacedMask,
    *,
    volume_name: str,
    object_id: int,
    axis: int,
    plane_shape_yx: tuple[int, int],
    seed: int = 0,
    jitter: float = BOX_JITTER,
) -> ObjectPrompts:
    """Return the prompts of one object.

    A box depends on seed, volume, object and slice alone: the same slice gets the same box in
    every protocol.

    Parameters
    ----------
    protocol : str
        One of `PROTOCOLS`. Of the n slices that hold the object, k boxes take those at the
        shares (i + 0.5) / k; one box and one point thus the middle one.
    truth : PlacedMask
        Where the object truly is.
    volume_name : str
    object_id : int
    axis : int
        The volume's axis that the slices are along.
    plane_shape_yx : tuple of 2 ints
        Boxes are clipped to it.
    seed : int
    jitter : float
        See `BOX_JITTER`.

    Raises
    ------
    EvaluationError
        The protocol is unknown or the object has no voxel.
    """
    slices = truth.slice_indices
    if not slices:
        raise EvaluationError(
            f"{volume_name}: object {object_id} has no voxel, so no prompt can be made for it."
        )
    if protocol == "1-point":
        point = innermost_point(truth, slices[len(slices) // 2])
        return ObjectPrompts(object_id, points=(point,), axis=axis)
    boxes = []
    for index in _prompted_slices(protocol, slices):
        rng = np.random.default_rng(
            [seed, zlib.crc32(volume_name.encode("utf-8")), object_id, index]
        )
        box = jittered(_true_box(truth, index), rng, jitter, plane_shape_yx)
        boxes.append(BoxPrompt(index, box))
    return ObjectPrompts(object_id, boxes=tuple(boxes), axis=axis)


def check_protocol(protocol: str) -> None:
    """Raise `EvaluationError` where there is no such protocol."""
    if protocol not in PROTOCOLS:
        raise EvaluationError(f"A protocol is one of {', '.join(PROTOCOLS)}; got {protocol!r}.")


def jittered(
    box: Box, rng: np.random.Generator, share: float, plane_shape_yx: tuple[int, int]
) -> Box:
    """Return the box with noise on each coordinate, inside the plane, at least 1 px a side.

    Parameters
    ----------
    box : Box
        Inside the plane.
    rng : Generator
        Gives four normal numbers.
    share : float
        Standard deviation as a share of the box's side along the coordinate.
    plane_shape_yx : tuple of 2 ints
    """
    noise = rng.normal(0.0, share, 4) * (box.height, box.width, box.height, box.width)
    y0, x0, y1, x1 = np.add(box.yxyx, noise)
    (y0, y1), (x0, x1) = (
        _ordered_span(start, stop, length)
        for (start, stop), length in zip(((y0, y1), (x0, x1)), plane_shape_yx, strict=True)
    )
    return Box(y0, x0, y1, x1)


def innermost_point(truth: PlacedMask, slice_index: int) -> PointPrompt:
    """Return the pixel of the object on a slice that is furthest from its outline.

    The plane's rim is an outline too.
    """
    plane = truth.plane(slice_index)
    depth = ndimage.distance_transform_edt(np.pad(plane.mask[0], 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return PointPrompt(
        slice_index, y=float(y + plane.start_syx[1]), x=float(x + plane.start_syx[2])
    )


def _prompted_slices(protocol: str, slices: tuple[int, ...]) -> tuple[int, ...]:
    check_protocol(protocol)
    if protocol == "n-box":
        return slices
    n_boxes = min(_N_BOXES[protocol], len(slices))
    return tuple(slices[int((i + 0.5) * len(slices) / n_boxes)] for i in range(n_boxes))


def _true_box(truth: PlacedMask, slice_index: int) -> Box:
    plane = truth.plane(slice_index)
    _, y0, x0 = plane.start_syx
    _, height, width = plane.mask.shape
    box = mask_to_box(plane.mask[0], Region(y0, x0, y0 + height, x0 + width))
    assert box is not None, "only slices that hold the object are asked for"
    return box


def _ordered_span(start: float, stop: float, length: int) -> tuple[float, float]:
    start, stop = min(start, stop), max(start, stop)
    start, stop = max(start, 0.0), min(stop, float(length))
    if stop - start < _MIN_SIDE_PX:
        centre = min(max((start + stop) / 2, _MIN_SIDE_PX / 2), length - _MIN_SIDE_PX / 2)
        start, stop = centre - _MIN_SIDE_PX / 2, centre + _MIN_SIDE_PX / 2
    return float(start), float(stop)
