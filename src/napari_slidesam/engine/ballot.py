"""The votes of one object's slices, from the first window that sees a slice to its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.compat import unite
from napari_slidesam.engine.fusion import Fused, Vote, fuse
from napari_slidesam.engine.results import SliceQuality, SliceResult, StopReason, TrackStop
from napari_slidesam.geometry import Region
from napari_slidesam.metrics import stability_score
from napari_slidesam.model.patches import LogitPatch

if TYPE_CHECKING:
    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.prompts import ObjectPrompts


class Ballot:
    """Collects votes and stops of one object; gives each slice's result.

    Parameters
    ----------
    prompts : ObjectPrompts
        The object's id and axis, and the masks that are kept as given.
    config : PropagationConfig
    """

    def __init__(self, prompts: ObjectPrompts, config: PropagationConfig) -> None:
        self.prompts = prompts
        self._config = config
        self._votes: dict[int, list[Vote]] = {}
        self._stops: dict[int, list[TrackStop]] = {}

    def cast(self, slice_index: int, vote: Vote) -> None:
        """Add a vote to a slice."""
        self._votes.setdefault(slice_index, []).append(vote)

    def stop(self, slice_index: int, direction: int, reason: StopReason) -> None:
        """Note that a direction of travel ended on this slice."""
        self._stops.setdefault(slice_index, []).append(TrackStop(direction, reason))

    @property
    def open_slices(self) -> tuple[int, ...]:
        """Sorted slices with votes that are not closed."""
        return tuple(sorted(self._votes))

    def fused(self, slice_index: int) -> Fused:
        """Return the slice's votes put together."""
        votes = self._votes[slice_index]
        return unite(votes) if self._config.quirks.union else fuse(votes)

    def preview(self, slice_index: int) -> SliceResult:
        """Return the slice's result so far."""
        return self._result(slice_index, self.fused(slice_index), is_final=False)

    def close(self, slice_index: int, fused: Fused | None = None) -> SliceResult:
        """Return the slice's final result and forget its votes.

        ``fused`` is taken instead of what they say together.
        """
        fused = self.fused(slice_index) if fused is None else fused
        del self._votes[slice_index]
        return self._result(slice_index, fused, is_final=True)

    def drop(self, slice_index: int) -> None:
        """Forget the votes of a slice that turned out not to belong to the object."""
        self._votes.pop(slice_index, None)

    def _result(self, slice_index: int, fused: Fused, *, is_final: bool) -> SliceResult:
        given = self.prompts.mask_on(slice_index) if self._config.keep_prompt_masks else None
        if given is not None:
            patch = LogitPatch.from_mask(given)
            fused = Fused(patch, 1.0, 1.0)
        patch = _trimmed(fused.patch)
        quality = SliceQuality(
            predicted_iou=min(1.0, max(0.0, fused.predicted_iou)),
            stability_score=stability_score(fused.patch.logits, self._config.stability_offset),
            agreement=fused.agreement,
        )
        return SliceResult(
            object_id=self.prompts.object_id,
            axis=self.prompts.axis,
            slice_index=slice_index,
            region=patch.region,
            mask=patch.mask,
            quality=quality,
            is_prompted=slice_index in self.prompts.slice_indices,
            is_final=is_final,
            stops=tuple(self._stops.get(slice_index, ())) if is_final else (),
        )


def _trimmed(patch: LogitPatch) -> LogitPatch:
    """Cut a patch to its mask's bounding box; an empty one to a single pixel."""
    mask = patch.mask
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, x0 = patch.region.y0, patch.region.x0
    if rows.size == 0:
        region = Region(y0, x0, y0 + 1, x0 + 1)
    else:
        region = Region(
            y0 + int(rows[0]), x0 + int(cols[0]), y0 + int(rows[-1]) + 1, x0 + int(cols[-1]) + 1
        )
    return LogitPatch(region, patch.on(region))
