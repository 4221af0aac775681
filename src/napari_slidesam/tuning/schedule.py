"""How far a run is, and the learning rate there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_slidesam.tuning.checkpoint_file import Progress
    from napari_slidesam.tuning.trainer import TrainerConfig

MIN_LEARNING_RATE = 1e-6
"""Added to the schedule, so that the last steps still move."""


def planned_steps(config: TrainerConfig, steps_per_epoch: int) -> int | None:
    """Return the optimiser steps that end the run, or None where only minutes do."""
    bounds = [] if config.steps is None else [config.steps]
    if config.epochs is not None:
        bounds.append(math.ceil(config.epochs * steps_per_epoch))
    return min(bounds, default=None)


def share_done(config: TrainerConfig, progress: Progress, steps_per_epoch: int) -> float:
    """Return the share of the run that is over, from 0 to 1, by its tightest bound."""
    steps = planned_steps(config, steps_per_epoch)
    by_steps = 0.0 if steps is None else _share(progress.step, steps)
    by_time = 0.0 if config.minutes is None else _share(progress.seconds, config.minutes * 60)
    return max(by_steps, by_time)


def learning_rate(config: TrainerConfig, step: int, done: float) -> float:
    """Return the rate of the next step: warm-up by steps, cosine by the share that is over.

    Parameters
    ----------
    config : TrainerConfig
    step : int
        Steps made so far.
    done : float, range [0, 1]
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 0.5 + 0.5 * math.cos(math.pi * done) if config.cosine else 1.0
    return config.learning_rate * warm * fall + MIN_LEARNING_RATE


def outlook(config: TrainerConfig, progress: Progress, steps_per_epoch: int) -> tuple[int, float]:
    """Return the steps of the whole run and the seconds left, estimated from those so far.

    Before the first step, 0 steps where only minutes end the run, and NaN seconds where nothing
    but steps does.
    """
    done = share_done(config, progress, steps_per_epoch)
    if progress.step and done:
        return round(progress.step / done), progress.seconds * (1 / done - 1)
    seconds = math.nan if config.minutes is None else config.minutes * 60 - progress.seconds
    return planned_steps(config, steps_per_epoch) or 0, seconds


def _share(value: float, bound: float) -> float:
    return 1.0 if bound <= 0 else min(1.0, value / bound)
