"""Batch apply: which volumes, from which boxes, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Shapes

from napari_slidesam.errors import FileFormatError, PromptError, SlideSamError
from napari_slidesam.gui.compilers import leave_compiler_out
from napari_slidesam.gui.displayed import leading_of
from napari_slidesam.gui.finetune.drawn_boxes import boxes_by_volume
from napari_slidesam.gui.finetune.presenter import counted, duration
from napari_slidesam.gui.finetune.state import ApplyState, TargetRow
from napari_slidesam.gui.layers import (
    image_choices,
    new_labels_layer,
    spatial_shape,
    spatial_view,
    volume_of,
)
from napari_slidesam.gui.worker import Worker

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    import napari

    from napari_slidesam.gui.worker import Job
    from napari_slidesam.jobs.apply import ApplyEvent, NamedVolume, VolumeApplied
    from napari_slidesam.prompts import ObjectPrompts

LAYER, FILE = "layer:", "file:"
"""Prefixes of the keys of targets."""

OUT_FOLDER = "segmented"
"""Beside the first file, where no folder was chosen."""

_SUFFIXES = (".nii", ".nii.gz", ".tif", ".tiff", ".nrrd", ".npy", ".npz", ".zarr")


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What is applied to what; values only, so that a thread can have it."""

    model: str
    adapter: Path | None
    device: str
    layers: tuple[NamedVolume, ...]
    files: tuple[Path, ...]
    boxes: dict[str, Sequence[ObjectPrompts]] | Path
    out: Path | None

    @property
    def n_volumes(self) -> int:
        """How many volumes there are."""
        return len(self.layers) + len(self.files)


class Applying:
    """The part of the dock that segments other volumes.

    Parameters
    ----------
    viewer : napari.Viewer
    show_targets : callable
        Shows `TargetRow` lines.
    show_state : callable
        Shows an `ApplyState`.
    say : callable
        Shows a message, and whether it is an error.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        *,
        show_targets: Callable[[Sequence[TargetRow]], None],
        show_state: Callable[[ApplyState], None],
        say: Callable[[str, bool], None],
    ) -> None:
        self._viewer, self._say = viewer, say
        self._show_targets, self._show_state = show_targets, show_state
        self._files: list[str] = []
        self._off: set[str] = set()
        self._results: dict[str, tuple[str, bool]] = {}
        self._worker = Worker("slide-sam apply")
        self._job: Job | None = None
        self._done = 0

    @property
    def is_busy(self) -> bool:
        """Whether something is being segmented."""
        return self._worker.is_busy

    @property
    def boxes_layers(self) -> tuple[str, ...]:
        """Names of the layers that boxes can be taken from."""
        return tuple(layer.name for layer in self._viewer.layers if isinstance(layer, Shapes))

    def close(self) -> None:
        """Cancel, and end the thread."""
        self._worker.close()

    def rows(self) -> tuple[TargetRow, ...]:
        """Return the volumes as they are shown."""
        layers = [TargetRow(LAYER + c.name, c.name, False) for c in image_choices(self._layers())]
        files = [TargetRow(FILE + path, Path(path).name, True) for path in self._files]
        return tuple(
            replace(
                row,
                is_chosen=row.key not in self._off,
                result=self._results.get(row.key, ("", False))[0],
                is_error=self._results.get(row.key, ("", False))[1],
            )
            for row in (*layers, *files)
        )

    def show(self) -> None:
        """Show the volumes."""
        self._show_targets(self.rows())

    def add_paths(self, paths: Sequence[str]) -> None:
        """Add files; of a folder, the volumes in it."""
        found: list[str] = []
        for text in paths:
            path = Path(text)
            is_volume = path.name.lower().endswith(_SUFFIXES)
            inside = sorted(path.iterdir()) if path.is_dir() and not is_volume else [path]
            found += [str(p) for p in inside if p.name.lower().endswith(_SUFFIXES)]
        if not found:
            self._say(
                f"No volume was found: expected files ending in {', '.join(_SUFFIXES)}.", True
            )
        self._files += [path for path in found if path not in self._files]
        self.show()

    def toggle(self, key: str, is_chosen: bool) -> None:
        """Leave a volume out, or take it in again."""
        (self._off.discard if is_chosen else self._off.add)(key)

    def remove(self, key: str) -> None:
        """Take a file off the list."""
        if key.startswith(FILE):
            self._files = [path for path in self._files if FILE + path != key]
        else:
            self._off.add(key)
        self.show()

    def request(self, boxes: str, adapter: str, model: str, device: str, out: str) -> Request:
        """Return what is to be done, with the layers as they are now.

        Raises
        ------
        PromptError
            No volume is ticked, there are no boxes, or one of them is malformed.
        VolumeError
            A layer cannot be a volume.
        """
        from napari_slidesam.jobs.apply import NamedVolume

        chosen = [row for row in self.rows() if row.is_chosen]
        names = [row.name for row in chosen if not row.is_on_disk]
        files = [Path(row.key.removeprefix(FILE)) for row in chosen if row.is_on_disk]
        if not chosen:
            raise PromptError("No volume is ticked: open an image, or add files.")
        if not boxes:
            raise PromptError("There are no boxes: choose a Shapes layer, or a file of boxes.")
        layers = [self._viewer.layers[name] for name in names]
        dims = self._viewer.dims
        volumes = tuple(
            NamedVolume(str(layer.name), volume_of(layer, None, leading_of(dims, layer)))
            for layer in layers
        )
        given: dict[str, Sequence[ObjectPrompts]] | Path
        if boxes in self.boxes_layers:
            given = boxes_by_volume(self._viewer.layers[boxes], layers)
        else:
            given = Path(boxes)
        folder = Path(out) if out else files[0].parent / OUT_FOLDER if files else None
        path = Path(adapter) if adapter else None
        return Request(model, path, device, volumes, tuple(files), given, folder)

    def run(self, request: Request) -> None:
        """Segment one volume after another; labels come as they are done."""
        self._results.clear()
        self._done = 0
        self.show()
        self._show_state(ApplyState(True, "Loading the network …", 0.0))
        n_volumes = request.n_volumes

        def work(cancelled: threading.Event) -> Iterator[ApplyEvent]:
            yield from apply_all(request, cancelled)

        self._job = self._worker.submit(
            work, lambda event: self._on_event(event, n_volumes), self._on_done
        )

    def cancel(self) -> None:
        """Stop after the slice under way."""
        if self._job is not None:
            self._job.cancel()

    def _on_event(self, event: ApplyEvent, n_volumes: int) -> None:
        from napari_slidesam.jobs.apply import SlicesApplied

        if isinstance(event, SlicesApplied):
            text = f"{event.name}: {counted(event.slices, 'slice')}"
        else:
            self._done += 1
            self._take(event)
            text = f"{event.name}: {_result(event)}"
        share = self._done / n_volumes
        self._show_state(ApplyState(True, f"{self._done} of {n_volumes} · {text}", share))

    def _take(self, event: VolumeApplied) -> None:
        """Show what came of a volume; of a layer as a new labels layer."""
        path = next((p for p in self._files if Path(p).name == event.name), None)
        layer = next(
            (x for x in self._layers() if isinstance(x, Image) and x.name == event.name), None
        )
        key = LAYER + event.name if layer is not None else FILE + (path or event.name)
        if event.labels_path is not None and path is not None:
            key = FILE + path
        self._results[key] = (_result(event), bool(event.error))
        self.show()
        labels = event.labels_zyx
        if labels is None or layer is None:
            return
        if labels.shape != spatial_shape(layer):
            self._say(f"{event.name} was replaced meanwhile: its labels are dropped.", True)
            return
        added = new_labels_layer(layer, f"{event.name} applied")
        view = spatial_view(added, leading_of(self._viewer.dims, layer))
        for z in range(labels.shape[0]):
            view[z] = labels[z]
        self._viewer.add_layer(added)

    def _on_done(self, error: SlideSamError | None) -> None:
        was_cancelled = self._job is not None and self._job.cancelled.is_set()
        self._job = None
        if error is not None:
            self._say(str(error), True)
            self._show_state(ApplyState(False, "Failed: see the message above."))
            return
        failed = sum(is_error for _, is_error in self._results.values())
        parts = [f"{counted(self._done - failed, 'volume')} segmented"]
        if failed:
            parts.append(f"{failed} failed")
        if was_cancelled:
            parts.append("cancelled")
        self._show_state(ApplyState(False, ", ".join(parts) + "."))

    def _layers(self) -> list[Any]:
        return list(self._viewer.layers)


def apply_all(request: Request, cancelled: threading.Event) -> Iterator[ApplyEvent]:
    """Yield how far a request is and what came of each volume.

    Raises
    ------
    SlideSamError
        The network cannot be loaded, or the boxes cannot be read.
    """
    leave_compiler_out()  # an adapter needs parts of PyTorch that are not there yet
    from napari_slidesam.jobs.apply import apply_to_volumes
    from napari_slidesam.model.registry import load_model

    model = load_model(request.model, request.device, adapter=request.adapter)
    if request.layers:
        yield from apply_to_volumes(model, request.layers, request.boxes, cancel=cancelled)
    if request.files and not cancelled.is_set():
        if request.out is None:
            raise FileFormatError("Choose a folder to write the labels of files to.")
        yield from apply_to_volumes(
            model, request.files, request.boxes, request.out, cancel=cancelled
        )


def _result(event: VolumeApplied) -> str:
    if event.error:
        return event.error
    text = f"{counted(len(event.objects), 'object')} in {duration(event.seconds)}"
    return f"{text}, cancelled" if event.was_cancelled else text
