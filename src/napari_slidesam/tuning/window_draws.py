"""All that is random about a window to train on, drawn before any network sees it.

A window is trained on with prompts of its own, or with those that sliding would hand on from
the window beside it. For that a fourth slice is read where the source knows it
(`SlidingSource`); else the last slice is repeated, as inference does at a volume's end::

    sliding arrives at a window            sliding leaves a window, perhaps past the object
        [ z-2  z-1  z ]     answers            [ z-1  z  z+1 ]         answers
             [ z-1  z  z+1 ]  is trained            [ z  z+1  z+2 ]    is trained
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.model.sliding import MAX_GROWTH
from napari_slidesam.tuning.plane_augment import SliceRun, augmented
from napari_slidesam.tuning.plane_prompts import CENTRE, drawn_prompt
from napari_slidesam.tuning.windows import SlidingSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.tuning.plane_augment import PlaneAugmentConfig
    from napari_slidesam.tuning.plane_prompts import PlanePrompt, PlanePromptConfig
    from napari_slidesam.tuning.windows import TrainingWindow, WindowSource

WindowKey = tuple[str, int, int, int]
"""Pair, axis, centre slice, and 0 or which side a slice is repeated on: says what is seen."""


@dataclass(frozen=True, slots=True, eq=False)
class DrawnWindow:
    """Three slices, what is known of them, and which slices of which volume they are."""

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    indicator: tuple[bool, bool, bool]
    key: WindowKey


@dataclass(frozen=True, slots=True, eq=False)
class WindowDraw:
    """One window of a batch.

    Parameters
    ----------
    window : DrawnWindow
        To train on.
    before : DrawnWindow, optional
        The one that sliding comes from; its answer prompts ``window``.
    direction : int
        -1 or 1: where sliding goes.
    prompt : PlanePrompt
        A person's, on the centre of ``before``, or else of ``window``.
    corrections : int
        Points to add on the errors of the network's own answers.
    looks_twice : bool
        The network's own mask becomes a prompt.
    carries : bool
        Sliding hands on masks, not only the box.
    growth : float
        See `napari_slidesam.tuning.plane_prompts.handed_on`.
    drift : float
        Added to the logits that are handed on.
    seed : int
        Of what is drawn only when the network has answered.
    """

    window: DrawnWindow
    before: DrawnWindow | None
    direction: int
    prompt: PlanePrompt
    corrections: int
    looks_twice: bool
    carries: bool
    growth: float
    drift: float
    seed: int


def draw_window(
    source: WindowSource,
    index: int,
    prompts: PlanePromptConfig,
    augment: PlaneAugmentConfig,
    rng: np.random.Generator,
) -> WindowDraw:
    """Return a window of the source, augmented, and all other draws."""
    base = source.read(index)
    slide = _slide(source, index, base, prompts, rng)
    run, is_reversed = augmented(SliceRun(slide.images, slide.masks), augment, rng)
    known = slide.indicator[::-1] if is_reversed else slide.indicator
    direction = -slide.direction if is_reversed else slide.direction
    last = len(run.images) - 3
    keys = slide.keys[::-1] if is_reversed else slide.keys

    def cut(start: int) -> DrawnWindow:
        span = slice(start, start + 3)
        indicator = (known[start], known[start + 1], known[start + 2])
        return DrawnWindow(run.images[span], run.masks[span], indicator, keys[start])

    window = cut(last if direction > 0 else 0)
    before = cut(0 if direction > 0 else last) if last else None
    prompted = window if before is None else before
    alone = before is None
    corrective = alone and rng.random() < prompts.corrective_share
    return WindowDraw(
        window=window,
        before=before,
        direction=direction,
        prompt=drawn_prompt(prompted.masks[CENTRE], prompts, rng),
        corrections=int(rng.integers(1, prompts.max_corrections + 1)) if corrective else 0,
        looks_twice=bool(rng.random() < prompts.second_look_share) and alone,
        carries=bool(rng.random() < prompts.carry_share),
        growth=float(rng.uniform(1.0, MAX_GROWTH)),
        drift=float(rng.normal(0, prompts.drift_std)),
        seed=int(rng.integers(2**62)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Slide:
    """Three slices, or four on which sliding goes one on; a key for each window of them."""

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    indicator: tuple[bool, ...]
    keys: tuple[WindowKey, ...]
    direction: int = 1


def _slide(
    source: WindowSource,
    index: int,
    base: TrainingWindow,
    config: PlanePromptConfig,
    rng: np.random.Generator,
) -> _Slide:
    key = (base.source, base.axis, base.slice_index, 0)
    chosen = _chosen_way(base, config, rng) if rng.random() < config.slide_share else None
    if chosen is None:
        return _Slide(base.images, base.masks, base.indicator, (key,))
    direction, side = chosen
    end = CENTRE + side
    beyond = source.read_next(index, side) if isinstance(source, SlidingSource) else None
    if beyond is None:
        image, mask, known, repeated = base.images[end], base.masks[end], base.indicator[end], side
    else:
        image, mask, known, repeated = (
            beyond.images[end],
            beyond.masks[end],
            beyond.indicator[end],
            0,
        )
    other = (base.source, base.axis, base.slice_index + side, repeated)
    if side > 0:
        images, masks = [*base.images, image], [*base.masks, mask]
        return _Slide(
            np.stack(images), np.stack(masks), (*base.indicator, known), (key, other), direction
        )
    images, masks = [image, *base.images], [mask, *base.masks]
    return _Slide(
        np.stack(images), np.stack(masks), (known, *base.indicator), (other, key), direction
    )


def _chosen_way(
    base: TrainingWindow, config: PlanePromptConfig, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return (direction of sliding, side of the fourth slice), or None where none is labelled."""
    ways: list[tuple[int, int]] = []
    weights = []
    for side in (-1, 1):
        if not base.indicator[CENTRE + side]:
            continue
        goes_on = bool(base.masks[CENTRE + side].any())
        ways.append((side, side))  # leaves the window on this side
        weights.append(1.0 if goes_on else config.end_preference)
        if goes_on:
            ways.append((-side, side))  # arrives from this side
            weights.append(1.0)
    if not ways:
        return None
    shares = np.array(weights) / sum(weights)
    return ways[int(rng.choice(len(ways), p=shares))]
