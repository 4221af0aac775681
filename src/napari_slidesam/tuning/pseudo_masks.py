"""Masks that a network found by itself on one slice, and which of them say the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.geometry import Box, Region, mask_to_box

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PseudoMask:
    """One object of a slice, as a network sees it.

    Parameters
    ----------
    region : Region
        Its bounding box in the plane.
    mask : ndarray of bool, shape ``region.shape_yx``
    predicted_iou, stability : float, range [0, 1]
    sd_factor : float
        The truncation window it was found in: mean +- so many standard deviations.
    votes : int
        Predictions that gave this mask, over truncation windows, prompts and candidates.
    """

    region: Region
    mask: NDArray[np.bool_]
    predicted_iou: float
    stability: float
    sd_factor: float
    votes: int = 1

    @classmethod
    def cut(
        cls,
        mask: NDArray[np.bool_],
        origin_yx: tuple[int, int],
        *,
        predicted_iou: float,
        stability: float,
        sd_factor: float,
    ) -> PseudoMask:
        """Return a mask that lies at ``origin_yx`` of its plane, cut to its bounding box."""
        box = mask_to_box(mask)
        assert box is not None, "empty masks are dropped before"
        y0, x0, y1, x1 = (int(v) for v in box.yxyx)
        dy, dx = origin_yx
        region = Region(y0 + dy, x0 + dx, y1 + dy, x1 + dx)
        return cls(region, mask[y0:y1, x0:x1].copy(), predicted_iou, stability, sd_factor)

    @property
    def area_px(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> Box:
        """Its bounding box."""
        r = self.region
        return Box(r.y0, r.x0, r.y1, r.x1)

    @property
    def score(self) -> float:
        """What decides between masks that say the same."""
        return self.predicted_iou * self.stability

    def on_plane(self, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask of the whole plane."""
        plane = np.zeros(shape_yx, dtype=bool)
        plane[self.region.slices] = self.mask
        return plane


@dataclass(frozen=True, slots=True, eq=False)
class PseudoSlice:
    """The masks of one slice; they may overlap.

    Parameters
    ----------
    axis : int
        0 to 2 in zyx.
    slice_index : int
    plane_shape_yx : tuple of 2 ints
    masks : tuple of PseudoMask
        The best first.
    prompts : int
        Prompts that the network was asked.
    dropped : mapping of str to int
        Candidates and superpixels left out, by reason.
    seconds : float
    """

    axis: int
    slice_index: int
    plane_shape_yx: tuple[int, int]
    masks: tuple[PseudoMask, ...]
    prompts: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class DistinctMasks:
    """Collects masks; those that overlap by so much count as one, and the best of them is kept.

    Which masks are kept depends on the order in which they come, so that memory is bounded by
    what is kept and not by what is found; the best is sought anew at every duplicate.

    Parameters
    ----------
    duplicate_iou : float
        IoU from which on two masks are one.
    """

    def __init__(self, duplicate_iou: float) -> None:
        self.duplicate_iou = duplicate_iou
        self.masks: list[PseudoMask] = []
        self.n_duplicates = 0

    def add(self, masks: Iterable[PseudoMask]) -> None:
        """Take masks in, the best of these first."""
        for mask in sorted(masks, key=lambda m: -m.score):
            self._add(mask)

    def best(self, *, min_votes: int, limit: int) -> tuple[PseudoMask, ...]:
        """Return the masks found often enough, the best first, and at most so many."""
        ordered = sorted((m for m in self.masks if m.votes >= min_votes), key=lambda m: -m.score)
        found = DistinctMasks(self.duplicate_iou)
        for mask in ordered:  # a better outline may have come nearer to another mask
            if found._like(mask) is None:
                found.masks.append(mask)
        self.n_duplicates += len(ordered) - len(found.masks)
        return tuple(found.masks[:limit])

    def _add(self, mask: PseudoMask) -> None:
        place = self._like(mask)
        if place is None:
            self.masks.append(mask)
            return
        self.n_duplicates += 1
        known = self.masks[place]
        better = mask if mask.score > known.score else known
        self.masks[place] = replace(better, votes=known.votes + mask.votes)

    def _like(self, mask: PseudoMask) -> int | None:
        """Return the place of the known mask that this one repeats most, if any."""
        overlaps = [overlap(mask, known, self.duplicate_iou) for known in self.masks]
        if not overlaps:
            return None
        place = int(np.argmax(overlaps))
        return place if overlaps[place] >= self.duplicate_iou else None


def overlap(first: PseudoMask, second: PseudoMask, least: float = 0.0) -> float:
    """Return the IoU of two masks of a plane; 0 where it is certainly below ``least``."""
    a, b = first.region, second.region
    common = Region(max(a.y0, b.y0), max(a.x0, b.x0), min(a.y1, b.y1), min(a.x1, b.x1))
    height, width = common.shape_yx
    if height <= 0 or width <= 0:
        return 0.0
    area_a, area_b = first.area_px, second.area_px
    largest = max(area_a, area_b)
    if min(area_a, area_b, height * width) < least * largest:
        return 0.0
    both = np.count_nonzero(first.mask[common.within(a)] & second.mask[common.within(b)])
    return both / (area_a + area_b - both)
