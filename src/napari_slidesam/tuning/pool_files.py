"""The files of a pool of stacks: what a trainer reads while others still write.

``stacks.npy`` holds uint8 (N, K + 1, P, P): K slices, then the masks as bits, bit k of a pixel
for slice k. ``sources.npy`` holds each stack's source as a number into the list of
``pool.json``, which also says how many stacks every worker has written. Worker w of W writes
the slots w, w + W, ...
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.stacks import Stack

STACKS_FILE = "stacks.npy"
SOURCES_FILE = "sources.npy"
STATE_FILE = "pool.json"


@dataclass(frozen=True, slots=True)
class PoolState:
    """What ``pool.json`` says.

    Parameters
    ----------
    capacity : int
        Stacks of the full pool.
    slices, side_px : int
        Slices of a stack, and the side of each in pixels.
    seed : int
        Seed of the whole pool.
    procedural : int
        Procedural volumes, spread over the workers.
    written : tuple of int
        Stacks written so far, by worker.
    sources : tuple of str
        Names of the sources that ``sources.npy`` refers to.
    config : dict
        What the stacks look like, as in `StackConfig`.
    """

    capacity: int
    slices: int
    side_px: int
    seed: int
    procedural: int
    written: tuple[int, ...]
    sources: tuple[str, ...]
    config: dict[str, Any]

    @property
    def available(self) -> int:
        """Stacks that can be read: the slots before the first unwritten one."""
        workers = len(self.written)
        first_free = min(w + done * workers for w, done in enumerate(self.written))
        return min(first_free, self.capacity)

    @property
    def plan(self) -> PoolState:
        """The state before anything was written."""
        return replace(self, written=(0,) * len(self.written))

    @classmethod
    def read(cls, folder: Path) -> PoolState:
        """Read a pool's state.

        Raises
        ------
        TuningError
            The folder holds no pool, or the file is damaged.
        """
        try:
            values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            values["written"] = tuple(values["written"])
            values["sources"] = tuple(values["sources"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TuningError(
                f"A pool needs a readable {STATE_FILE}; {folder} has none ({error}). Write the "
                "pool first, or again."
            ) from error

    def write(self, folder: Path) -> None:
        """Write the state so that a reader sees the old one or the new one, whole."""
        draft = folder / f".{STATE_FILE}.{os.getpid()}"
        draft.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        draft.replace(folder / STATE_FILE)


class Pool:
    """A pool opened for reading, also while it is being filled.

    Parameters
    ----------
    folder : Path
        Where the pool lies.
    state : PoolState
        Its state when opened.
    stacks : ndarray of uint8, shape (N, K + 1, P, P)
        The file, mapped into memory.
    """

    def __init__(self, folder: Path, state: PoolState, stacks: NDArray[np.uint8]) -> None:
        self.folder = folder
        self.state = state
        self.stacks = stacks

    @classmethod
    def open(cls, folder: str | Path) -> Pool:
        """Open a pool.

        Raises
        ------
        TuningError
            There is no pool, or its files do not fit together.
        """
        path = Path(folder)
        state = PoolState.read(path)
        stacks = open_array(path / STACKS_FILE, "r")
        expected = (state.capacity, state.slices + 1, state.side_px, state.side_px)
        if stacks.shape != expected or stacks.dtype != np.uint8:
            raise TuningError(
                f"{path / STACKS_FILE} needs shape {expected} of uint8; it has {stacks.shape} of "
                f"{stacks.dtype}. Write the pool again."
            )
        return cls(path, state, stacks)

    @property
    def available(self) -> int:
        """Stacks that can be read now; grows while the pool is being filled."""
        if self.state.available < self.state.capacity:
            self.state = PoolState.read(self.folder)
        return self.state.available

    def read(self, indices: NDArray[Any] | Sequence[int]) -> NDArray[np.uint8]:
        """Return stacks (B, K + 1, P, P): the slices, then the masks as bits."""
        return np.ascontiguousarray(self.stacks[np.asarray(indices)])

    def source_names(self, indices: NDArray[Any] | Sequence[int]) -> list[str]:
        """Return where stacks come from, as ``kind/volume``."""
        numbers = open_array(self.folder / SOURCES_FILE, "r")[np.asarray(indices)]
        return [self.state.sources[int(n)] for n in numbers]


class JoinedPools:
    """Several pools read as one, the first one's stacks first.

    Parameters
    ----------
    pools : sequence of Pool
        Of stacks of the same size.

    Raises
    ------
    TuningError
        There is none, or their stacks differ in size.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        shapes = {(p.state.slices, p.state.side_px) for p in pools}
        if len(shapes) != 1:
            raise TuningError(
                f"Pools are joined where their stacks are of one size; got {sorted(shapes)}."
            )
        self.pools = tuple(pools)
        self._starts = np.cumsum([0, *(p.available for p in pools)])

    @property
    def available(self) -> int:
        """Stacks that can be read."""
        return int(self._starts[-1])

    def read(self, indices: NDArray[Any] | Sequence[int]) -> NDArray[np.uint8]:
        """Return packed stacks, as `Pool.read`."""
        parts = [pool.read(own) for pool, own, _ in self._split(indices)]
        where = np.concatenate([places for _, _, places in self._split(indices)])
        out: NDArray[np.uint8] = np.concatenate(parts)[np.argsort(where, kind="stable")]
        return out

    def source_names(self, indices: NDArray[Any] | Sequence[int]) -> list[str]:
        """Return the sources of stacks, as `Pool.source_names`."""
        names = [""] * len(indices)
        for pool, own, places in self._split(indices):
            for place, name in zip(places, pool.source_names(own), strict=True):
                names[place] = name
        return names

    def _split(
        self, indices: NDArray[Any] | Sequence[int]
    ) -> list[tuple[Pool, NDArray[Any], NDArray[Any]]]:
        """Which pool, which of its stacks, and their places among ``indices``."""
        given = np.asarray(indices)
        owner = np.searchsorted(self._starts, given, side="right") - 1
        return [
            (pool, given[owner == k] - self._starts[k], np.flatnonzero(owner == k))
            for k, pool in enumerate(self.pools)
            if (owner == k).any()
        ]


def pack(stack: Stack) -> NDArray[np.uint8]:
    """Return a stack as the pool keeps it: uint8 (K + 1, P, P), the masks as bits at the end."""
    bits = (1 << np.arange(len(stack.masks), dtype=np.uint8))[:, None, None]
    field = (stack.masks * bits).sum(0, dtype=np.uint8)
    return np.concatenate([stack.images, field[None]])


def unpack_masks(field: NDArray[np.uint8], slices: int) -> NDArray[np.bool_]:
    """Return the masks (..., K, P, P) of bit-fields (..., P, P)."""
    bits = (1 << np.arange(slices, dtype=np.uint8))[:, None, None]
    masks: NDArray[np.bool_] = (field[..., None, :, :] & bits) > 0
    return masks


def open_array(path: Path, mode: Literal["r", "r+"]) -> NDArray[Any]:
    """Map one of a pool's arrays into memory."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mode)
    except (OSError, ValueError, EOFError) as error:
        raise TuningError(
            f"A pool needs a readable {path.name}; {path} cannot be read ({error}). Write the "
            "pool again."
        ) from error
    return array
