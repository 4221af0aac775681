"""What a job would train on, and what is doubtful about it, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.jobs.data import image_like_labels, load_data
from napari_slidesam.jobs.events import DataChecked

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_slidesam.jobs.data import JobData
    from napari_slidesam.jobs.spec import FinetuneJob
    from napari_slidesam.tuning.pairs import TrainingPair

FEW_WINDOWS = 50
"""Fewer are learnt by heart; a dozen labelled slices along three axes give more."""

LARGE_STEP_RATIO = 3.0
"""Spacings of two volumes that differ by more make objects look different."""

_NOTHING = DataChecked(0, 0, 0, (), {}, {})


def check_job(
    job: FinetuneJob, folder: Path, *, cancel: threading.Event | None = None
) -> DataChecked:
    """Look at a job's data without starting it.

    Reads all labels once, so it takes as long as that; images are looked at in a few slices.

    Parameters
    ----------
    job : FinetuneJob
    folder : Path
        Of the job: its paths may be relative to it. Nothing is written there.
    cancel : threading.Event, optional
        Once set, what is found so far is returned: nothing.

    Raises
    ------
    TuningError, FileFormatError, VolumeError
        The data cannot be trained on; the message says why and what to do.
    """
    data = load_data(job, folder, cancel)
    return _NOTHING if data is None else describe(data, job)


def describe(data: JobData, job: FinetuneJob) -> DataChecked:
    """Return what a job's data are, with warnings.

    Parameters
    ----------
    data : JobData
    job : FinetuneJob
    """
    report = data.report
    held_out = zip(data.parts.validation, data.held_out, strict=True)
    found = DataChecked(
        volumes=len(data.pairs),
        windows=report.windows,
        objects=report.objects,
        validation=tuple(
            f"{data.region_text(region)}: {_objects(len(source.case.object_ids or ()))}"
            for region, source in held_out
        ),
        labels={str(label): n for label, n in report.windows_by_label.items()},
        dropped=dict(report.dropped),
        pseudo_volumes=data.pseudo.volumes,
        pseudo_masks=data.pseudo.masks,
    )
    return replace(found, warnings=tuple(_warnings(found, data, job)))


def _warnings(found: DataChecked, data: JobData, job: FinetuneJob) -> Iterator[str]:
    yield from _label_warnings(data.pairs)
    if found.windows < max(FEW_WINDOWS, job.batch_size):
        yield (
            f"There are only {found.windows} windows to train on, so the network may learn them "
            f"by heart; {FEW_WINDOWS} and more are better. Label more slices or volumes, or "
            "slide along more axes."
        )
    if len(found.labels) == 1:
        (label,) = found.labels
        yield (
            f"Only one class is trained on: label {label}. If you mean several kinds of "
            "objects, give each a label of its own; if there is one kind, all is well."
        )
    yield from _split_warnings(data, job)
    yield from _spacing_warnings(data.pairs)
    if data.pseudo.left_out:
        yield (
            f"The pseudo-labels of {', '.join(data.pseudo.left_out)} are left out: the same image "
            "is held out, at least in part, and nothing of it may be seen in training."
        )


def _label_warnings(pairs: Sequence[TrainingPair]) -> Iterator[str]:
    yield from image_like_labels(pairs)
    for pair in pairs:
        middle = np.asarray(pair.image[pair.shape_zyx[0] // 2])
        if middle.size and middle.min() == middle.max():
            yield (
                f"The middle slice of the image of {pair.name!r} has the same value everywhere. "
                "Check that it is the image that you mean."
            )


def _split_warnings(data: JobData, job: FinetuneJob) -> Iterator[str]:
    objects = [i for source in data.held_out for i in source.case.object_ids or ()]
    if not data.parts.validation:
        yield (
            "Nothing is held out, so nobody can tell whether it helps, and the last state is "
            "kept instead of the best one. Hold out a share."
        )
    elif not objects:
        yield (
            "What is held out has no object that is large enough for a box, so nobody can tell "
            "whether it helps. Hold out a larger share, or choose another seed."
        )
    trained = data.report.windows_by_label
    missing = sorted({i for i in objects if i not in trained})
    if missing and len(trained) < len(missing):
        shown = ", ".join(map(str, missing[:5]))
        yield (
            f"Labels {shown} are held out but not trained on. That is as it should be where "
            "every object has a number of its own; if labels are classes, hold out less."
        )


def _spacing_warnings(pairs: Sequence[TrainingPair]) -> Iterator[str]:
    steps = np.array([pair.spacing_zyx for pair in pairs])
    ratios = steps.max(axis=0) / steps.min(axis=0)
    if (ratios > LARGE_STEP_RATIO).any():
        coarse = pairs[int(steps[:, int(ratios.argmax())].argmax())].name
        yield (
            f"The volumes' grids differ {ratios.max():.1f}-fold in spacing; {coarse!r} is the "
            "coarsest. Objects then look different: check the spacings, or train on volumes "
            "that are alike."
        )


def _objects(n: int) -> str:
    return f"{n} object" if n == 1 else f"{n} objects"
