"""A look at one slice around a box: which of its pixels belong to the object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_slidesam.model.outline.grid import BoxGrid
from napari_slidesam.model.outline.weights import load_outline
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.geometry import Box, Region
    from napari_slidesam.model.outline.config import OutlineConfig
    from napari_slidesam.model.outline.network import OutlineNetwork

    ReadNear = Callable[[int, Region], NDArray[Any]]

OUTLINE_SHIFT = 0.3
"""Added to the logits: where a border is uncertain, the mask of highest expected Dice is larger
than that of the pixels more likely inside than not."""

RANGE_PERCENTILES = (0.5, 99.5)
"""Of the middle slice's view; as far again on both sides is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class OutlineQuestion:
    """What the outline network is asked about one slice.

    Parameters
    ----------
    box : Box
        Around the object.
    plane_shape_yx : tuple of 2 int
    read : callable
        Takes -1, 0 or 1 and a `Region`; returns stored values of that shape, of the slice before,
        the slice itself and the one after.
    draft : LogitPatch, optional
        What is thought of the object so far.
    """

    box: Box
    plane_shape_yx: tuple[int, int]
    read: ReadNear
    draft: LogitPatch | None = None


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

    def views(self, questions: Sequence[OutlineQuestion]) -> list[OutlineView]:
        """Look at some slices at once.

        Parameters
        ----------
        questions : sequence of OutlineQuestion

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
        grids = [BoxGrid.around(self.config, q.box, q.plane_shape_yx) for q in questions]
        pairs = list(zip(grids, questions, strict=True))
        images = np.stack([_images(grid, q) for grid, q in pairs])
        boxes = np.stack([grid.box_on_grid(q.box) for grid, q in pairs])
        drafts = np.stack([_draft(grid, q.draft) for grid, q in pairs])
        inside = np.stack([grid.inside for grid in grids])
        with torch.inference_mode():
            logits, quality = self._network(
                *(torch.from_numpy(a) for a in (images, inside, boxes, drafts))
            )
        found = (logits.float() + OUTLINE_SHIFT).clamp(-LOGIT_LIMIT, LOGIT_LIMIT).numpy()
        return [
            OutlineView(LogitPatch(grid.region, grid.on_plane(layer)), float(value))
            for grid, layer, value in zip(grids, found, quality.float().sigmoid(), strict=True)
        ]


def _images(grid: BoxGrid, question: OutlineQuestion) -> NDArray[np.float32]:
    """Return the three slices on the grid, from 0 to 1; float32, shape (3, side, side)."""
    planes = np.stack([question.read(offset, grid.region) for offset in (-1, 0, 1)])
    return scaled(grid.images(planes))


def scaled(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return three slices' views scaled by what the middle one shows, from 0 to 1.

    Its percentiles 0.5 and 99.5 become 0.25 and 0.75. All zero where it is constant.
    """
    low, high = (float(v) for v in np.percentile(images[1], RANGE_PERCENTILES))
    if not high > low:
        return np.zeros_like(images)
    half = np.float32(0.5)
    kept = ((images - np.float32(low)) / np.float32(high - low) + half) * half
    return kept.clip(0, 1)


def _draft(grid: BoxGrid, draft: LogitPatch | None) -> NDArray[np.float32]:
    """Return a draft on the grid, from -1 to 1; all zero where there is none."""
    if draft is None:
        return np.zeros((grid.config.side, grid.config.side), dtype=np.float32)
    layers = np.tanh(draft.on(grid.region) / 2)[None]
    sampled: NDArray[np.float32] = grid.images(layers, outside=-1.0)[0]
    return sampled


@lru_cache(maxsize=1)
def embedded_look() -> OutlineLook:
    """Return the look with the weights that ship.

    Raises
    ------
    CheckpointError
        They are missing or corrupt.
    """
    return OutlineLook(load_outline())
