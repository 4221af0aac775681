"""Where a run's results go: labels, a picture, a session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import FileFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.engine.session import Session
    from napari_slidesam.io import VolumeFile

COMPOUND_SUFFIXES = (".nii.gz", ".ome.tiff", ".ome.tif", ".ome.zarr")
INSTEAD_OF = {".hdr": ".nii.gz", ".img": ".nii.gz", ".nhdr": ".nrrd"}
"""Suffixes of images in two files, and of the labels beside them."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Paths of what a run writes; None is not written."""

    labels: Path
    overlay: Path | None = None
    session: Path | None = None
    may_overwrite: bool = False

    @classmethod
    def beside(
        cls,
        volume: Path,
        labels: Path | None,
        overlay: Path | None,
        session: Path | None,
        *,
        may_overwrite: bool,
    ) -> Outputs:
        """Return outputs with the labels beside the volume where no path is given."""
        return cls(labels or labels_path(volume), overlay, session, may_overwrite)

    def check(self) -> None:
        """Refuse outputs that cannot be written, before anything is computed.

        Raises
        ------
        FileFormatError
            An output exists, or its folder does not.
        """
        for path in self._paths():
            if not path.parent.is_dir():
                raise FileFormatError(
                    f"The folder {path.parent} for {path.name} does not exist. Make it first."
                )
            is_empty_folder = path.is_dir() and not any(path.iterdir())
            if path.exists() and not is_empty_folder and not self.may_overwrite:
                raise FileFormatError(
                    f"{path} exists already. Choose another name, or give --overwrite."
                )

    def write(self, source: VolumeFile, session: Session) -> None:
        """Write the labels, then the rest.

        Raises
        ------
        SlideSamError
            Something cannot be written.
        """
        from napari_slidesam.io import write_labels

        write_labels(self.labels, SessionLabels(session), source, overwrite=self.may_overwrite)
        if self.session is not None:
            session.save(self.session, overwrite=self.may_overwrite)
        if self.overlay is not None:
            draw_session(self.overlay, source, session)

    def _paths(self) -> Iterator[Path]:
        yield self.labels
        if self.overlay is not None:
            yield self.overlay
        if self.session is not None:
            yield self.session


def labels_path(volume: Path) -> Path:
    """Return ``NAME_labels`` with the volume's suffix, in its folder."""
    name = volume.name
    suffix = next((s for s in COMPOUND_SUFFIXES if name.lower().endswith(s)), volume.suffix)
    stem, suffix = name[: len(name) - len(suffix)], name[len(name) - len(suffix) :]
    return volume.with_name(f"{stem}_labels{INSTEAD_OF.get(suffix.lower(), suffix)}")


class SessionLabels:
    """The labels of a session as an array that is drawn a slab of z slices at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.shape = session.shape_zyx
        self.dtype = np.min_scalar_type(max(session.object_ids, default=0))

    def __getitem__(self, index: slice) -> NDArray[Any]:
        """Return the slices of a range along z; shape (n, Y, X)."""
        planes = range(*index.indices(self.shape[0]))
        return np.stack([self._session.labels_plane(0, z, dtype=self.dtype) for z in planes])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of them."""
        return self._session.labels(dtype or self.dtype)


def draw_session(path: Path, source: VolumeFile, session: Session) -> None:
    """Draw a contact sheet of the objects of the session's last run."""
    from napari_slidesam.overlay import write_contact_sheet

    run = session.runs[-1]
    axis = run.prompts[0].axis
    slices = sorted({z for i in session.object_ids for z in session.slices(i)})
    intensity = run.config.intensity
    near = run.prompts[0].anchor_slices[0]
    write_contact_sheet(
        path,
        source.volume,
        lambda z: session.labels_plane(axis, z),
        run.prompts,
        slices,
        intensity_range=intensity.fixed_range(source.volume.along(axis), near),
    )
