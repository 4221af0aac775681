"""When a mask may be trusted enough to slide on (Slide-SAM 2.4 and C.1), and the next box."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.compat import MIN_HANDED_PX
from napari_slidesam.engine.config import MAX_REQUIRED_PRESENCE
from napari_slidesam.engine.predictor import CENTRE
from napari_slidesam.engine.results import StopReason
from napari_slidesam.geometry import mask_to_box
from napari_slidesam.metrics import stability_score
from napari_slidesam.morphology import opened_box

if TYPE_CHECKING:
    from napari_slidesam.engine.appearance import Appearance
    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.engine.predictor import PlanePrediction
    from napari_slidesam.geometry import Box
    from napari_slidesam.model.patches import LogitPatch


def next_box(patch: LogitPatch, config: PropagationConfig, growth: float) -> Box | None:
    """Return the enlarged box of an opened mask: the next window's prompt (2.4).

    Parameters
    ----------
    patch : LogitPatch
        The end slice of the last window.
    config : PropagationConfig
    growth : float
        How many times the configured margin to enlarge by: thick slices change more from one
        to the next.

    Returns
    -------
    Box or None
        None where the mask is empty.
    """
    quirks = config.quirks
    if quirks.opened_masks and patch.mask.sum() <= MIN_HANDED_PX:
        return None
    margin = 0.0 if quirks.lopsided_margin else config.box_margin * growth
    return opened_box(patch.mask, patch.region, config.opening_radius_px, margin)


def distrust(
    prediction: PlanePrediction,
    before: LogitPatch | None,
    config: PropagationConfig,
    depth: float = 0.0,
    appearance: Appearance | None = None,
    doubt: float | None = None,
) -> StopReason | None:
    """Return why the centre slice of a window is not to be trusted, or None.

    Parameters
    ----------
    prediction : PlanePrediction
    before : LogitPatch, optional
        The object on the slice travelled from; None skips the drift guard.
    config : PropagationConfig
    depth : float
        Distance from the prompted slice over the depth expected there.
    appearance : Appearance, optional
        The object's look on the prompted slice; None skips that guard.
    doubt : float, optional
        See `required_presence`.
    """
    centre = prediction.patches[CENTRE]
    mask = centre.mask
    if not mask.any() or prediction.presence[CENTRE] < required_presence(depth, config, doubt):
        return StopReason.EMPTY
    if prediction.predicted_iou < config.min_predicted_iou:
        return StopReason.PREDICTED_IOU
    logits = centre.logits
    if config.quirks.window_stability:
        logits = np.stack([patch.logits for patch in prediction.patches])
    if stability_score(logits, config.stability_offset) < config.min_stability:
        return StopReason.STABILITY
    if before is not None and _drifted(before, centre, config):
        return StopReason.DRIFT
    if appearance is not None:
        likeness = appearance.likeness(prediction.centre_values, mask)
        if likeness < config.min_likeness:
            return StopReason.DRIFT
    return None


def overruled(
    reason: StopReason | None,
    presence: float,
    prediction: PlanePrediction,
    config: PropagationConfig,
) -> StopReason | None:
    """Return the reason that is left when a coarse look has been asked.

    Parameters
    ----------
    reason : StopReason, optional
        Of `distrust`.
    presence : float, range [0, 1]
        How sure the coarse look is of the object on the slice.
    prediction : PlanePrediction
    config : PropagationConfig
    """
    if reason is None:
        return StopReason.EMPTY if presence < config.coarse_absent else None
    is_sure = presence > config.coarse_present and prediction.patches[CENTRE].mask.any()
    return None if is_sure else reason


def required_presence(depth: float, config: PropagationConfig, doubt: float | None = None) -> float:
    """Return how sure a network must be of the object's presence at a depth.

    Parameters
    ----------
    depth : float
        Distance from the prompted slice over the depth expected there.
    config : PropagationConfig
    doubt : float, optional
        What each further time of that depth adds; ``config.depth_doubt`` without it.
    """
    doubt = config.depth_doubt if doubt is None else doubt
    wanted = config.min_presence + doubt * max(0.0, depth - 1.0)
    return max(config.min_presence, min(MAX_REQUIRED_PRESENCE, wanted))


def _drifted(before: LogitPatch, now: LogitPatch, config: PropagationConfig) -> bool:
    old, new = before.mask, now.mask
    area_old, area_new = int(old.sum()), int(new.sum())
    box = mask_to_box(old, before.region)
    if box is None:
        return False
    # Areas of a few pixels jump by large factors without meaning.
    ratio = (max(area_old, area_new) + 4) / (min(area_old, area_new) + 4)
    if ratio > config.max_area_ratio:
        return True
    y_old, x_old = (float(v.mean()) for v in np.nonzero(old))
    y_new, x_new = (float(v.mean()) for v in np.nonzero(new))
    shift = math.hypot(
        y_new + now.region.y0 - y_old - before.region.y0,
        x_new + now.region.x0 - x_old - before.region.x0,
    )
    return shift > config.max_centroid_shift * math.hypot(box.height, box.width)
