"""Writing what a session holds, in a thread of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_slidesam.errors import FileFormatError
from napari_slidesam.gui.decisions import counted
from napari_slidesam.gui.layers import file_of
from napari_slidesam.io.files import write_labels

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from napari.layers import Image

    from napari_slidesam.engine.session_view import SessionView
    from napari_slidesam.volume import Volume

SUFFIXES = {
    "nifti": (".nii.gz", ".nii"),
    "tiff": (".tif", ".tiff", ".ome.tif"),
    "ome-zarr": (".zarr",),
    "csv": (".csv",),
}
"""Kinds of export, and what their names end in; the first one is added where none is there."""


def export_path(kind: str, path: str) -> Path:
    """Return the path with a suffix that fits the kind.

    Raises
    ------
    FileFormatError
        There is no such kind.
    """
    if kind not in SUFFIXES:
        raise FileFormatError(f"An export is one of {', '.join(SUFFIXES)}; got {kind!r}.")
    if path.lower().endswith(SUFFIXES[kind]):
        return Path(path)
    return Path(path + SUFFIXES[kind][0])


def export(
    view: SessionView, kind: str, path: str, image: Image, volume: Volume
) -> Callable[[threading.Event], Iterator[str]]:
    """Return work that writes labels or the table, and yields a line on what it wrote."""
    target = export_path(kind, path)
    like = None if kind == "csv" else file_of(image, volume)

    def work(cancelled: threading.Event) -> Iterator[str]:
        if kind == "csv":
            view.write_table_csv(target, overwrite=True)
        else:
            write_labels(target, view.labels(), like, overwrite=True)
        yield f"Wrote {counted(len(view.object_ids))} to {target}."

    return work
