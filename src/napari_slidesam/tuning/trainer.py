"""One training loop for every network: a generator that yields reports.

The files of a run's folder are named in `napari_slidesam.tuning.training_run`.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.failures import NotFiniteError, out_of_memory_explained
from napari_slidesam.tuning.processes import processes_here
from napari_slidesam.tuning.schedule import learning_rate
from napari_slidesam.tuning.task import StepDraw
from napari_slidesam.tuning.training_run import TrainingRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from napari_slidesam.tuning.processes import Processes
    from napari_slidesam.tuning.task import StepReport, TrainingTask, Validate


@dataclass(frozen=True, slots=True)
class TrainerConfig:
    """How long and how to train. At least one of ``steps``, ``epochs``, ``minutes`` is given.

    Parameters
    ----------
    steps, epochs, minutes : optional
        Ends of the run, in optimiser steps, passes over the data, and minutes of training
        (pauses between resumed runs do not count; validation does). The tightest one sets the
        cosine of the learning rate and ends the run.
    batch_size : int
        Windows of one process in one micro-batch.
    accumulate : int
        Micro-batches of one optimiser step.
    learning_rate, betas, weight_decay
        Of AdamW; tensors of one dimension, such as biases and norms, do not decay.
    warmup_steps : int
        Steps in which the learning rate rises linearly.
    cosine : bool
        Let the learning rate fall to almost zero at the end, or leave it.
    clip_norm : float
        Largest norm of the gradient.
    ema_decay : float, optional
        Of the moving average of the weights; None: there is none.
    ema_every : int
        Steps between its updates.
    precision : str
        auto, float32, bfloat16 or float16.
    report_every : int
        Steps between reports.
    validate_every_steps, validate_every_minutes : optional
        Between validations; None: only before the first step and after the last.
    patience : int
        Validations without a better Dice that end the run; 0: never.
    least_gain : float
        Share of what the untouched network's Dice lacks to 1 that a step gains, or else is not
        kept.
    checkpoint_minutes : float
        Between checkpoints; each validation writes one, too.
    max_step_seconds : float
        What a step takes beyond this does not count as time of training: the machine slept, or
        the process was stopped.
    seed : int
        Of every random draw.
    identity : str
        What else a resumed run must share with its checkpoint, such as a digest of the data.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.1
    warmup_steps: int = 50
    cosine: bool = True
    clip_norm: float = 1.0
    ema_decay: float | None = None
    ema_every: int = 1
    precision: str = "auto"
    report_every: int = 10
    validate_every_steps: int | None = None
    validate_every_minutes: float | None = None
    patience: int = 0
    least_gain: float = 0.0
    checkpoint_minutes: float = 5.0
    max_step_seconds: float = 300.0
    seed: int = 0
    identity: str = ""

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None and self.minutes is None:
            raise TuningError(
                "A run ends after so many steps, epochs or minutes; none was given. Set one."
            )
        for name in ("batch_size", "accumulate", "report_every", "ema_every"):
            if getattr(self, name) < 1:
                raise TuningError(f"{name} is at least 1; got {getattr(self, name)}.")


def train(
    task: TrainingTask,
    out: Path,
    config: TrainerConfig,
    validate: Validate | None = None,
    *,
    resume: bool = True,
    should_stop: Callable[[], bool] | None = None,
    accelerator: Processes | None = None,
) -> Iterator[StepReport]:
    """Train a task's network, from the folder's checkpoint or from the beginning.

    Afterwards the network holds the weights of the best validation; without one, the moving
    average, or the last step's weights.

    Parameters
    ----------
    task : TrainingTask
        On its device. The parameters that require gradients are trained.
    out : Path
        Folder of the run; made where it is missing.
    config : TrainerConfig
    validate : Validate, optional
        Called before the first step, every so often and after the last, in the main process,
        with the weights of the moving average where there is one.
    resume : bool
        Go on from the folder's checkpoint where there is one; else begin anew, and replace it.
    should_stop : callable, optional
        Asked between steps; when true, a checkpoint is written and the run ends early.
    accelerator : accelerate.Accelerator, optional
        Of the processes that train together; None: those that were launched.

    Yields
    ------
    StepReport
        Every `TrainerConfig.report_every` steps, at each validation, and at the end. That of
        step 0, with the validation of the untouched network, has no loss (NaN).

    Raises
    ------
    TuningError
        The loss is not finite, memory or disk is full, or the checkpoint is of another run. The
        folder holds the last good checkpoint then: the same call goes on from it.
    """
    processes = accelerator if accelerator is not None else processes_here()
    run = TrainingRun(task, out, config, processes)
    network = processes.prepare_model(run.optimisation.loss)
    try:
        with out_of_memory_explained(config.batch_size):
            run.begin(resume=resume)
            yield from _steps(run, network, validate, should_stop)
            run.finish()
    except NotFiniteError as error:
        run.restore()
        raise NotFiniteError(
            f"{error} The weights of the last checkpoint in {out} are put back: resume with a "
            "smaller learning rate, or in float32."
        ) from error
    except BaseException:
        # A failure, Ctrl+C, or nobody wants more reports: what was trained is kept.
        run.save_what_is_whole()
        raise
    finally:
        run.close()


def _steps(
    run: TrainingRun,
    network: nn.Module,
    validate: Validate | None,
    should_stop: Callable[[], bool] | None,
) -> Iterator[StepReport]:
    task, config, processes = run.task, run.config, run.processes
    if validate is not None and run.progress.validated_step < 0:
        validation = run.validated(validate)
        run.save()
        yield run.report(validation)

    is_stopped = run.asks(should_stop)
    while not run.is_over and not is_stopped:
        started, step, done = time.monotonic(), run.progress.step, run.done
        run.optimisation.begin_step(learning_rate(config, step, done))
        network.train()
        for part in range(config.accumulate):
            number = step * config.accumulate + part
            draw = StepDraw(
                config.seed, number, processes.process_index, config.batch_size, progress=done
            )
            torch.manual_seed(step_seed(draw))  # of dropout
            batch = task.batch(draw)
            is_last = part == config.accumulate - 1
            with nullcontext() if is_last else processes.no_sync(network):
                loss, parts = network(batch)
                run.optimisation.backward(loss / config.accumulate)
            run.note(loss, parts)
        run.update(started)
        is_stopped = run.asks(should_stop)
        if run.is_over or is_stopped:
            break

        validation = None
        if validate is not None and run.is_validation_due:
            validation = run.validated(validate)
        if validation is not None or run.is_checkpoint_due:
            run.save()
        if validation is not None or run.progress.step % config.report_every == 0:
            yield run.report(validation)

    run.save()
    validation = None
    if validate is not None and not is_stopped and not run.is_validated:
        validation = run.validated(validate)
        run.save()
    if validation is not None or run.is_unreported:
        yield run.report(validation)


def step_seed(draw: StepDraw, stream: int = 0) -> int:
    """Return a seed for one micro-batch of one process.

    Parameters
    ----------
    draw : StepDraw
    stream : int
        Tells apart generators that are seeded for the same batch; the trainer's own is 0.
    """
    words = np.random.SeedSequence((draw.seed, draw.step, draw.process, stream))
    return int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))
