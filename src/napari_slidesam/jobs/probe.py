"""How long a training will take and how much memory, measured by a few of its own steps."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from napari_slidesam.jobs.events import Probed
from napari_slidesam.tuning.failures import out_of_memory_explained
from napari_slidesam.tuning.memory import peak_memory_bytes
from napari_slidesam.tuning.precision import autocast_dtype
from napari_slidesam.tuning.task import StepDraw

if TYPE_CHECKING:
    from napari_slidesam.tuning.task import TrainingTask
    from napari_slidesam.tuning.trainer import TrainerConfig

WARM_UP_STEPS = 1
TIMED_STEPS = 3
ENOUGH_SECONDS = 5.0
"""After so many seconds no further step is timed."""


def probe(task: TrainingTask, config: TrainerConfig) -> Probed:
    """Measure a few steps; the network's weights stay as they are.

    Parameters
    ----------
    task : TrainingTask
    config : TrainerConfig

    Raises
    ------
    TuningError
        Memory is full.
    """
    device = next(task.model.parameters()).device
    dtype = autocast_dtype(config.precision, device)
    was_training = task.model.training
    task.model.train()
    seconds: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), out_of_memory_explained(config.batch_size):
            for step in range(WARM_UP_STEPS + TIMED_STEPS):
                seconds.append(_timed_step(task, config, step, dtype, device))
                if sum(seconds) > ENOUGH_SECONDS:
                    break
    finally:
        for parameter in task.model.parameters():
            parameter.grad = None
        task.model.train(was_training)
    timed = seconds[WARM_UP_STEPS:] or seconds
    per_update = sum(timed) / len(timed) * config.accumulate
    total = planned_steps(config, task.steps_per_epoch, per_update)
    return Probed(total * per_update, peak_memory_bytes(device), per_update, total)


def planned_steps(config: TrainerConfig, steps_per_epoch: int, seconds_per_step: float) -> int:
    """Return the optimiser steps of a run: the tightest of its bounds."""
    bounds = [math.inf if config.steps is None else config.steps]
    if config.epochs is not None:
        bounds.append(math.ceil(config.epochs * steps_per_epoch))
    if config.minutes is not None:
        bounds.append(math.ceil(config.minutes * 60 / max(seconds_per_step, 1e-6)))
    return max(1, int(min(bounds)))


def _timed_step(
    task: TrainingTask,
    config: TrainerConfig,
    step: int,
    dtype: torch.dtype | None,
    device: torch.device,
) -> float:
    started = time.perf_counter()
    draw = StepDraw(config.seed, step, process=0, batch_size=config.batch_size)
    batch = task.batch(draw)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        loss = task.loss(batch).total
    loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
