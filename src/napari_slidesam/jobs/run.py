"""Running a job: from its folder to an adapter, as a generator of events.

::

    job.json -> pairs -> split -> windows       DataChecked
                                  a few steps   Probed
             held out -> propagation            Validated (step 0: the untouched network)
                                  training      Stepped, Validated, preview.npz
                                  adapter/      Finished
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.errors import FileFormatError, SlideSamError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.jobs.adapter import save_finetuned
from napari_slidesam.jobs.checks import describe
from napari_slidesam.jobs.data import intensity_of, load_data
from napari_slidesam.jobs.events import Finished, JobEvent, StateChanged, Stepped, Validated
from napari_slidesam.jobs.probe import probe
from napari_slidesam.jobs.record import recorded
from napari_slidesam.jobs.schedule import data_identity, task_config, trainer_config
from napari_slidesam.jobs.spec import (
    ADAPTER_FOLDER,
    EVENTS_FILE,
    PREVIEW_FILE,
    RUN_FOLDER,
    FinetuneJob,
)
from napari_slidesam.jobs.status import read_ask
from napari_slidesam.jobs.tail import EventTail
from napari_slidesam.jobs.validation import Preview, PropagationValidator
from napari_slidesam.model.registry import load_model
from napari_slidesam.tuning.checkpoint_file import clear_gain
from napari_slidesam.tuning.finetune import FinetuneTask
from napari_slidesam.tuning.trainer import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from napari_slidesam.jobs.status import Ask
    from napari_slidesam.tuning.task import StepReport, ValidationReport

logger = logging.getLogger(__name__)

PAUSED = "A checkpoint is kept; start it again to go on."


def run_job(
    folder: Path, *, ask: Callable[[], Ask] | None = None, raises: bool = False
) -> Iterator[JobEvent]:
    """Run the job of a folder, from the beginning or from its checkpoint.

    Each event is in the folder before it is yielded, and the status follows. Whatever fails
    becomes a last event that says what to do; what was trained is kept.

    Parameters
    ----------
    folder : Path
    ask : callable, optional
        Says between steps what is asked for; without it, what ``control.json`` says.
    raises : bool
        After that last event, raise what failed, too.

    Yields
    ------
    JobEvent

    Raises
    ------
    TuningError
        Another process runs this job.
    FileFormatError
        The folder cannot be written.
    """
    asked = partial(read_ask, folder) if ask is None else ask
    yield from recorded(folder, _told(folder, asked, raises))


def _told(folder: Path, ask: Callable[[], Ask], raises: bool) -> Iterator[JobEvent]:
    """Yield the events of a run; a failure is an event, too."""
    yield StateChanged("running")
    try:
        yield from _Run(folder, FinetuneJob.load(folder), ask).events()
    except SlideSamError as error:
        logger.info("failed", exc_info=True)
        yield StateChanged("failed", str(error))
        if raises:
            raise
    except MemoryError:
        logger.exception("failed")
        message = "Memory is full. Close programs, or lower the batch size, and start it again."
        yield StateChanged("failed", message)
        if raises:
            raise
    except Exception as error:
        logger.exception("failed")
        yield StateChanged(
            "failed",
            f"Something unexpected happened: {type(error).__name__}: {error}. The log says where. "
            "What was trained is kept: start it again to go on.",
        )
        if raises:
            raise


@dataclass(slots=True)
class _Run:
    """One run of a job in this process."""

    folder: Path
    job: FinetuneJob
    ask: Callable[[], Ask]
    asked: Ask = "run"
    validations: dict[int, Validated] = field(default_factory=dict)
    last_step: int = 0
    seconds: float = 0.0
    least_gain: float = 0.0

    def events(self) -> Iterator[JobEvent]:
        """Yield everything from the look at the data to the adapter."""
        job = self.job
        data = load_data(job, self.folder)
        assert data is not None, "nobody cancels it here"
        yield describe(data, job)
        if self._is_asked_to_end():
            yield self._ended_early()
            return
        task = FinetuneTask(_loaded(job), data.windows, task_config(job))
        measured = probe(task, trainer_config(job, None))
        yield measured
        validator = PropagationValidator(
            data.held_out,
            boxes=job.validation_boxes,
            seed=job.seed,
            config=PropagationConfig(intensity=intensity_of(job)),
        )
        self._take_up_validations()
        config = trainer_config(
            job, measured, data_identity(data), validator.n_windows, validator.n_objects
        )
        self.least_gain = config.least_gain
        reports = train(
            task,
            self.folder / RUN_FOLDER,
            config,
            _Previewed(validator, self.folder / PREVIEW_FILE) if validator.n_objects else None,
            should_stop=self._is_asked_to_end,
        )
        for report in reports:
            yield from self._told(report)
        if self.asked == "pause":
            yield self._ended_early()
            return
        finished = self._finished()
        folder = self.folder / ADAPTER_FOLDER
        save_finetuned(task.model, folder, job, data, finished, self.seconds)
        yield finished
        yield self._ended_early() if self.asked == "stop" else StateChanged("done")

    def _told(self, report: StepReport) -> Iterator[JobEvent]:
        self.last_step, self.seconds = report.step, report.seconds
        if math.isfinite(report.loss):
            yield Stepped.of(report)
        if report.validation is not None:
            validated = _validated(report.validation)
            self.validations[validated.step] = validated
            yield validated

    def _is_asked_to_end(self) -> bool:
        if self.asked == "run":
            self.asked = self.ask()
        return self.asked != "run"

    def _ended_early(self) -> StateChanged:
        if self.asked == "pause":
            return StateChanged("paused", PAUSED)
        return StateChanged("stopped", "Stopped; the best state so far is the adapter.")

    def _take_up_validations(self) -> None:
        """Know the validations of an earlier part of this run."""
        if not (self.folder / RUN_FOLDER).exists():
            return
        tail = EventTail(self.folder / EVENTS_FILE)
        while events := tail.read():
            self.validations |= {e.step: e for e in events if isinstance(e, Validated)}

    def _finished(self) -> Finished:
        adapter = str(self.folder / ADAPTER_FOLDER)
        if not self.validations:
            return Finished(adapter, {}, {}, self.last_step)
        first = self.validations[min(self.validations)]
        # The first of equals, as the trainer keeps it.
        best = max(self.validations.values(), key=lambda v: (v.dice, -v.step))
        if best.dice <= clear_gain(first.dice, self.least_gain):
            best = first
        return Finished(adapter, first.dice_by_label, best.dice_by_label, best.step)


@dataclass(frozen=True, slots=True, eq=False)
class _Previewed:
    """A validation that also draws the same slice before and after."""

    validator: PropagationValidator
    path: Path

    def __call__(self, model: nn.Module, step: int) -> ValidationReport:
        report = self.validator(model, step)
        preview = self.validator.preview
        if preview is not None:
            write_preview(self.path, preview, is_first=step == 0)
        return report


def write_preview(path: Path, preview: Preview, *, is_first: bool) -> None:
    """Replace the preview of a job; the mask before is that of the first one.

    A preview that cannot be written is logged: the training is worth more.
    """
    before = preview.found if is_first else _mask_before(path, preview.found.shape)
    try:
        with replacing_file(path, overwrite=True) as partial_file, partial_file.open("wb") as file:
            np.savez_compressed(
                file,
                image=preview.image.astype(np.float32),
                truth=preview.truth,
                before=before,
                after=preview.found,
                title=np.asarray(preview.title),
            )
    except FileFormatError as error:
        logger.warning("no preview: %s", error)


def _loaded(job: FinetuneJob) -> Any:
    """Return the network that a job starts from; both kinds can be trained."""
    return load_model(job.model, job.device)


def _mask_before(path: Path, shape: tuple[int, ...]) -> Any:
    try:
        with path.open("rb") as file, np.load(file) as stored:
            before = np.asarray(stored["before"], dtype=bool)
    except (OSError, ValueError, KeyError, BadZipFile):
        before = np.zeros(shape, dtype=bool)
    return before if before.shape == shape else np.zeros(shape, dtype=bool)


def _validated(report: ValidationReport) -> Validated:
    return Validated(report.step, report.dice, dict(report.dice_by_label), report.seconds)
