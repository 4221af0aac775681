"""The slices of a volume that were read last, kept in memory."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import VolumeError
from napari_slidesam.geometry import Region

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from napari_slidesam.volume import SliceStack

_WHOLE_PLANE_PX = 1024
"""Planes up to this side are kept whole: a few ms to read, and most of it is looked at."""

_TILE_SIDE_PX = 64
"""Least side of a tile of larger planes; a chunk of this side or more is a tile of its own."""

_UNCHUNKED_TILE_SIDE_PX = 512
"""Side of a tile where storage has no chunks: reading 64 small tiles takes longer than one."""


class SliceCache:
    """The slices read last, up to a number of bytes; safe to use from several threads.

    Planes are kept in tiles of whole storage chunks, so that a small region of a large plane
    costs only the chunks that it touches.

    Parameters
    ----------
    stack : SliceStack
    max_bytes : int
        Tiles beyond it are forgotten, the longest unused first. The last one read stays.
    """

    def __init__(self, stack: SliceStack, max_bytes: int = 256 * 2**20) -> None:
        self.stack = stack
        self.max_bytes = max_bytes
        depth, *chunk_yx = stack.chunk_shape
        plane_yx = stack.plane_shape_yx
        self._tile_yx = tuple(map(_tile_length, plane_yx, chunk_yx))
        n_tiles = math.prod(-(-n // t) for n, t in zip(plane_yx, self._tile_yx, strict=True))
        # Slices of one chunk are decoded together: keep them, as long as several tiles fit.
        share = max_bytes // (4 * min(n_tiles, 4))
        most = max(1, share // (4 * math.prod(self._tile_yx)))
        self._depth = max(d for d in range(1, min(depth, most) + 1) if depth % d == 0)
        self._tiles: OrderedDict[tuple[int, int, int], NDArray[np.float32]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.RLock()

    def read(self, index: int, region: Region | None = None) -> NDArray[np.float32]:
        """Return slice ``index``, or a region of it; float32, shape (Y, X), read-only."""
        self.stack.check_index(index)
        where = self.stack.plane_region if region is None else region
        _check_region(where, self.stack.plane_shape_yx)
        height, width = self._tile_yx
        rows = range(where.y0 // height, (where.y1 - 1) // height + 1)
        cols = range(where.x0 // width, (where.x1 - 1) // width + 1)
        with self._lock:
            if len(rows) == len(cols) == 1:
                plane, tile = self._tile(index, rows[0], cols[0])
                return plane[where.within(tile)]
            out = np.empty(where.shape_yx, dtype=np.float32)
            for row, col in product(rows, cols):
                plane, tile = self._tile(index, row, col)
                part = _intersection(where, tile)
                out[part.within(where)] = plane[part.within(tile)]
        out.flags.writeable = False
        return out

    def read_at(
        self, position: float | Fraction, region: Region | None = None
    ) -> NDArray[np.float32]:
        """Return the plane at a position between slices, or a region of it; float32, (Y, X).

        Linear between the two slices beside it, the nearest slice beyond the ends.
        """
        inside = min(max(position, 0), self.stack.n_slices - 1)
        below = math.floor(inside)
        share = np.float32(inside - below)
        if share == 0:
            return self.read(below, region)
        lower, upper = self.read(below, region), self.read(below + 1, region)
        with np.errstate(over="ignore", invalid="ignore"):
            return lower + (upper - lower) * share

    def window(self, index: int, region: Region | None = None) -> NDArray[np.float32]:
        """Return the slices index-1, index, index+1; float32, shape (3, Y, X), a new array.

        Beyond the volume's ends its first or last slice is repeated.
        """
        self.stack.check_index(index)
        return np.stack([self.read_at(index + k, region) for k in (-1, 0, 1)])

    def _tile(self, index: int, row: int, col: int) -> tuple[NDArray[np.float32], Region]:
        """Return one plane of a tile, read where it is not kept, and where it lies."""
        height, width = self._tile_yx
        plane_height, plane_width = self.stack.plane_shape_yx
        tile = Region(
            row * height,
            col * width,
            min((row + 1) * height, plane_height),
            min((col + 1) * width, plane_width),
        )
        start = index - index % self._depth
        key = (start, row, col)
        block = self._tiles.get(key)
        if block is None:
            stop = min(start + self._depth, self.stack.n_slices)
            block = self.stack.read_block(start, stop, tile)
            block.flags.writeable = False
            self._tiles[key] = block
            self._n_bytes += block.nbytes
        self._tiles.move_to_end(key)
        while self._n_bytes > self.max_bytes and len(self._tiles) > 1:
            self._n_bytes -= self._tiles.popitem(last=False)[1].nbytes
        plane: NDArray[np.float32] = block[index - start]
        return plane, tile


def _tile_length(length: int, chunk: int) -> int:
    """Return as few whole chunks as make a tile, or a short axis as a whole."""
    if length <= _WHOLE_PLANE_PX:
        return length
    least = _TILE_SIDE_PX if chunk > 1 else _UNCHUNKED_TILE_SIDE_PX
    return min(length, chunk * -(-least // chunk))


def _intersection(first: Region, second: Region) -> Region:
    return Region(
        max(first.y0, second.y0),
        max(first.x0, second.x0),
        min(first.y1, second.y1),
        min(first.x1, second.x1),
    )


def _check_region(region: Region, plane_shape_yx: tuple[int, int]) -> None:
    height, width = plane_shape_yx
    if not (0 <= region.y0 < region.y1 <= height and 0 <= region.x0 < region.x1 <= width):
        raise VolumeError(f"{region} does not lie inside the plane of shape {plane_shape_yx}.")
