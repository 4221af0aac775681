"""What a job's settings mean for the trainer: the task, the schedule, the identity of its data."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING

from napari_slidesam.jobs.data import intensity_of
from napari_slidesam.jobs.validation import FEW_OBJECTS
from napari_slidesam.tuning.finetune_config import FinetuneConfig
from napari_slidesam.tuning.trainer import TrainerConfig

if TYPE_CHECKING:
    from napari_slidesam.jobs.data import JobData
    from napari_slidesam.jobs.events import Probed
    from napari_slidesam.jobs.spec import FinetuneJob

EMA_DECAY = 0.98
"""Of the weights that are validated and kept: fifty steps smooth what single windows do."""

VALIDATIONS = 10
"""Of a whole run, besides that of the untouched network."""

VALIDATION_SHARE = 0.25
"""Of the time of training that validations take at most, as far as it can be told before."""

INFERENCE_SHARE = 0.5
"""Time of a window in validation beside that of one in training, measured on a CPU."""

LEAST_GAIN_OF_FEW = 0.1
"""Share of what Dice lacks to 1: on few objects it changes by as much by chance."""

WARM_UP_SHARE = 0.1
MAX_WARM_UP_STEPS = 100
"""The first steps of AdamW are as large as any: too fast, they cost Dice that comes back late."""

CHECKPOINT_MINUTES = 2.0
REPORTS = 200
"""Of a whole run at most: each is a line of events and a point of the curves."""


def task_config(job: FinetuneJob) -> FinetuneConfig:
    """Return what a job trains, and on what."""
    return FinetuneConfig(
        rank=job.rank,
        alpha=job.alpha,
        dropout=job.dropout,
        train_encoder=job.train_encoder,
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
    validated_objects: int = 0,
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
    validated_objects : int
        Of one validation: where they are few, a step is kept only for a clear gain.

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
        least_gain=LEAST_GAIN_OF_FEW if validated_objects <= FEW_OBJECTS else 0.0,
        checkpoint_minutes=CHECKPOINT_MINUTES,
        seed=job.seed,
        identity=identity,
    )


def data_identity(data: JobData) -> str:
    """Return a digest of what is trained on: names, shapes, labels, parts and windows."""
    facts = [
        [p.name, list(p.shape_zyx), list(p.object_labels), sorted(p.unlabelled), p.complete]
        for p in data.pairs
    ]
    parts = [[r.pair, r.axis, r.start, r.stop] for r in data.parts.train]
    pseudo = [data.pseudo.volumes, data.pseudo.masks]
    text = json.dumps([facts, parts, len(data.windows), pseudo])
    return f"{len(data.windows)} windows, {hashlib.sha256(text.encode()).hexdigest()[:12]}"
