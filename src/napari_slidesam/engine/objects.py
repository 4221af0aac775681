"""One object of a session: a frozen snapshot of its prompts and of its mask, slice by slice.

A mask is kept as patches, never as a volume. Two layers make an object's mask:

1. *grown slices*, all along one axis, from propagation;
2. *edits*, planes along any axis that a person corrected. An edit says what the whole plane
   is, so it replaces what lies there; a later edit wins where two planes cross.

Snapshots share every patch that did not change, so a history of them costs little memory.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_slidesam.engine.results import SliceQuality
from napari_slidesam.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_slidesam.engine.results import SliceResult, TrackStop
    from napari_slidesam.prompts import ObjectPrompts

EDIT_QUALITY = SliceQuality(predicted_iou=1.0, stability_score=1.0, agreement=1.0)
"""A person's own mask is trusted fully."""

EMPTY_REGION = Region(0, 0, 0, 0)

_COMPRESSION_LEVEL = 1
"""zlib's fastest: masks of 512 x 512 pixels shrink to less than 1 kB in 0.2 ms."""


class PlaneKey(NamedTuple):
    """One plane of one object; sorts by object, axis and slice."""

    object_id: int
    axis: int
    slice_index: int


@dataclass(frozen=True, slots=True, eq=False)
class PlaneMask:
    """A mask of a part of a plane; outside ``region`` the object is not."""

    region: Region
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class SlicePatch:
    """An object's mask on one slice, cut to its bounding box and compressed.

    Parameters
    ----------
    region : Region
        The mask's bounding box in the plane; `EMPTY_REGION` where it is empty.
    packed : bytes
        The pixels of the region: one bit each, rows padded to bytes, zlib.
    n_voxels : int
    quality : SliceQuality
    is_prompted, is_final : bool
        As in `SliceResult`.
    is_edited : bool
        A person drew it.
    """

    region: Region
    packed: bytes
    n_voxels: int
    quality: SliceQuality
    is_prompted: bool = False
    is_final: bool = True
    is_edited: bool = False

    @classmethod
    def from_mask(
        cls,
        mask: NDArray[np.bool_],
        region: Region,
        quality: SliceQuality,
        *,
        is_prompted: bool = False,
        is_final: bool = True,
        is_edited: bool = False,
    ) -> SlicePatch:
        """Return a patch of a mask, bool, shape ``region.shape_yx``."""
        tight, pixels = _trimmed(mask, region)
        packed = zlib.compress(np.packbits(pixels, axis=1).tobytes(), _COMPRESSION_LEVEL)
        n_voxels = int(np.count_nonzero(pixels))
        return cls(tight, packed, n_voxels, quality, is_prompted, is_final, is_edited)

    @classmethod
    def from_result(cls, result: SliceResult) -> SlicePatch:
        """Return a patch of a streamed result."""
        return cls.from_mask(
            result.mask,
            result.region,
            result.quality,
            is_prompted=result.is_prompted,
            is_final=result.is_final,
        )

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of the region; a fresh array of bool, shape ``region.shape_yx``."""
        height, width = self.region.shape_yx
        if not self.n_voxels:
            return np.zeros((height, width), dtype=np.bool_)
        bits = np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8)
        rows = np.unpackbits(bits.reshape(height, -1), axis=1, count=width)
        return rows.view(np.bool_)

    def line(self, along: int, position: int) -> NDArray[np.bool_]:
        """Return one row (``along`` 0) or column (1) at a position of the plane."""
        height, width = self.region.shape_yx
        bits = np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8).reshape(height, -1)
        if along == 0:
            row = np.unpackbits(bits[position - self.region.y0], count=width)
            return row.view(np.bool_)
        byte, bit = divmod(position - self.region.x0, 8)
        column: NDArray[np.bool_] = (bits[:, byte] >> (7 - bit)) & 1 == 1
        return column


@dataclass(frozen=True, slots=True)
class ObjectStop:
    """Where and why an object stopped growing in one direction."""

    slice_index: int
    stop: TrackStop


@dataclass(frozen=True, slots=True, eq=False)
class ObjectState:
    """A snapshot of one object; every change makes another.

    Parameters
    ----------
    object_id : int
        Positive; its value in a labels volume.
    name : str
    axis : int
        The axis that grown slices are counted along.
    prompts : ObjectPrompts, optional
        None where the object was only drawn by hand.
    slices : mapping of int to SlicePatch
        Grown slices, sorted by slice. None of them is also edited along the same axis.
    edits : mapping of (axis, slice index) to SlicePatch
        In the order in which they were made.
    stops : tuple of ObjectStop
    is_accepted : bool
        A person looked at the mask and took it.
    """

    object_id: int
    name: str
    axis: int = 0
    prompts: ObjectPrompts | None = None
    slices: Mapping[int, SlicePatch] = field(default_factory=lambda: MappingProxyType({}))
    edits: Mapping[tuple[int, int], SlicePatch] = field(
        default_factory=lambda: MappingProxyType({})
    )
    stops: tuple[ObjectStop, ...] = ()
    is_accepted: bool = False

    @property
    def own_slices(self) -> dict[int, SlicePatch]:
        """Grown slices and the edits along the same axis, sorted by slice."""
        edits = {index: patch for (axis, index), patch in self.edits.items() if axis == self.axis}
        return dict(sorted({**self.slices, **edits}.items()))

    @property
    def has_cross_edits(self) -> bool:
        """Whether a plane along another axis than the grown slices was edited."""
        return any(axis != self.axis for axis, _ in self.edits)

    @property
    def planes(self) -> tuple[PlaneKey, ...]:
        """Every plane that holds a patch."""
        keys = [PlaneKey(self.object_id, self.axis, index) for index in self.slices]
        keys += [PlaneKey(self.object_id, axis, index) for axis, index in self.edits]
        return tuple(sorted(keys))

    def with_result(self, result: SliceResult, *, replaces_edits: bool = False) -> ObjectState:
        """Return the object with one streamed result merged.

        An edited plane is kept, unless ``replaces_edits``. An empty slice without a prompt is
        no part of the object; where it takes back a preview, that slice goes.
        """
        key = (result.axis, result.slice_index)
        stops = _merged_stops(self.stops, result)
        if key in self.edits and not replaces_edits:
            return self if stops == self.stops else replace(self, stops=stops)
        patch = SlicePatch.from_result(result)
        slices = dict(self.slices)
        if patch.n_voxels or patch.is_prompted:
            is_new = result.slice_index not in slices
            slices[result.slice_index] = patch
            if is_new:
                slices = dict(sorted(slices.items()))
        else:
            slices.pop(result.slice_index, None)
        edits = self.edits
        if key in edits:
            edits = MappingProxyType({k: p for k, p in edits.items() if k != key})
        return replace(
            self, axis=result.axis, slices=MappingProxyType(slices), edits=edits, stops=stops
        )

    def with_edit(
        self, axis: int, slice_index: int, mask: NDArray[np.bool_], region: Region
    ) -> ObjectState:
        """Return the object with one plane corrected by hand."""
        key = (axis, slice_index)
        is_prompted = (
            self.prompts is not None
            and axis == self.prompts.axis
            and slice_index in self.prompts.slice_indices
        )
        patch = SlicePatch.from_mask(
            mask, region, EDIT_QUALITY, is_prompted=is_prompted, is_edited=True
        )
        edits = {k: p for k, p in self.edits.items() if k != key} | {key: patch}
        slices = self.slices
        if axis == self.axis and slice_index in slices:
            slices = MappingProxyType({i: p for i, p in slices.items() if i != slice_index})
        return replace(self, slices=slices, edits=MappingProxyType(edits))

    def without_slices(self, *, with_edits: bool = False) -> ObjectState:
        """Return the object with no grown slice left, and no edit either if asked for."""
        if not self.slices and not self.stops and not (with_edits and self.edits):
            return self
        edits: Mapping[tuple[int, int], SlicePatch] = (
            MappingProxyType({}) if with_edits else self.edits
        )
        return replace(self, slices=MappingProxyType({}), edits=edits, stops=())


def _merged_stops(stops: tuple[ObjectStop, ...], result: SliceResult) -> tuple[ObjectStop, ...]:
    """Return the stops with a result's own; the same place and direction counts once."""
    if not result.stops:
        return stops
    merged = {(s.slice_index, s.stop.direction): s for s in stops}
    for stop in result.stops:
        merged[result.slice_index, stop.direction] = ObjectStop(result.slice_index, stop)
    return tuple(merged[key] for key in sorted(merged))


def _trimmed(mask: NDArray[np.bool_], region: Region) -> tuple[Region, NDArray[np.bool_]]:
    """Return a mask cut to its bounding box, and where that lies in the plane."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return EMPTY_REGION, np.zeros((0, 0), dtype=np.bool_)
    cols = np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    tight = Region(region.y0 + y0, region.x0 + x0, region.y0 + y1, region.x0 + x1)
    return tight, mask[y0:y1, x0:x1]
