"""Where a coarse look in 3D expects an object, slice by slice.

From one prompted slice alone the sliding window cannot know how far an object goes: it sees three
slices. The coarse network has seen a cube around the prompt and proposes a mask for each slice in
it. The window draws the outline and may overrule it. Not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.geometry import Region
from napari_slidesam.model.coarse.crops import CropGrid
from napari_slidesam.model.linear import Linear
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.engine.predictor import PlanePrediction
    from napari_slidesam.geometry import Box
    from napari_slidesam.model.coarse.look import CoarseLook
    from napari_slidesam.slice_cache import SliceCache

PRESENT_VOXELS = 6
"""The object is as surely on a plane of the cube as the mean of so many of its voxels says."""

DOUBT = 0.2
"""What its doubt of the object's presence, and of its shape, each take from a window's predicted
IoU at most."""


class _CancelledError(Exception):
    """The run was cancelled while the cube was read."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """The coarse network's answer, in the volume's slices.

    Parameters
    ----------
    grid : CropGrid
    logits : ndarray of float32, shape (N, N, N)
    presence : ndarray of float32, shape (N,), range [0, 1]
        How sure it is of the object on each plane of the cube.
    """

    grid: CropGrid
    logits: NDArray[np.float32]
    presence: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        look: CoarseLook,
        slices: SliceCache,
        anchor: int,
        box: Box,
        known: Mapping[int, LogitPatch],
        is_cancelled: Callable[[], bool],
    ) -> Proposal | None:
        """Look at the surroundings of a slice's mask.

        Parameters
        ----------
        look : CoarseLook
        slices : SliceCache
        anchor : int
            The slice.
        box : Box
            Of the object on it.
        known : mapping of int to LogitPatch
            The object on it, and on other slices where it is known.
        is_cancelled : callable
            Asked before each plane is read.

        Returns
        -------
        Proposal or None
            None where it was cancelled.
        """
        stack = slices.stack
        grid = CropGrid.around(
            look.config,
            anchor,
            box,
            step=stack.step,
            spacing_yx=stack.spacing_yx,
            n_slices=stack.n_slices,
            plane_shape_yx=stack.plane_shape_yx,
        )

        def read(index: int, region: Region) -> NDArray[Any]:
            if is_cancelled():
                raise _CancelledError
            return slices.read(index, region)

        try:
            masks = {i: patch.on(grid.region, -LOGIT_LIMIT) > 0 for i, patch in known.items()}
            logits = look(grid, read, masks)
        except _CancelledError:
            return None
        flat = 1 / (1 + np.exp(-logits.reshape(len(logits), -1)))
        presence = np.sort(flat, axis=1)[:, -PRESENT_VOXELS:].mean(axis=1)
        return cls(grid, logits, presence)

    def covers(self, index: float) -> bool:
        """Whether a slice lies inside the cube, not at its very end."""
        return 0.5 <= self.grid.place_of_slice(index) <= len(self.logits) - 1.5

    def presence_on(self, index: float) -> float:
        """Return how sure it is that the object is on a slice, range [0, 1]."""
        return float(self._between(self.presence, index))

    def patch_on(self, index: float) -> LogitPatch:
        """Return the proposed mask's logits on a slice."""
        plane = self._between(self.logits, index)
        region = self._region()
        rows, columns = self.grid.places_yx(region)
        n = len(self.logits)
        wide = Linear(rows, n)(plane)
        fine = Linear(columns, n)(wide.T).T
        return LogitPatch(region, np.clip(fine, -LOGIT_LIMIT, LOGIT_LIMIT))

    def likeness(self, index: float, step: float, patches: Sequence[LogitPatch]) -> float:
        """Return the mean IoU of what it proposes with a window's masks.

        Parameters
        ----------
        index, step : float
            The window's centre slice, which it covers, and the distance of its neighbours.
        patches : sequence of 3 LogitPatch
        """
        places = [(index + k * step, patch) for k, patch in zip((-1, 0, 1), patches, strict=True)]
        found = [self.patch_on(i).iou(patch) for i, patch in places if self.covers(i)]
        return float(np.mean(found))

    def judged(self, index: float, step: float, prediction: PlanePrediction) -> PlanePrediction:
        """Return a window's prediction, trusted less where this proposal differs from it.

        Parameters
        ----------
        index, step : float
            As in `likeness`.
        prediction : PlanePrediction
        """
        likeness = self.likeness(index, step, prediction.patches)
        doubt = DOUBT * (2 - self.presence_on(index) - likeness)
        return replace(prediction, predicted_iou=max(0.0, prediction.predicted_iou - doubt))

    def combined(
        self, index: float, patch: LogitPatch, weight: float, handed_on: float
    ) -> LogitPatch:
        """Return what it proposes for a slice, times ``weight``, plus ``handed_on`` of a patch."""
        proposed = self.patch_on(index)
        region = proposed.region.union(patch.region)
        logits = proposed.on(region) * np.float32(weight) + patch.on(region) * np.float32(handed_on)
        return LogitPatch(region, logits)

    def _between(self, values: NDArray[np.float32], index: float) -> NDArray[np.float32]:
        """Return values along the first axis, interpolated where a slice lies."""
        place = min(max(self.grid.place_of_slice(index), 0.0), len(values) - 1.0)
        below = int(place)
        above = min(below + 1, len(values) - 1)
        share = np.float32(place - below)
        out: NDArray[np.float32] = values[below] * (1 - share) + values[above] * share
        return out

    def _region(self) -> Region:
        """Return the pixels of a plane whose centres lie in the cube; one at least."""
        (height, width), (cy, cx) = self.grid.plane_shape_yx, self.grid.centre_yx
        half_y, half_x = self.grid.edges[1] / 2, self.grid.edges[2] / 2
        y0 = min(max(0, int(np.ceil(cy - half_y))), height - 1)
        x0 = min(max(0, int(np.ceil(cx - half_x))), width - 1)
        y1 = max(y0 + 1, min(height, int(np.floor(cy + half_y))))
        x1 = max(x0 + 1, min(width, int(np.floor(cx + half_x))))
        return Region(y0, x0, y1, x1)
