"""The state of a run, step by step, and the files it is kept in.

::

    checkpoint.pt      all that a resumed run needs
    best.safetensors   the weights of the best validation
    log.csv            a row for each report
    validation.csv     a row for each label of each validation
    curves.png         loss, Dice and learning rate
    events.out.*       the same for TensorBoard
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from napari_slidesam.errors import SlideSamError
from napari_slidesam.tuning.checkpoint_file import (
    BEST_FILE,
    CHECKPOINT_FILE,
    Checkpoint,
    Progress,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
    sweep,
)
from napari_slidesam.tuning.failures import NotFiniteError
from napari_slidesam.tuning.memory import peak_memory_bytes
from napari_slidesam.tuning.meter import Meter
from napari_slidesam.tuning.moving_average import averaged_weights
from napari_slidesam.tuning.optimisation import Optimisation
from napari_slidesam.tuning.processes import added_up
from napari_slidesam.tuning.run_identity import check_same_run, run_identity
from napari_slidesam.tuning.schedule import outlook, share_done
from napari_slidesam.tuning.task import ExportingTask, StepReport
from napari_slidesam.tuning.training_log import TrainingLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from napari_slidesam.tuning.moving_average import MovingAverage
    from napari_slidesam.tuning.processes import Processes
    from napari_slidesam.tuning.task import TrainingTask, Validate, ValidationReport
    from napari_slidesam.tuning.trainer import TrainerConfig

logger = logging.getLogger(__name__)


class TrainingRun:
    """What `napari_slidesam.tuning.trainer.train` works on.

    Parameters
    ----------
    task : TrainingTask
    out : Path
        The run's folder.
    config : TrainerConfig
    processes : Processes
    """

    def __init__(
        self, task: TrainingTask, out: Path, config: TrainerConfig, processes: Processes
    ) -> None:
        self.task, self.out, self.config, self.processes = task, out, config, processes
        self.optimisation = Optimisation(task, config)
        self.progress = Progress()
        self._log: TrainingLog | None = None
        self._meter = Meter()
        self._is_whole = False
        self._saved_seconds = 0.0
        self._identity = run_identity(self.optimisation, config)

    # Beginning and end.

    def begin(self, *, resume: bool) -> None:
        """Take up the folder's checkpoint, or begin anew.

        Raises
        ------
        TuningError
            The checkpoint is damaged or of another run, or nothing can be written.
        """
        path, is_main = self.out / CHECKPOINT_FILE, self.processes.is_main_process
        if is_main:
            self.out.mkdir(parents=True, exist_ok=True)
            sweep(self.out)
        self.processes.wait_for_everyone()
        found = load_checkpoint(path) if resume and path.is_file() else None
        self.processes.wait_for_everyone()
        if found is not None:
            check_same_run(path, found, self._identity)
            self._take(found)
            logger.info("going on from step %d", self.progress.step)
        elif self._average is not None:
            self._average.set_to(self.task.trained_state())
        if is_main:
            self._log = TrainingLog(self.out, self.progress.step if found is not None else None)
        self._is_whole = True
        if found is None:
            (self.out / BEST_FILE).unlink(missing_ok=True)
            self.save()

    def _take(self, found: Checkpoint) -> None:
        self.task.load_trained_state(found.trained)
        self.optimisation.load(found.optimizer, found.scaler)
        if self._average is not None and found.average is not None:
            self._average.set_to(found.average)
        self.progress = found.progress
        self._saved_seconds = found.progress.seconds

    def finish(self) -> None:
        """Leave the best weights in the network: by validation, or else the average's."""
        best = load_best(self.out)
        if best is not None:
            self.task.load_trained_state(best.state)
        elif self._average is not None:
            self.task.load_trained_state(self._average.state)

    def close(self) -> None:
        """Close the log's files."""
        if self._log is not None:
            self._log.close()

    @property
    def _average(self) -> MovingAverage | None:
        return self.optimisation.average

    # How far.

    @property
    def done(self) -> float:
        """The share of the run that is over, from 0 to 1."""
        return share_done(self.config, self.progress, self.task.steps_per_epoch)

    @property
    def is_over(self) -> bool:
        """Whether the planned end is reached, or validation has not improved for long."""
        return self.done >= 1 or 0 < self.config.patience <= self.progress.unimproved

    def asks(self, should_stop: Callable[[], bool] | None) -> bool:
        """Return whether somebody wants the run to stop; all processes are told the same."""
        return any(added_up(self.processes, float(should_stop is not None and should_stop())))

    # A step.

    def note(self, loss: torch.Tensor, parts: Mapping[str, float]) -> None:
        """Keep a micro-batch's loss for the report: the mean of all processes.

        Raises
        ------
        NotFiniteError
            It is not finite in one of them.
        """
        (total,) = added_up(self.processes, float(loss.detach()))
        mean = total / self.processes.num_processes
        if not math.isfinite(mean):
            raise NotFiniteError(f"The loss became {mean} at step {self.progress.step + 1}.")
        self._meter.add(mean, parts)

    def update(self, started: float) -> None:
        """Change the weights by the gradients of a step, and count it.

        Parameters
        ----------
        started : float
            When the step began, on the monotonic clock.
        """
        config, progress = self.config, self.progress
        self.optimisation.check_gradients()
        self._is_whole = False
        self.optimisation.update(progress.step + 1)
        (seconds,) = self._of_main(min(time.monotonic() - started, config.max_step_seconds))
        windows = config.batch_size * config.accumulate * self.processes.num_processes
        self.progress = replace(
            progress,
            step=progress.step + 1,
            windows=progress.windows + windows,
            seconds=progress.seconds + seconds,
        )
        self._is_whole = True

    def _of_main(self, *values: float) -> tuple[float, ...]:
        """Return the main process's numbers, in all processes."""
        is_main = self.processes.is_main_process
        return added_up(self.processes, *(v if is_main else 0.0 for v in values))

    # Validation.

    @property
    def is_validation_due(self) -> bool:
        """Whether it is time, by steps or by minutes."""
        config, progress = self.config, self.progress
        steps, minutes = config.validate_every_steps, config.validate_every_minutes
        since = progress.seconds - progress.validated_seconds
        return (steps is not None and progress.step - progress.validated_step >= steps) or (
            minutes is not None and since >= minutes * 60
        )

    @property
    def is_validated(self) -> bool:
        """Whether the last validation saw the weights as they are."""
        return self.progress.validated_step == self.progress.step

    def validated(self, validate: Validate) -> ValidationReport | None:
        """Validate in the main process, and keep the weights where they are the best so far.

        Returns
        -------
        ValidationReport or None
            None in all other processes.
        """
        started, judged, report = time.monotonic(), self.progress, None
        if self.processes.is_main_process:
            with averaged_weights(self.task, self._average):
                self.task.model.eval()
                report = validate(self.task.model, judged.step)
                judged = judged.after_validation(report.dice, self.config.least_gain)
                if judged.best_step == judged.step:
                    state = self.task.trained_state()
                    save_best(self.out / BEST_FILE, state, judged, self._facts())
        step, dice, unimproved, took = self._of_main(
            judged.best_step, judged.best_dice, judged.unimproved, time.monotonic() - started
        )
        seconds = self.progress.seconds + took
        self.progress = replace(
            self.progress,
            seconds=seconds,
            validated_step=self.progress.step,
            validated_seconds=seconds,
            best_step=int(step),
            best_dice=dice,
            unimproved=int(unimproved),
        )
        return report

    # Files.

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether it is time for one."""
        since = self.progress.seconds - self._saved_seconds
        return since >= self.config.checkpoint_minutes * 60

    def save(self) -> None:
        """Write a checkpoint, the task's own export and the curves, in the main process.

        Raises
        ------
        TuningError
            They cannot be written; the last checkpoint is as it was.
        """
        self._saved_seconds = self.progress.seconds
        if not self.processes.is_main_process:
            return
        checkpoint = Checkpoint(
            progress=self.progress,
            trained=self.task.trained_state(),
            optimizer=self.optimisation.optimizer.state_dict(),
            scaler=self.optimisation.scaler.state_dict(),
            average=None if self._average is None else self._average.state,
            identity=self._identity,
            config=asdict(self.config),
        )
        save_checkpoint(self.out / CHECKPOINT_FILE, checkpoint)
        if isinstance(self.task, ExportingTask):
            self.task.export(self.out, self._facts())
        if self._log is not None:
            self._log.draw()
        logger.info("saved at step %d", self.progress.step)

    def save_what_is_whole(self) -> None:
        """Write a checkpoint after a failure, unless that came in the middle of an update."""
        if not self._is_whole:
            return
        self.optimisation.optimizer.zero_grad(set_to_none=True)
        try:
            self.save()
        except (SlideSamError, OSError, RuntimeError) as error:
            logger.warning("the steps since the last checkpoint are lost: %s", error)

    def restore(self) -> None:
        """Put the weights of the last checkpoint back into the network."""
        self.task.load_trained_state(load_checkpoint(self.out / CHECKPOINT_FILE).trained)

    def _facts(self) -> dict[str, str]:
        return {
            "steps": str(self.progress.step),
            "windows": str(self.progress.windows),
            "minutes": f"{self.progress.seconds / 60:.1f}",
            "seed": str(self.config.seed),
        }

    # Reports.

    @property
    def is_unreported(self) -> bool:
        """Whether steps were made since the last report."""
        return len(self._meter) > 0

    def report(self, validation: ValidationReport | None = None) -> StepReport:
        """Return the means since the last report, and log them.

        Raises
        ------
        TuningError
            The log cannot be written.
        """
        progress, per_epoch = self.progress, self.task.steps_per_epoch
        total_steps, seconds_left = outlook(self.config, progress, per_epoch)
        loss, parts = self._meter.take()
        report = StepReport(
            step=progress.step,
            total_steps=total_steps,
            epoch=progress.step / max(1, per_epoch),
            windows=progress.windows,
            loss=loss,
            parts=parts,
            learning_rate=self.optimisation.rate,
            seconds=progress.seconds,
            seconds_left=seconds_left,
            peak_memory_bytes=peak_memory_bytes(self.optimisation.device),
            validation=validation,
        )
        if self._log is not None:
            self._log.add(report)
        return report
