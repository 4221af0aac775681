"""The files of a pool of coarse crops: what a trainer reads while another process still writes.

::

    images.npy   uint8 (n, N, N, N)  grey values of a cube, 0 to 255
    truths.npy   uint8 (n, N, N, N)  how much of a voxel is the object, 0 to 255
    masks.npy    uint8 (n, N, N)     how much of a pixel of the prompted slice is the object
    inside.npy   bool (n, 3, N)      which planes along each axis lie inside the volume
    sources.npy  int16 (n,)          each crop's source, as a number into the list of pool.json
    pool.json    what the crops are, and how many are written
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.pool_files import STATE_FILE, open_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.coarse_crops import CoarseCrop

FORMAT = "napari-slidesam/coarse-pool"
VERSION = 1
SOURCES_FILE = "sources.npy"
ARRAY_FILES = ("images.npy", "truths.npy", "masks.npy", "inside.npy")
"""In the order of the fields of `CropArrays`."""


@dataclass(frozen=True, slots=True, eq=False)
class CropArrays:
    """Several crops, as a pool keeps them.

    Parameters
    ----------
    images, truths : ndarray of uint8, shape (B, N, N, N)
    masks : ndarray of uint8, shape (B, N, N)
    inside : ndarray of bool, shape (B, 3, N)
    """

    images: NDArray[np.uint8]
    truths: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    inside: NDArray[np.bool_]

    @classmethod
    def empty(cls, count: int, side: int) -> CropArrays:
        """Return room for ``count`` crops."""
        shapes = crop_shapes(side)
        arrays = (np.zeros((count, *shape), dtype) for shape, dtype in shapes)
        return cls(*arrays)

    @classmethod
    def of(cls, crops: Sequence[CoarseCrop]) -> CropArrays:
        """Return crops in bytes."""
        images, truths, masks = (
            np.stack([np.round(getattr(c, name) * 255).astype(np.uint8) for c in crops])
            for name in ("image", "truth", "mask")
        )
        return cls(images, truths, masks, np.stack([c.inside for c in crops]))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.images, self.truths, self.masks, self.inside))


@dataclass(frozen=True, slots=True)
class CoarsePoolState:
    """What ``pool.json`` says.

    Parameters
    ----------
    capacity : int
        Crops of the full pool.
    side, samples : int
    context : float
        As in `napari_slidesam.model.coarse.config.CoarseConfig`.
    seed : int
    procedural : int
        Procedural volumes that crops are drawn from.
    written : int
        Crops that can be read.
    sources : tuple of str
        Names of the sources that ``sources.npy`` refers to.
    draw : dict
        How crops are drawn, as in `napari_slidesam.tuning.coarse_crops.DrawConfig`.
    """

    capacity: int
    side: int
    samples: int
    context: float
    seed: int
    procedural: int
    written: int
    sources: tuple[str, ...]
    draw: dict[str, Any]

    @property
    def plan(self) -> CoarsePoolState:
        """The state before anything was written."""
        return replace(self, written=0)

    @classmethod
    def read(cls, folder: Path) -> CoarsePoolState:
        """Read a pool's state.

        Raises
        ------
        TuningError
            The folder holds no pool of crops, or the file is damaged.
        """
        try:
            values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            kind = (values.pop("format", None), values.pop("version", None))
            if kind != (FORMAT, VERSION):
                raise TuningError(
                    f"A pool of coarse crops says {FORMAT} {VERSION} in {STATE_FILE}; that in "
                    f"{folder} says {kind[0]} {kind[1]}. Make one with `train coarse-pool`."
                )
            return cls(**{**values, "sources": tuple(values["sources"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise TuningError(
                f"A pool of coarse crops needs a readable {STATE_FILE}; {folder} has none "
                f"({error}). Make the pool first, with `train coarse-pool`."
            ) from error

    def write(self, folder: Path) -> None:
        """Write the state so that a reader sees the old one or the new one, whole."""
        draft = folder / f".{STATE_FILE}.{os.getpid()}"
        values = {"format": FORMAT, "version": VERSION, **asdict(self)}
        draft.write_text(json.dumps(values, indent=1), encoding="utf-8")
        draft.replace(folder / STATE_FILE)


class CoarsePool:
    """A pool of crops opened for reading, also while it is being filled.

    Parameters
    ----------
    folder : Path
    state : CoarsePoolState
        Its state when opened; crops written later are not seen.
    arrays : CropArrays
        The files, mapped into memory.
    sources : ndarray of int16, shape (n,)
    """

    def __init__(
        self,
        folder: Path,
        state: CoarsePoolState,
        arrays: CropArrays,
        sources: NDArray[np.int16],
    ) -> None:
        self.folder, self.state = folder, state
        self._arrays, self._sources = arrays, sources

    @classmethod
    def open(cls, folder: str | Path) -> CoarsePool:
        """Open a pool.

        Raises
        ------
        TuningError
            There is no pool, or its files do not fit together.
        """
        path = Path(folder)
        state = CoarsePoolState.read(path)
        shapes = crop_shapes(state.side)
        arrays = [
            _checked_array(path / name, (state.capacity, *shape), dtype)
            for name, (shape, dtype) in zip(ARRAY_FILES, shapes, strict=True)
        ]
        sources = _checked_array(path / SOURCES_FILE, (state.capacity,), np.dtype(np.int16))
        return cls(path, state, CropArrays(*arrays), sources)

    @property
    def available(self) -> int:
        """Crops that can be read."""
        return self.state.written

    def read(self, indices: NDArray[Any] | Sequence[int]) -> CropArrays:
        """Return crops, copied out of the files."""
        rows = np.asarray(indices)
        return CropArrays(*(a[rows] for a in self._arrays))

    def source_names(self, indices: NDArray[Any] | Sequence[int]) -> list[str]:
        """Return where crops come from, as ``kind/volume``."""
        return [self.state.sources[int(n)] for n in self._sources[np.asarray(indices)]]


class JoinedCoarsePools:
    """Several pools read as one, the first one's crops first.

    Parameters
    ----------
    pools : sequence of CoarsePool
        Of the same cubes.

    Raises
    ------
    TuningError
        There is none, or their cubes differ.
    """

    def __init__(self, pools: Sequence[CoarsePool]) -> None:
        kinds = {(p.state.side, p.state.samples, p.state.context) for p in pools}
        if len(kinds) != 1:
            raise TuningError(
                "Pools are joined where their cubes have one side, number of samples and "
                f"context; got {sorted(kinds)}."
            )
        self.pools = tuple(pools)
        ((self.side, self.samples, self.context),) = kinds
        self._starts = np.cumsum([0, *(p.available for p in pools)])

    @classmethod
    def open(cls, folders: Sequence[Path]) -> JoinedCoarsePools:
        """Open the pools of folders.

        Raises
        ------
        TuningError
            One cannot be read, or they do not fit together.
        """
        return cls([CoarsePool.open(folder) for folder in folders])

    @property
    def available(self) -> int:
        """Crops that can be read."""
        return int(self._starts[-1])

    def read(self, indices: NDArray[Any] | Sequence[int]) -> CropArrays:
        """Return crops, as `CoarsePool.read`."""
        given = np.asarray(indices)
        out = CropArrays.empty(len(given), self.side)
        for pool, own, places in self._split(given):
            for to, values in zip(out, pool.read(own), strict=True):
                to[places] = values
        return out

    def source_names(self, indices: NDArray[Any] | Sequence[int]) -> list[str]:
        """Return the sources of crops, as `CoarsePool.source_names`."""
        given = np.asarray(indices)
        names = [""] * len(given)
        for pool, own, places in self._split(given):
            for place, name in zip(places, pool.source_names(own), strict=True):
                names[place] = name
        return names

    def _split(self, given: NDArray[Any]) -> list[tuple[CoarsePool, NDArray[Any], NDArray[Any]]]:
        """Which pool, which of its crops, and their places among ``given``."""
        owner = np.searchsorted(self._starts, given, side="right") - 1
        return [
            (pool, given[owner == k] - self._starts[k], np.flatnonzero(owner == k))
            for k, pool in enumerate(self.pools)
            if (owner == k).any()
        ]


def crop_shapes(side: int) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and type of one crop's part of each file of `ARRAY_FILES`."""
    cube, byte = (side,) * 3, np.dtype(np.uint8)
    return [(cube, byte), (cube, byte), (cube[1:], byte), ((3, side), np.dtype(np.bool_))]


def _checked_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    array = open_array(path, "r")
    if array.shape != shape or array.dtype != dtype:
        raise TuningError(
            f"{path} needs shape {shape} of {dtype}; it has {array.shape} of {array.dtype}. Make "
            "the pool again."
        )
    return array
