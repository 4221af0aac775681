"""A slice of pseudo-labels as bits and as a line of JSON."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.geometry import Region
from napari_slidesam.tuning.pseudo_masks import PseudoMask, PseudoSlice

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MaskEntry:
    """A mask without its pixels."""

    region: Region
    area_px: int
    predicted_iou: float
    stability: float
    sd_factor: float
    votes: int


@dataclass(frozen=True, slots=True)
class SliceEntry:
    """A slice that is done, and where its masks lie in the file.

    Parameters
    ----------
    axis, slice_index : int
    offset, n_bytes : int
    checksum : int
        CRC-32 of these bytes.
    masks : tuple of MaskEntry
    prompts : int
    dropped : dict
    seconds : float
    """

    axis: int
    slice_index: int
    offset: int
    n_bytes: int
    checksum: int
    masks: tuple[MaskEntry, ...]
    prompts: int
    dropped: dict[str, int]
    seconds: float

    @classmethod
    def of(cls, found: PseudoSlice, packed: bytes, offset: int) -> SliceEntry:
        """Return the entry of a slice whose packed masks begin at ``offset``."""
        return cls(
            found.axis,
            found.slice_index,
            offset,
            len(packed),
            zlib.crc32(packed),
            tuple(_mask_entry(mask) for mask in found.masks),
            found.prompts,
            dict(found.dropped),
            round(found.seconds, 3),
        )

    @property
    def end(self) -> int:
        """Where the next slice's masks begin."""
        return self.offset + self.n_bytes

    def to_line(self) -> str:
        """Return the entry as a line of JSON."""
        values = asdict(self)
        values["masks"] = [[*asdict(m.region).values(), *_scores(m)] for m in self.masks]
        return json.dumps(values, separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> SliceEntry:
        """Return the entry that `to_line` wrote; ValueError, KeyError or TypeError if none."""
        values = json.loads(line)
        masks = (MaskEntry(Region(*m[:4]), *m[4:]) for m in values["masks"])
        return cls(**{**values, "masks": tuple(masks)})


def pack(masks: tuple[PseudoMask, ...]) -> bytes:
    """Return the bits of masks, each beginning at a byte, compressed together."""
    return zlib.compress(b"".join(np.packbits(mask.mask).tobytes() for mask in masks), 9)


def unpack(content: bytes, entry: SliceEntry) -> tuple[PseudoMask, ...]:
    """Return the masks whose bits `pack` put together."""
    bits = np.frombuffer(content, dtype=np.uint8)
    masks, start = [], 0
    for one in entry.masks:
        height, width = one.region.shape_yx
        stop = start + -(-height * width // 8)
        flat: NDArray[Any] = np.unpackbits(bits[start:stop], count=height * width)
        mask = flat.reshape(height, width).astype(bool)
        scores = (one.predicted_iou, one.stability, one.sd_factor, one.votes)
        masks.append(PseudoMask(one.region, mask, *scores))
        start = stop
    return tuple(masks)


def _mask_entry(mask: PseudoMask) -> MaskEntry:
    scores = (round(mask.predicted_iou, 4), round(mask.stability, 4), mask.sd_factor)
    return MaskEntry(mask.region, mask.area_px, *scores, mask.votes)


def _scores(mask: MaskEntry) -> tuple[float, ...]:
    return (mask.area_px, mask.predicted_iou, mask.stability, mask.sd_factor, mask.votes)
