"""A job's data: pairs and pseudo-labels, what is trained on and what is held out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.intensity import Intensity
from napari_slidesam.jobs.pseudo import PseudoReport, mixed, pseudo_folders
from napari_slidesam.jobs.validation import HeldOut, held_out
from napari_slidesam.tuning.pair_files import pairs_from, read_pair
from napari_slidesam.tuning.pairs import looks_like_image
from napari_slidesam.tuning.pseudo_store import stores_in
from napari_slidesam.tuning.splits import GAP_SLICES, Region, region_arrays, split
from napari_slidesam.tuning.window_index import IndexReport, WindowIndex
from napari_slidesam.volume import AXIS_NAMES, Volume

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_slidesam.jobs.spec import FinetuneJob, PairSpec
    from napari_slidesam.tuning.pairs import TrainingPair
    from napari_slidesam.tuning.splits import Split
    from napari_slidesam.tuning.windows import WindowSource


@dataclass(frozen=True, slots=True, eq=False)
class JobData:
    """What a job works on.

    Parameters
    ----------
    pairs : tuple of TrainingPair
    parts : Split
    windows : WindowSource
        Those to train on, pseudo-labels among them.
    report : IndexReport
        Of the windows with real labels.
    held_out : tuple of HeldOut
        Those to validate on.
    pseudo : PseudoReport
        What of the windows are pseudo-labels.
    """

    pairs: tuple[TrainingPair, ...]
    parts: Split
    windows: WindowSource
    report: IndexReport
    held_out: tuple[HeldOut, ...] = ()
    pseudo: PseudoReport = field(default_factory=PseudoReport)

    def region_text(self, region: Region) -> str:
        """Return a region in words."""
        name = self.pairs[region.pair].name
        if region.axis is None:
            return name
        axis = AXIS_NAMES[region.axis]
        return f"{name}, slices {region.start} to {region.stop - 1} along {axis}"


def load_data(
    job: FinetuneJob, folder: Path, cancel: threading.Event | None = None
) -> JobData | None:
    """Return a job's data; None where it was cancelled meanwhile.

    Parameters
    ----------
    job : FinetuneJob
    folder : Path
        Of the job: its paths may be relative to it.
    cancel : threading.Event, optional
        Looked at between volumes.

    Raises
    ------
    TuningError
        There is no pair, or pairs, labels or axes cannot be used.
    FileFormatError, VolumeError
        A file cannot be read.
    """
    pairs = load_pairs(job, folder, cancel)
    if _is_set(cancel):
        return None
    parts = split(pairs, job.validation_share, job.seed, job.axes)
    real = _windows(pairs, parts, job)
    windows, pseudo = mixed(
        real,
        pseudo_folders(job.data, folder),
        [pairs[i] for i in sorted({region.pair for region in parts.validation})],
        axes=job.axes,
        intensity=real.intensity,
        whole_range=_has_whole_range(real.intensity),
    )
    if _is_set(cancel):
        return None
    kept = tuple(_held_out(pairs[region.pair], region, job) for region in parts.validation)
    return JobData(tuple(pairs), parts, windows, real.report, kept, pseudo)


def load_pairs(
    job: FinetuneJob, folder: Path, cancel: threading.Event | None = None
) -> list[TrainingPair]:
    """Return a job's pairs, with names that differ; pseudo-labels are none.

    Raises
    ------
    TuningError
        There is none, or one cannot be used.
    FileFormatError, VolumeError
        A file cannot be read.
    """
    pairs: list[TrainingPair] = []
    for spec in job.pairs:
        if _is_set(cancel):
            return pairs
        pairs.append(_pair(spec, folder, job))
    for source in job.data:
        if _is_set(cancel):
            return pairs
        if not stores_in(folder / source):
            pairs += pairs_from(folder / source, complete=job.complete)
    if not pairs:
        alone = " Pseudo-labels are mixed into real ones, not used alone." if job.data else ""
        raise TuningError(
            "There is nothing to train on: give the job at least one image with its labels, or a "
            f"folder of them.{alone}"
        )
    names: dict[str, int] = {}
    for i, pair in enumerate(pairs):
        names[pair.name] = names.get(pair.name, 0) + 1
        if names[pair.name] > 1:
            pairs[i] = replace(pair, name=f"{pair.name} ({names[pair.name]})")
    return pairs


def intensity_of(job: FinetuneJob) -> Intensity:
    """Return how a job maps stored values to grey values.

    Raises
    ------
    ConfigError
        It is no intensity.
    """
    return Intensity() if job.intensity is None else Intensity.from_dict(job.intensity)


def _pair(spec: PairSpec, folder: Path, job: FinetuneJob) -> TrainingPair:
    return read_pair(
        folder / spec.image,
        folder / spec.labels,
        spec.name,
        spec.spacing_zyx,
        spec.unlabelled,
        complete=spec.complete or job.complete,
    )


def _windows(pairs: list[TrainingPair], parts: Split, job: FinetuneJob) -> WindowIndex:
    intensity = intensity_of(job)
    try:
        return WindowIndex(
            pairs,
            axes=job.axes,
            labels=job.labels,
            intensity=intensity,
            regions=parts.train,
            whole_range=_has_whole_range(intensity),
        )
    except TuningError as error:
        hints = " ".join(image_like_labels(pairs))
        if not hints:
            raise
        raise TuningError(f"{error} {hints}") from error


def _has_whole_range(intensity: Intensity) -> bool:
    """Whether windows keep all values, as the task maps each view by its own percentiles."""
    return intensity == Intensity()


def image_like_labels(pairs: Iterable[TrainingPair]) -> Iterator[str]:
    """Yield a warning for each pair whose labels are rather an image."""
    for pair in pairs:
        if looks_like_image(pair.labels):
            yield (
                f"The labels of {pair.name!r} look like an image: they have many values, and "
                "neighbouring voxels differ. Check that image and labels are not swapped."
            )


def _held_out(pair: TrainingPair, region: Region, job: FinetuneJob) -> HeldOut:
    """Read what is held out; of a slab across z the gap beside it, too, which is not compared.

    So its ends look like the rest of the volume, and nothing that is trained on is seen.
    """
    flags = _labelled(pair)
    if region.axis == 0:
        flags[: region.start] = flags[region.stop :] = False
        start, stop = region.start - GAP_SLICES, region.stop + GAP_SLICES
        region = replace(region, start=max(0, start), stop=min(flags.size, stop))
        flags = flags[region.start : region.stop]
    image, labels = region_arrays(pair, region)
    volume = Volume(np.asarray(image[:]), pair.spacing_zyx)
    whole: Any = np.asarray(labels[:])
    return held_out(pair.name, volume, whole, job.axes[0], job.labels, flags)


def _labelled(pair: TrainingPair) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which slices along z are compared in validation.

    Where the slices that hold labels are a block without a hole, what lies beyond is taken as
    empty: objects end there. With holes, empty slices are not labelled.
    """
    filled = [z for z in range(pair.shape_zyx[0]) if z not in pair.empty]
    is_block = len(filled) == filled[-1] - filled[0] + 1
    if not is_block:
        return pair.labelled
    flags = np.ones(pair.shape_zyx[0], dtype=np.bool_)
    flags[sorted(pair.unlabelled)] = False
    return flags


def _is_set(cancel: threading.Event | None) -> bool:
    return cancel is not None and cancel.is_set()
