"""Batch apply: the same objects in many volumes, from boxes, one volume after the other."""

from __future__ import annotations

import csv
import io
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.session import Session
from napari_slidesam.engine.summary import CSV_COLUMNS, table_csv
from napari_slidesam.errors import FileFormatError, PromptError, SlideSamError
from napari_slidesam.io import read_volume, replacing_file, write_labels
from napari_slidesam.jobs.boxes import BoxesByVolume, boxes_of, read_boxes
from napari_slidesam.model.registry import load_model

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.engine.summary import ObjectRow
    from napari_slidesam.io import VolumeFile
    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import Volume

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.csv"
SUFFIX = ".nii.gz"
"""Of labels whose image is no file, or of a format that is not written."""

_KEPT_SUFFIXES = (
    ".ome.zarr", ".ome.tif", ".nii.gz", ".nii", ".tiff", ".tif", ".nrrd", ".npy", ".zarr",
)  # fmt: skip
_COMPOUND = (".nii.gz", ".ome.tiff", ".ome.tif", ".ome.zarr")


@dataclass(frozen=True, slots=True, eq=False)
class NamedVolume:
    """An open volume, such as a viewer's layer, with the name that its boxes are under."""

    name: str
    volume: Volume


@dataclass(frozen=True, slots=True)
class SlicesApplied:
    """Progress within one volume.

    Parameters
    ----------
    name : str
        The volume.
    number, n_volumes : int
        Which of how many, from 1.
    slices : int
        Done so far, over all its objects.
    """

    name: str
    number: int
    n_volumes: int
    slices: int


@dataclass(frozen=True, slots=True, eq=False)
class VolumeApplied:
    """One volume is done, or failed; the others go on.

    Parameters
    ----------
    name : str
    number, n_volumes : int
        Which of how many, from 1.
    seconds : float
    objects : tuple of ObjectRow
        The summary, as in a session's table.
    labels_path : Path, optional
        Where the labels were written.
    labels_zyx : ndarray of unsigned int, shape (Z, Y, X), optional
        The labels themselves, where no folder was given.
    error : str
        Why it failed, for people; empty where it did not.
    was_cancelled : bool
        The labels hold what was done until then.
    """

    name: str
    number: int
    n_volumes: int
    seconds: float
    objects: tuple[ObjectRow, ...] = ()
    labels_path: Path | None = None
    labels_zyx: NDArray[Any] | None = None
    error: str = ""
    was_cancelled: bool = False


ApplyEvent = SlicesApplied | VolumeApplied


def apply_to_volumes(
    model: WindowModel | str,
    volumes: Sequence[Path | NamedVolume],
    boxes: BoxesByVolume | Path,
    out: Path | None = None,
    *,
    adapter: Path | None = None,
    device: str = "auto",
    config: PropagationConfig | None = None,
    overwrite: bool = False,
    cancel: threading.Event | None = None,
) -> Iterator[ApplyEvent]:
    """Segment the same labels in many volumes.

    A volume that cannot be read, has no boxes or fails otherwise is told of and the next one
    comes. After each volume the summary is written anew.

    Parameters
    ----------
    model : WindowModel or str
        A network, or its name or path.
    volumes : sequence of Path or NamedVolume
        Files of any format that is read, and volumes that are open.
    boxes : mapping of str to sequence of ObjectPrompts, or Path
        By the volume's name, see `napari_slidesam.jobs.boxes`.
    out : Path, optional
        A folder, made where it is not there, that gets ``NAME_labels`` of each volume, in its
        format where that can be written, and ``summary.csv``. None: labels come with the events.
    adapter : Path, optional
        Folder of an adapter for a network that is given by name.
    device : str
        For a network that is given by name.
    config : PropagationConfig, optional
    overwrite : bool
        Replace labels that are there.
    cancel : threading.Event, optional
        Once set, the volume under way ends with what is done and no other begins.

    Yields
    ------
    SlicesApplied or VolumeApplied

    Raises
    ------
    PromptError
        There is no volume, two have one name, or the boxes cannot be understood.
    FileFormatError
        The boxes cannot be read, or the folder cannot be written.
    CheckpointError, DeviceError
        The network cannot be loaded.
    """
    given = read_boxes(boxes) if isinstance(boxes, Path) else boxes
    names = _checked_names(volumes)
    if out is not None:
        _make_folder(out)
    network = load_model(model, device, adapter=adapter) if isinstance(model, str) else model
    run = _Run(Predictor(network), given, out, config or PropagationConfig(), overwrite, cancel)
    finished: list[VolumeApplied] = []
    for number, (item, name) in enumerate(zip(volumes, names, strict=True), start=1):
        if cancel is not None and cancel.is_set():
            return
        for event in run.apply(item, name, number, len(volumes)):
            if isinstance(event, VolumeApplied):
                finished.append(event)
                if out is not None:
                    _write_summary(out / SUMMARY_FILE, finished)
            yield event


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What all volumes of one call share."""

    predictor: Predictor
    boxes: BoxesByVolume
    out: Path | None
    config: PropagationConfig
    overwrite: bool
    cancel: threading.Event | None

    def apply(
        self, item: Path | NamedVolume, name: str, number: int, n_volumes: int
    ) -> Iterator[ApplyEvent]:
        started = time.perf_counter()
        try:
            prompts = boxes_of(self.boxes, name, _stem(name))
            target = None if self.out is None else self._target(item, name)
            source = None if isinstance(item, NamedVolume) else read_volume(item)
            volume = source.volume if source is not None else _volume_of(item)
            session = Session.for_volume(
                volume, config=self.config, model_name=self.predictor.model.name, source=name
            )
            for done in self._grow(session, volume, prompts):
                yield SlicesApplied(name, number, n_volumes, done)
            labels = session.labels()
            path = None if target is None else self._write(target, labels, source)
        except SlideSamError as error:
            logger.warning("%s: %s", name, error)
            seconds = time.perf_counter() - started
            yield VolumeApplied(name, number, n_volumes, seconds, error=str(error))
            return
        yield VolumeApplied(
            name,
            number,
            n_volumes,
            time.perf_counter() - started,
            tuple(session.object_table()),
            path,
            labels if path is None else None,
            was_cancelled=self.cancel is not None and self.cancel.is_set(),
        )

    def _grow(
        self, session: Session, volume: Volume, prompts: Sequence[ObjectPrompts]
    ) -> Iterator[int]:
        for one in prompts:
            session.add_object(one)
        run = session.begin_run([p.object_id for p in prompts])
        seen: set[tuple[int, int]] = set()
        results = propagate(self.predictor, volume, run.prompts, run.config, cancel=self.cancel)
        for result in results:
            session.apply(result)
            seen.add((result.object_id, result.slice_index))
            yield len(seen)

    def _target(self, item: Path | NamedVolume, name: str) -> Path:
        assert self.out is not None, "asked for with a folder only"
        low = name.lower()
        suffix = next((s for s in _KEPT_SUFFIXES if low.endswith(s)), SUFFIX)
        is_file = isinstance(item, Path)
        target = self.out / f"{_stem(name)}_labels{suffix if is_file else SUFFIX}"
        if target.exists() and not self.overwrite:
            raise FileFormatError(
                f"{target} exists already. Choose another folder, or let it be overwritten."
            )
        return target

    def _write(self, target: Path, labels: NDArray[Any], source: VolumeFile | None) -> Path:
        return write_labels(target, labels, source, overwrite=self.overwrite)


def _volume_of(item: Path | NamedVolume) -> Volume:
    assert isinstance(item, NamedVolume), "paths are read"
    return item.volume


def _checked_names(volumes: Sequence[Path | NamedVolume]) -> list[str]:
    if not volumes:
        raise PromptError("There is nothing to apply to: give at least one volume.")
    names = [v.name for v in volumes]
    stems = [_stem(n) for n in names]
    twice = sorted({n for n, s in zip(names, stems, strict=True) if stems.count(s) > 1})
    if twice:
        raise PromptError(
            f"Two volumes are named {_stem(twice[0])}: their labels and boxes would be mixed up. "
            "Rename one, or apply in two runs."
        )
    return names


def _stem(name: str) -> str:
    """Return a file's name without its ending, or a layer's name as it is."""
    low = name.lower()
    suffix = next((s for s in (*_COMPOUND, *_KEPT_SUFFIXES) if low.endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(f"The folder {folder} cannot be made: {error}.") from error


def _write_summary(path: Path, finished: Sequence[VolumeApplied]) -> None:
    """Write one line an object, and one for each volume that failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "seconds", "error", *CSV_COLUMNS])
    for one in finished:
        start = [one.name, f"{one.seconds:.2f}", " ".join(one.error.split())]
        if not one.objects:
            writer.writerow([*start, *[""] * len(CSV_COLUMNS)])
            continue
        for row in csv.reader(io.StringIO(table_csv(one.objects).partition("\n")[2])):
            writer.writerow([*start, *row])
    with replacing_file(path, overwrite=True) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")
