"""Simulated prompts in a plane's own pixels: drawn, corrected, looked at twice, handed on.

Slide-SAM, appendix C: a point or a box with equal probability, points uniformly from the mask,
boxes with noise of 10 % of the side's length, at most 20 pixels. What inference adds is
simulated, too: a second look with the mask of the first, points on what a person finds wrong,
and the box and masks that sliding hands on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import Box, mask_to_box
from napari_slidesam.model.sliding import BOX_MARGIN, CARRIED_CONFIDENCE, OPENING_RADIUS_PX
from napari_slidesam.morphology import opened_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.model.patches import LogitPatch

CENTRE = 1
"""Place of the prompted slice in a window."""


@dataclass(frozen=True, slots=True)
class PlanePromptConfig:
    """Shares and noise of simulated prompts.

    Parameters
    ----------
    box_share : float
        The others are a point (appendix C: 0.5).
    box_noise, box_noise_px : float
        Standard deviation of each side's place, over its length, and most it moves.
    slide_share : float
        Of the windows whose neighbours are labelled: prompts that sliding hands on.
    end_preference : float
        How much more often sliding goes on past the object's end, where it ends.
    carry_share : float
        Of those, how many are handed the masks, too, beside the box.
    drift_std : float
        Added to all logits of a prediction that is handed on, so that mask and box are too
        small or too large.
    corrective_share, max_corrections
        Of the other windows: how many get points on the error of the network's own answer,
        and how many points at most.
    second_look_share : float
        Of the other windows: how many are looked at again with their own mask as a prompt.
    """

    box_share: float = 0.5
    box_noise: float = 0.1
    box_noise_px: float = 20.0
    slide_share: float = 0.4
    end_preference: float = 3.0
    carry_share: float = 0.8
    drift_std: float = 0.5
    corrective_share: float = 0.25
    max_corrections: int = 2
    second_look_share: float = 0.4

    def __post_init__(self) -> None:
        shares = ("box_share", "slide_share", "carry_share", "corrective_share")
        for name in (*shares, "second_look_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise TuningError(f"{name} is a share from 0 to 1; got {getattr(self, name)}.")
        if self.max_corrections < 1:
            raise TuningError(f"max_corrections is at least 1; got {self.max_corrections}.")


@dataclass(frozen=True, slots=True, eq=False)
class PlanePrompt:
    """The prompts of one window, all on its centre slice, in plane pixels.

    Parameters
    ----------
    box : Box, optional
    points : tuple of (y, x, is positive)
        Index coordinates.
    masks : tuple of 3 LogitPatch or None
        What is known of top, centre and bottom.
    is_drawn : bool
        The box is a person's: the object is expected to fill it.
    """

    box: Box | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    masks: tuple[LogitPatch | None, LogitPatch | None, LogitPatch | None] = (None, None, None)
    is_drawn: bool = True


def drawn_prompt(
    mask: NDArray[np.bool_], config: PlanePromptConfig, rng: np.random.Generator
) -> PlanePrompt:
    """Return a prompt that a person would give for a mask that is not empty."""
    if rng.random() < config.box_share:
        return PlanePrompt(box=noisy_box(mask, config, rng))
    return PlanePrompt(points=((*_pixel_of(mask, rng), True),))


def noisy_box(mask: NDArray[np.bool_], config: PlanePromptConfig, rng: np.random.Generator) -> Box:
    """Return a mask's bounding box with noise in each coordinate, inside the plane."""
    box = mask_to_box(mask)
    assert box is not None, "only masks with an object are prompted"
    sides = np.array([box.height, box.width, box.height, box.width])
    noise = rng.normal(0, config.box_noise, 4) * sides
    y0, x0, y1, x1 = np.array(box.yxyx) + noise.clip(-config.box_noise_px, config.box_noise_px)
    height, width = mask.shape
    y0, y1 = _ordered(y0, y1, height)
    x0, x1 = _ordered(x0, x1, width)
    return Box(y0, x0, y1, x1)


def _ordered(start: float, stop: float, length: int) -> tuple[float, float]:
    """Return a side of at least a pixel inside the plane."""
    start = float(min(max(start, 0), length - 1))
    return start, float(min(max(stop, start + 1), length))


def _pixel_of(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    places = np.flatnonzero(mask)
    y, x = divmod(int(places[rng.integers(places.size)]), mask.shape[1])
    return float(y), float(x)


def corrected(
    prompt: PlanePrompt, truth: NDArray[np.bool_], found: LogitPatch, rng: np.random.Generator
) -> PlanePrompt:
    """Add a point on what is wrong, positive where the object was missed.

    Parameters
    ----------
    prompt : PlanePrompt
    truth : ndarray of bool, shape (Y, X)
        Of the whole plane.
    found : LogitPatch
        The network's answer; what lies outside its region is not corrected.
    rng : Generator
    """
    wanted = truth[found.region.slices]
    wrong = wanted != found.mask
    if not wrong.any():
        return prompt
    y, x = _pixel_of(wrong, rng)
    is_missed = bool(wanted[int(y), int(x)])
    point = (y + found.region.y0, x + found.region.x0, is_missed)
    return replace(prompt, points=(*prompt.points, point))


def second_look(prompt: PlanePrompt, found: LogitPatch) -> PlanePrompt:
    """Return the prompt with which a prompted slice is looked at again.

    The first mask becomes a mask prompt; where only points were given, its box a prompt, too.
    """
    box = prompt.box or mask_to_box(found.mask, found.region)
    if box is None or not found.mask.any():
        return prompt
    return replace(prompt, box=box, masks=(None, found, None))


def handed_on(
    centre: LogitPatch,
    end: LogitPatch,
    direction: int,
    plane_shape_yx: tuple[int, int],
    growth: float = 1.0,
    *,
    carry: bool = True,
) -> PlanePrompt | None:
    """Return the prompt that sliding makes of a window's answer, or None where it would stop.

    Parameters
    ----------
    centre, end : LogitPatch
        The window's answer on its centre and on the slice in the direction of travel, which is
        the next window's centre.
    direction : int
        -1 or 1.
    plane_shape_yx : tuple of 2 ints
    growth : float
        How many times the margin the box is enlarged by: thick slices change more.
    carry : bool
        Hand on the masks, too.
    """
    box = opened_box(end.mask, end.region, OPENING_RADIUS_PX, BOX_MARGIN * growth)
    box = None if box is None else box.clipped(plane_shape_yx)
    if box is None:
        return None
    masks: list[LogitPatch | None] = [None, None, None]
    if carry:
        masks[CENTRE - direction] = centre.scaled(CARRIED_CONFIDENCE)
        masks[CENTRE] = end.scaled(CARRIED_CONFIDENCE)
    return PlanePrompt(box=box, masks=(masks[0], masks[1], masks[2]), is_drawn=False)
