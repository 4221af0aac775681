"""One way to run the trainings of the small networks: the coarse, the click and the outline one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from napari_slidesam.tuning.task import TrainingTask
from napari_slidesam.tuning.trainer import TrainerConfig, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from napari_slidesam.tuning.click_config import ClickTraining
    from napari_slidesam.tuning.coarse_config import CoarseTraining
    from napari_slidesam.tuning.outline_config import OutlineTraining
    from napari_slidesam.tuning.processes import Processes
    from napari_slidesam.tuning.task import StepReport, ValidationReport

MAX_STEP_SECONDS = 10.0
"""More than any step takes; what is beyond it does not count as time trained."""

REPORT_EVERY = 50


class SmallTask(TrainingTask, Protocol):
    """A task whose network may start from a file's weights."""

    def start_from(self, weights: Path) -> None:
        """Take the weights of a file instead of random ones."""

    def recall_start(self, out: Path) -> None:
        """Take over what a run that goes on says in its file about where it started from."""

    def validate(self, model: nn.Module, step: int) -> ValidationReport:
        """Judge a network that was trained for so many steps."""


def run_training(
    task: SmallTask,
    out: Path,
    config: TrainerConfig,
    processes: Processes,
    *,
    weights: Path | None,
    resume: bool,
    should_stop: Callable[[], bool] | None,
) -> Iterator[StepReport]:
    """Train a small network.

    Parameters
    ----------
    task : SmallTask
        Its network lies on the processes' device.
    out : Path
        Folder of the run.
    config : TrainerConfig
    processes : Processes
    weights : Path, optional
        To start from, instead of random ones.
    resume : bool
        Go on from the folder's checkpoint where there is one.
    should_stop : callable, optional
        Asked between steps; when true, a checkpoint is written and the run ends early.

    Yields
    ------
    StepReport

    Raises
    ------
    TuningError
        See `napari_slidesam.tuning.trainer.train`.
    CheckpointError
        ``weights`` cannot be read.
    """
    if weights is not None:
        task.start_from(weights)
    if resume:
        task.recall_start(out)
    yield from train(
        task,
        out,
        config,
        task.validate,
        resume=resume,
        should_stop=should_stop,
        accelerator=processes,
    )


def trainer_config(
    config: CoarseTraining | ClickTraining | OutlineTraining,
    identity: str = "",
    report_every: int = REPORT_EVERY,
) -> TrainerConfig:
    """Return the trainer's part of the settings of a small network."""
    return TrainerConfig(
        minutes=config.minutes,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        clip_norm=config.clip_norm,
        ema_decay=config.ema_decay,
        precision=config.precision,
        report_every=report_every,
        validate_every_minutes=config.validate_minutes,
        checkpoint_minutes=config.checkpoint_minutes,
        max_step_seconds=MAX_STEP_SECONDS,
        seed=config.seed,
        identity=identity,
    )
