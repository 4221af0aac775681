"""A look at one slice around a box: which of its pixels belong to the object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_slidesam.model.outline.grid import BoxGrid
from napari_slidesam.model.outline.weights import load_outline
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_slidesam.geometry import Box, Region
    from napari_slidesam.model.outline.config import OutlineConfig
    from napari_slidesam.model.outline.network import OutlineNetwork
    from napari_slidesam.prompts import PointPrompt

    ReadNear = Callable[[int, Region], NDArray[Any]]

OUTLINE_SHIFT = 0.3
"""Added to the logits: where a border is uncertain, the mask of highest expected Dice is larger
than that of the pixels more likely inside than not."""

RANGE_PERCENTILES = (0.5, 99.5)
"""Of the middle slice's view; as far again on both sides is kept."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One of the ways in which a slice is looked at; their logits are averaged.

    Parameters
    ----------
    shift_yx : tuple of 2 floats
        Where the view's centre lies off the box's, over half of the view's sides.
    scale : float
        Factor of the view's sides.
    flipped_yx : tuple of 2 bool
        Which axes are mirrored.
    """

    shift_yx: tuple[float, float]
    scale: float
    flipped_yx: tuple[bool, bool]

    @property
    def flipped_axes(self) -> tuple[int, ...]:
        """Of an image's last two, which are mirrored; counted from the end."""
        return tuple(
            axis for axis, is_flipped in zip((-2, -1), self.flipped_yx, strict=True) if is_flipped
        )


GLANCES = (
    Glance((0.06, 0.06), 0.92, (False, False)),
    Glance((-0.06, 0.06), 1.0, (True, False)),
    Glance((0.06, -0.06), 1.15, (False, True)),
    Glance((-0.06, -0.06), 1.05, (True, True)),
)
"""The object is the same in all of them: where the answers differ, it is by mistakes, which partly
average out."""

ONE_GLANCE = (Glance((0.0, 0.0), 1.0, (False, False)),)
"""Where many slices are looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class OutlineQuestion:
    """What the outline network is asked about one slice.

    Parameters
    ----------
    box : Box
        Around the object.
    plane_shape_yx : tuple of 2 int
    read : callable
        Takes an offset from the slice, such as -1 for the one before, and a `Region`; returns
        stored values of that shape.
    points : sequence of PointPrompt
        Clicks on the slice.
    """

    box: Box
    plane_shape_yx: tuple[int, int]
    read: ReadNear
    points: Sequence[PointPrompt] = ()


@dataclass(frozen=True, slots=True, eq=False)
class OutlineView:
    """What the outline network says of one slice.

    Parameters
    ----------
    patch : LogitPatch
        NaN where the network did not look.
    quality : float, range [0, 1]
        The Dice that it expects of itself.
    """

    patch: LogitPatch
    quality: float


class OutlineLook:
    """The outline network, from slices' values to logits; always on the CPU: it is small.

    Parameters
    ----------
    network : OutlineNetwork
    """

    def __init__(self, network: OutlineNetwork) -> None:
        self._network = network.to(memory_format=torch.channels_last)

    @property
    def config(self) -> OutlineConfig:
        """What the network sees."""
        return self._network.config

    def views(
        self, questions: Sequence[OutlineQuestion], glances: Sequence[Glance] = GLANCES
    ) -> list[OutlineView]:
        """Look at some slices at once.

        Parameters
        ----------
        questions : sequence of OutlineQuestion
        glances : sequence of Glance
            One at least.

        Returns
        -------
        list of OutlineView
            One a question.

        Raises
        ------
        VolumeError
            A slice cannot be read.
        """
        if not questions:
            return []
        asked = [(question, glance) for question in questions for glance in glances]
        grids = [
            BoxGrid.around(self.config, q.box, q.plane_shape_yx, g.shift_yx, g.scale)
            for q, g in asked
        ]
        most = max(len(q.points) for q in questions)
        seen = [_seen(grid, *pair, most) for grid, pair in zip(grids, asked, strict=True)]
        with torch.inference_mode():
            logits, quality = self._network(
                *(torch.from_numpy(np.stack(arrays)) for arrays in zip(*seen, strict=True))
            )
        found = (logits.float() + OUTLINE_SHIFT).clamp(-LOGIT_LIMIT, LOGIT_LIMIT).numpy()
        patches = [
            LogitPatch(grid.region, grid.on_plane(np.flip(layer, glance.flipped_axes)))
            for grid, layer, (_, glance) in zip(grids, found, asked, strict=True)
        ]
        qualities = quality.float().sigmoid().view(len(questions), -1).mean(1)
        n = len(glances)
        return [
            OutlineView(_mean(patches[k * n : (k + 1) * n]), float(value))
            for k, value in enumerate(qualities)
        ]


Seen = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]
"""Images, what is inside the plane, box, clicks."""


def _seen(grid: BoxGrid, question: OutlineQuestion, glance: Glance, n_clicks: int) -> Seen:
    """Return what the network is shown at one glance, as it takes it; ``n_clicks`` with filling."""
    axes = glance.flipped_axes
    box = grid.box_on_grid(question.box)
    clicks = np.zeros((n_clicks, 3), dtype=np.float32)
    for row, point in zip(clicks, question.points, strict=False):
        row[:] = (*grid.point_on_grid(point.y, point.x), 1 if point.positive else -1)
    for k, is_flipped in enumerate(glance.flipped_yx):
        if is_flipped:
            box[[k, k + 2]] = -box[[k + 2, k]]
            clicks[:, k] *= -1
    return np.flip(_images(grid, question), axes), np.flip(grid.inside, axes), box, clicks


def _mean(patches: Sequence[LogitPatch]) -> LogitPatch:
    """Return the mean of patches' logits where they say something; NaN where none does."""
    region = patches[0].region
    for patch in patches[1:]:
        region = region.union(patch.region)
    total = np.zeros(region.shape_yx, dtype=np.float32)
    count = np.zeros(region.shape_yx, dtype=np.float32)
    for patch in patches:
        where = patch.region.within(region)
        is_known = np.isfinite(patch.logits)
        total[where] += np.where(is_known, patch.logits, np.float32(0))
        count[where] += is_known
    with np.errstate(invalid="ignore"):
        return LogitPatch(region, total / count)


def _images(grid: BoxGrid, question: OutlineQuestion) -> NDArray[np.float32]:
    """Return the slices on the grid, from 0 to 1; float32, shape (slices, side, side)."""
    reach = grid.config.slices // 2
    planes = np.stack([question.read(k, grid.region) for k in range(-reach, reach + 1)])
    return scaled(grid.images(planes))


def scaled(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return slices' views scaled by what the middle one shows, from 0 to 1.

    Its percentiles 0.5 and 99.5 become 0.25 and 0.75. All zero where it is constant.
    """
    low, high = (float(v) for v in np.percentile(images[len(images) // 2], RANGE_PERCENTILES))
    if not high > low:
        return np.zeros_like(images)
    half = np.float32(0.5)
    kept = ((images - np.float32(low)) / np.float32(high - low) + half) * half
    return kept.clip(0, 1)


@lru_cache(maxsize=1)
def embedded_look() -> OutlineLook:
    """Return the look with the weights that ship.

    Raises
    ------
    CheckpointError
        They are missing or corrupt.
    """
    return OutlineLook(load_outline())
