"""A second opinion on a slice's outline, averaged with what the window network says.

The window network was trained to follow objects through slices; the outline look only to draw the
object in a box, at a resolution that goes with the box. Their errors differ. Not in the paper.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.geometry import Region, mask_to_box
from napari_slidesam.model.outline.look import ONE_GLANCE, OutlineQuestion
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch
from napari_slidesam.model.protocol import OutlineModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.engine.fusion import Fused
    from napari_slidesam.engine.object_run import ObjectRun
    from napari_slidesam.engine.predictor import PlanePrediction
    from napari_slidesam.geometry import Box
    from napari_slidesam.model.outline.look import OutlineView
    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.prompts import PointPrompt

SILENCE = 0.15
"""Around a click that it contradicts the look is not heard within about so much of the box's mean
side: the deviation of a Gaussian."""

DOUBT = 1 / 3
"""A slid slice's predicted IoU is multiplied by the look's opinion to this power."""


def with_outline(
    model: WindowModel, run: ObjectRun, anchor: int, box: Box, prediction: PlanePrediction
) -> PlanePrediction:
    """Return a prediction whose centre slice the outline look has drawn, too.

    Parameters
    ----------
    model : WindowModel
    run : ObjectRun
    anchor : int
        The prompted slice.
    box : Box
        Around the object there.
    prediction : PlanePrediction
        Of the window around that slice.

    Returns
    -------
    PlanePrediction
        Half of its predicted IoU is the network's, a quarter the one that the look expects and a
        quarter their masks' IoU. The same prediction where the network has no outline look, it is
        turned off or nothing was found. Around clicks that the look contradicts it is not heard.

    Raises
    ------
    VolumeError
        A slice cannot be read.
    """
    weight = run.config.outline_weight if run.config.outline_look else 0.0
    top, centre, bottom = prediction.patches
    if weight == 0 or not isinstance(model, OutlineModel) or not centre.mask.any():
        return prediction
    (view,) = model.outline.views([_question(run, anchor, box)])
    opinions = (_own_iou(view), centre.iou(view.patch))
    mixed = _mixed(centre, view.patch, weight, box, run.prompts.points_on(anchor))
    return replace(
        prediction,
        patches=(top, mixed, bottom),
        predicted_iou=(prediction.predicted_iou + sum(opinions) / 2) / 2,
    )


def outlined_slices(model: WindowModel, run: ObjectRun, indices: Sequence[int]) -> dict[int, Fused]:
    """Return what is found on finished slices, drawn by the outline look, too.

    The box is that of what the windows found together; between two prompted slices it is pulled
    towards the one interpolated between theirs, as the box that prompts a window is. Predicted IoUs
    are multiplied by a root of the look's opinion: the geometric mean of the IoU that it expects of
    its mask and of the two masks' IoU.

    Parameters
    ----------
    model : WindowModel
    run : ObjectRun
    indices : sequence of int
        Slices on which every vote is in.

    Returns
    -------
    dict of int to Fused
        Those slices of ``indices`` that sliding reached, where something was found. Empty where
        the network has no outline look or it is turned off.

    Raises
    ------
    VolumeError
        A slice cannot be read.
    """
    weight = run.config.slid_outline_weight if run.config.outline_look else 0.0
    if weight == 0 or not isinstance(model, OutlineModel):
        return {}
    found: dict[int, tuple[Fused, Box]] = {}
    for index in indices:
        if index not in run.anchors:
            fused = run.ballot.fused(index)
            box = mask_to_box(fused.patch.mask, fused.patch.region)
            if box is not None:
                found[index] = fused, _with_interpolation(run, index, box)
    questions = [_question(run, index, box) for index, (_, box) in found.items()]
    views = model.outline.views(questions, ONE_GLANCE)
    drawn = {}
    for (index, (fused, box)), view in zip(found.items(), views, strict=True):
        mixed = _mixed(fused.patch, view.patch, weight, box, run.prompts.points_on(index))
        if mixed.mask.any():
            opinion = math.sqrt(_own_iou(view) * fused.patch.iou(view.patch))
            trust = fused.predicted_iou * opinion**DOUBT
            drawn[index] = replace(fused, patch=mixed, predicted_iou=trust)
    return drawn


def _question(run: ObjectRun, index: int, box: Box) -> OutlineQuestion:
    """Return what is asked about a slice; at a volume's ends the last slice is repeated."""
    stack = run.slices.stack

    def near(offset: int, region: Region) -> NDArray[np.float32]:
        return run.slices.read(min(max(index + offset, 0), stack.n_slices - 1), region)

    return OutlineQuestion(box, stack.plane_shape_yx, near, run.prompts.points_on(index))


def _own_iou(view: OutlineView) -> float:
    """Return the IoU that the look expects of its mask; its quality is a Dice."""
    return view.quality / (2 - view.quality)


def _with_interpolation(run: ObjectRun, index: int, box: Box) -> Box:
    """Between two prompted slices, pull a box towards the interpolated one."""
    before = [i for i in run.anchors if i < index and i in run.anchor_boxes]
    after = [i for i in run.anchors if i > index and i in run.anchor_boxes]
    if not before or not after:
        return box
    return run.pulled_box(box, before[-1], after[0], index)


def _contradicts(patch: LogitPatch, point: PointPrompt) -> bool:
    """Whether a patch leaves out a positive click or holds a negative one."""
    y, x = round(point.y), round(point.x)
    there = patch.on(Region(y, x, y + 1, x + 1), fill=-LOGIT_LIMIT)[0, 0]
    return bool(there > 0) != point.positive


def _nearness(region: Region, point: PointPrompt, reach: float) -> NDArray[np.float32]:
    """Return how near each pixel of a region is to a click, from 1 there to 0 far away."""
    rows = np.exp(-(((np.arange(region.y0, region.y1) - point.y) / reach) ** 2) / 2)
    columns = np.exp(-(((np.arange(region.x0, region.x1) - point.x) / reach) ** 2) / 2)
    near: NDArray[np.float32] = (rows[:, None] * columns).astype(np.float32)
    return near


def _mixed(
    patch: LogitPatch, other: LogitPatch, weight: float, box: Box, points: Sequence[PointPrompt]
) -> LogitPatch:
    """Return the weighted mean of two patches' logits where the other one says something.

    It weighs nothing around points that it contradicts.
    """
    shares = np.full(patch.region.shape_yx, weight, dtype=np.float32)
    reach = SILENCE * math.sqrt(box.height * box.width)
    for point in points:
        if _contradicts(other, point):
            shares *= 1 - _nearness(patch.region, point, reach)
    logits = patch.logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)
    opinion = other.on(patch.region, fill=np.nan)
    shares = np.where(np.isnan(opinion), np.float32(0), shares)
    mixed = (1 - shares) * logits + shares * np.nan_to_num(opinion)
    return LogitPatch(patch.region, mixed.astype(np.float32, copy=False))
