"""Embeddings in a folder, as zarr: one array an embedding, one group a network.

::

    FOLDER/                 group, marked as ours
      <network>/            group of one fingerprint and storage type
        <digest>/           array of shape (C, h, w) in one chunk with a checksum

An array is written beside its place and renamed into it, so the folder names alone say what is
complete: a run that was killed goes on where it was, and several runs may share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import zarr
from zarr.codecs import Crc32cCodec
from zarr.errors import BaseZarrError

from napari_slidesam.errors import ConfigError, FileFormatError
from napari_slidesam.io import replacing_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

StoredType = Literal["float16", "float32"]

_MARK = "napari_slidesam_embeddings"
_VERSION = 1
_MARKER_FILE = "zarr.json"
_STALE_SECONDS = 3600.0
_UNREADABLE = (BaseZarrError, OSError, ValueError, KeyError, TypeError, RuntimeError)


class EmbeddingStore:
    """Embeddings kept on disk between runs.

    A folder that cannot be written to is read from; a warning says so once and the run goes on.
    A damaged array is made anew.

    Parameters
    ----------
    folder : str or Path
        Made where it is not there.
    stored_type : str
        ``"float16"`` halves the size; an embedding with values beyond its range is stored as
        float32. ``"float32"`` keeps every bit.

    Raises
    ------
    FileFormatError
        The folder holds something else, or embeddings of another version.
    ConfigError
        There is no such type.
    """

    def __init__(self, folder: str | Path, stored_type: StoredType = "float16") -> None:
        if stored_type not in ("float16", "float32"):
            raise ConfigError(
                f"Embeddings are stored as 'float16' or 'float32'; got {stored_type!r}."
            )
        self.folder = Path(folder)
        self.stored_type: StoredType = stored_type
        self._is_writable = True
        self._groups: dict[str, Path] = {}
        if not self._is_ours():
            self._make(self.folder, {_MARK: _VERSION})

    def has(self, fingerprint: str, digest: str) -> bool:
        """Whether an embedding is there."""
        return (self._group(fingerprint) / digest).is_dir()

    def get(self, fingerprint: str, digest: str) -> torch.Tensor | None:
        """Return an embedding, shape (C, h, w), of the type it was made in; None without it.

        Parameters
        ----------
        fingerprint : str
            The network's.
        digest : str
            The window's.
        """
        path = self._group(fingerprint) / digest
        if not path.is_dir():
            return None
        try:
            array = zarr.open_array(str(path), mode="r")
            values = np.asarray(array[...])
            made_in = getattr(torch, str(array.attrs["made_in"]))
        except _UNREADABLE as error:
            self._remove_damaged(path, f"{type(error).__name__}: {error}")
            return None
        if values.ndim != 3 or not np.isfinite(values).all():
            self._remove_damaged(path, "values are missing")
            return None
        return torch.from_numpy(values).to(made_in)

    def put(self, fingerprint: str, digest: str, embedding: torch.Tensor) -> None:
        """Store an embedding, shape (C, h, w); one that is there already is kept.

        Nothing is stored where a value is not finite, or where the folder cannot be written to.
        """
        path = self._group(fingerprint) / digest
        if not self._is_writable or path.is_dir():
            return
        values = embedding.detach().float().cpu().numpy()
        if not np.isfinite(values).all():
            return
        group = {"fingerprint": fingerprint, "stored_type": self.stored_type}
        if not self._make(path.parent, group):
            return
        attributes = {"made_in": str(embedding.dtype).removeprefix("torch.")}
        try:
            with replacing_folder(path, overwrite=True) as partial:
                _write(partial, self._narrowed(values), attributes)
        except FileFormatError as error:
            self._give_up(str(error))

    def _narrowed(self, values: NDArray[np.float32]) -> NDArray[Any]:
        largest = float(np.abs(values).max(initial=0.0))
        fits = self.stored_type == "float16" and largest <= float(np.finfo(np.float16).max)
        return values.astype(np.float16) if fits else values

    def _group(self, fingerprint: str) -> Path:
        """Return the folder of a network's embeddings."""
        if fingerprint not in self._groups:
            text = f"{fingerprint}\n{self.stored_type}"
            name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
            self._groups[fingerprint] = self.folder / name
            _sweep(self.folder / name)
        return self._groups[fingerprint]

    def _is_ours(self) -> bool:
        """Whether the folder holds embeddings; False where there is nothing yet."""
        if not self.folder.exists():
            return False
        foreign = FileFormatError(
            f"{self.folder} is not a folder of embeddings: it holds something else. Choose a "
            "folder that is empty, new, or was made for embeddings."
        )
        if not self.folder.is_dir():
            raise foreign
        if not (self.folder / _MARKER_FILE).is_file():
            # A run killed while it wrote the marker leaves a file of this ending.
            if any(path.suffix != ".partial" for path in self.folder.iterdir()):
                raise foreign
            return False
        try:
            attributes = dict(zarr.open_group(str(self.folder), mode="r").attrs)
        except _UNREADABLE as error:
            raise FileFormatError(
                f"{self.folder / _MARKER_FILE} cannot be read: {error}. Remove the folder; its "
                "embeddings are made again."
            ) from error
        if _MARK not in attributes:
            raise foreign
        if attributes[_MARK] != _VERSION:
            raise FileFormatError(
                f"{self.folder} holds embeddings of version {attributes[_MARK]}; this program "
                f"knows version {_VERSION}. Choose another folder."
            )
        return True

    def _make(self, folder: Path, attributes: dict[str, Any]) -> bool:
        """Make a group where there is none; False where that is not possible."""
        if (folder / _MARKER_FILE).is_file():
            return True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            zarr.open_group(str(folder), mode="a", zarr_format=3, attributes=attributes)
        except (OSError, BaseZarrError) as error:
            self._give_up(f"{folder} cannot be written: {error}.")
            return False
        return True

    def _remove_damaged(self, path: Path, reason: str) -> None:
        _warn(f"The embedding {path} is damaged ({reason}); it is made again.")
        shutil.rmtree(path, ignore_errors=True)

    def _give_up(self, reason: str) -> None:
        if self._is_writable:
            self._is_writable = False
            _warn(f"{reason} Going on without keeping embeddings on disk.")


def _write(path: Path, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    # NaN for what is missing: zarr gives the fill value for a chunk that is not there.
    array = zarr.create_array(
        str(path),
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        fill_value=np.nan,
        compressors=[Crc32cCodec()],
        dimension_names=["c", "y", "x"],
        attributes=attributes,
        zarr_format=3,
    )
    array[...] = values


def _sweep(group: Path) -> None:
    """Remove what a killed run left half written."""
    with contextlib.suppress(OSError):
        for left in group.glob(".*"):
            if left.is_dir() and time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _warn(message: str) -> None:
    logger.warning(message)
    warnings.warn(message, UserWarning, stacklevel=4)
