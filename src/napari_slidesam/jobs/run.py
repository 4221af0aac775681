"""Running a job: from its folder to an adapter, as a generator of events.

::

    job.json -> pairs -> split -> windows       DataChecked
                                  a few steps   Probed
             held out -> propagation            Validated (step 0: the untouched network)
                                  training      Stepped, Validated, preview.npz
                                  adapter/      Finished
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.errors import FileFormatError, SlideSamError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.jobs.adapter import save_finetuned
from napari_slidesam.jobs.checks import describe
from napari_slidesam.jobs.data import intensity_of, load_data
from napari_slidesam.jobs.events import Finished, JobEvent, Probed, StateChanged, Stepped, Validated
from napari_slidesam.jobs.probe import probe
from napari_slidesam.jobs.record import recorded
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
from napari_slidesam.tuning.finetune import FinetuneTask
from napari_slidesam.tuning.finetune_config import FinetuneConfig
from napari_slidesam.tuning.trainer import TrainerConfig, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from napari_slidesam.jobs.data import JobData
    from napari_slidesam.jobs.status import Ask
    from napari_slidesam.tuning.task import StepReport, ValidationReport

logger = logging.getLogger(__name__)

EMA_DECAY = 0.98
"""Of the weights that are validated and kept: fifty steps smooth what single windows do."""

VALIDATIONS = 10
"""Of a whole run, besides that of the untouched network."""

VALIDATION_SHARE = 0.25
"""Of the time of training that validations take at most, as far as it can be told before."""

INFERENCE_SHARE = 0.5
"""Time of a window in validation beside that of one in training, measured on a CPU."""

WARM_UP_SHARE = 0.1
MAX_WARM_UP_STEPS = 100
"""The first steps of AdamW are as large as any: too fast, they cost Dice that comes back late."""

CHECKPOINT_MINUTES = 2.0
REPORTS = 200
"""Of a whole run at most: each is a line of events and a point of the curves."""

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
        reports = train(
            task,
            self.folder / RUN_FOLDER,
            trainer_config(job, measured, data_identity(data), validator.n_windows),
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


def task_config(job: FinetuneJob) -> FinetuneConfig:
    """Return what a job trains, and on what."""
    return FinetuneConfig(
        rank=job.rank,
        alpha=job.alpha,
        dropout=job.dropout,
        train_decoder=job.train_decoder,
        gradient_checkpointing=job.gradient_checkpointing,
        # Windows an update, by which the trainer counts epochs.
        batch_size=job.batch_size * job.accumulate,
        intensity=intensity_of(job),
    )


def trainer_config(
    job: FinetuneJob,
    measured: Probed | None,
    identity: str = "",
    validated_windows: int = 0,
) -> TrainerConfig:
    """Return how a job trains.

    Parameters
    ----------
    job : FinetuneJob
    measured : Probed, optional
        How many steps there will be, for the warm-up and the distance of validations.
    identity : str
        Of the data.
    validated_windows : int
        Of one validation: where it takes long, there are fewer of them.

    Raises
    ------
    TuningError
        A setting is out of its range.
    """
    steps, seconds_per_step = (
        (1000, 1.0) if measured is None else (measured.total_steps, measured.seconds_per_step)
    )
    per_window = INFERENCE_SHARE * seconds_per_step / (job.batch_size * job.accumulate)
    between = max(
        steps * seconds_per_step / VALIDATIONS, validated_windows * per_window / VALIDATION_SHARE
    )
    is_timed = job.minutes is not None and steps * seconds_per_step >= job.minutes * 60
    return TrainerConfig(
        epochs=job.epochs,
        minutes=job.minutes,
        batch_size=job.batch_size,
        accumulate=job.accumulate,
        learning_rate=job.learning_rate,
        weight_decay=job.weight_decay,
        warmup_steps=min(MAX_WARM_UP_STEPS, max(1, round(WARM_UP_SHARE * steps))),
        ema_decay=EMA_DECAY,
        precision=job.precision,
        report_every=max(1, steps // REPORTS),
        # By steps where it can be, so that a resumed run validates where the first would have.
        validate_every_steps=None if is_timed else math.ceil(between / seconds_per_step),
        validate_every_minutes=between / 60 if is_timed else None,
        patience=job.patience,
        checkpoint_minutes=CHECKPOINT_MINUTES,
        seed=job.seed,
        identity=identity,
    )


def data_identity(data: JobData) -> str:
    """Return a digest of what is trained on: names, shapes, labels, parts and windows."""
    facts = [[p.name, list(p.shape_zyx), list(p.object_labels)] for p in data.pairs]
    parts = [[r.pair, r.axis, r.start, r.stop] for r in data.parts.train]
    text = json.dumps([facts, parts, len(data.windows)])
    return f"{len(data.windows)} windows, {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _loaded(job: FinetuneJob) -> Any:
    """Return the network that a job starts from; both kinds can be trained."""
    return load_model(job.model, job.device)


def _mask_before(path: Path, shape: tuple[int, ...]) -> Any:
    try:
        with np.load(path) as stored:
            before = np.asarray(stored["before"], dtype=bool)
    except (OSError, ValueError, KeyError):
        before = np.zeros(shape, dtype=bool)
    return before if before.shape == shape else np.zeros(shape, dtype=bool)


def _validated(report: ValidationReport) -> Validated:
    return Validated(report.step, report.dice, dict(report.dice_by_label), report.seconds)
