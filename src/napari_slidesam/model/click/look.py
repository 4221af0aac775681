"""A look at a click's surroundings: how large the object is, and a box around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

from napari_slidesam.geometry import INDEX_TO_EDGE, Box
from napari_slidesam.model.click.polar import PolarGrid
from napari_slidesam.model.click.weights import load_click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.geometry import Region
    from napari_slidesam.model.click.config import ClickConfig
    from napari_slidesam.model.click.network import ClickNetwork

    ReadRegion = Callable[[Region], NDArray[Any]]

OUTLINE_LOGIT = -0.5
"""Of the box that is asked for: one that cuts the object costs more than a larger one."""

LEAST_SIDE_PX = 2.0
"""Of a box: a smaller one says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickView:
    """What the click network says of one click.

    Parameters
    ----------
    grid : PolarGrid
    logits : ndarray of float32, shape (rings, angles)
        The object is where they are > 0.
    """

    grid: PolarGrid
    logits: NDArray[np.float32]

    def logit_at(self, y: float, x: float) -> float:
        """Return the logit of the sample nearest to a point of the plane."""
        rings, angles = self.logits.shape
        away_y, away_x = y - self.grid.y, x - self.grid.x
        distance = max(float(np.hypot(away_y, away_x)), float(self.grid.radii[0]))
        ring = int(np.searchsorted(self.grid.radii, distance))
        angle = int(np.arctan2(away_y, away_x) / (2 * np.pi) % 1.0 * angles)
        return float(self.logits[min(ring, rings - 1), angle % angles])

    def box(self, level: float = OUTLINE_LOGIT) -> Box | None:
        """Return the box of what is connected to the click above a level; None where nothing is.

        Parameters
        ----------
        level : float
            Logit of the outline.
        """
        logits = np.where(self.grid.inside, self.logits - np.float32(level), np.float32(-1e-3))
        angles = logits.shape[1]
        around = np.concatenate([logits] * 3, axis=1) > 0
        parts, _ = ndimage.label(around)
        at_click = np.unique(parts[0, angles : 2 * angles])
        joined = np.isin(parts[:, angles : 2 * angles], at_click[at_click > 0])
        if not joined.any():
            return None
        rings, columns = np.nonzero(joined)
        edges = self._outward(logits, rings, columns)
        turn = (columns + 0.5) / angles * 2 * np.pi
        y, x = self.grid.y + edges * np.sin(turn), self.grid.x + edges * np.cos(turn)
        middle_y, middle_x = self.grid.y + INDEX_TO_EDGE, self.grid.x + INDEX_TO_EDGE
        y0, y1 = float(y.min()) + INDEX_TO_EDGE, float(y.max()) + INDEX_TO_EDGE
        x0, x1 = float(x.min()) + INDEX_TO_EDGE, float(x.max()) + INDEX_TO_EDGE
        half = LEAST_SIDE_PX / 2
        return Box(
            min(y0, middle_y - half),
            min(x0, middle_x - half),
            max(y1, middle_y + half),
            max(x1, middle_x + half),
        ).clipped(self.grid.plane_shape_yx)

    def _outward(
        self, logits: NDArray[np.float32], rings: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return radii of samples, those on the outline moved to where the logits are 0."""
        last = len(logits) - 1
        here, beyond = logits[rings, columns], logits[np.minimum(rings + 1, last), columns]
        falls = (beyond < 0) & (rings < last)
        share = np.where(falls, here / np.maximum(here - beyond, 1e-6), 0.0)
        step = self.grid.config.octaves / self.grid.config.rings
        radii: NDArray[np.float64] = self.grid.radii[rings] * 2.0 ** (share * step)
        return radii


class ClickLook:
    """The click network, from a slice's values to a box; always on the CPU: it is small.

    Parameters
    ----------
    network : ClickNetwork
    """

    def __init__(self, network: ClickNetwork) -> None:
        self._network = network

    @property
    def config(self) -> ClickConfig:
        """What the network sees."""
        return self._network.config

    def view(
        self, y: float, x: float, plane_shape_yx: tuple[int, int], read: ReadRegion
    ) -> ClickView:
        """Look at the surroundings of one click.

        Parameters
        ----------
        y, x : float
            In index coordinates.
        plane_shape_yx : tuple of 2 int
        read : callable
            Takes a `Region` of the slice, returns stored values of that shape.
        """
        grid = PolarGrid.around(self.config, y, x, plane_shape_yx)
        image = torch.from_numpy(grid.image(read(grid.region)))
        with torch.inference_mode():
            logits = self._network(image[None], torch.from_numpy(grid.inside)[None])
        return ClickView(grid, logits[0].float().numpy())

    def box(
        self,
        positive_yx: Sequence[tuple[float, float]],
        negative_yx: Sequence[tuple[float, float]],
        plane_shape_yx: tuple[int, int],
        read: ReadRegion,
    ) -> Box | None:
        """Return a box around the object that clicks mean; None where nothing is seen.

        Around each positive click lies what is likelier the object than not, and likelier than
        any negative click as long as the click itself is.

        Parameters
        ----------
        positive_yx, negative_yx : sequences of (y, x)
            In index coordinates.
        plane_shape_yx : tuple of 2 int
        read : callable
            As in `view`.
        """
        found: Box | None = None
        for y, x in positive_yx:
            view = self.view(y, x, plane_shape_yx, read)
            level = max((view.logit_at(*point) for point in negative_yx), default=OUTLINE_LOGIT)
            if not OUTLINE_LOGIT < level < view.logit_at(y, x):
                level = OUTLINE_LOGIT
            box = view.box(level)
            if box is not None:
                found = box if found is None else found.union(box)
        return found


@lru_cache(maxsize=1)
def embedded_look() -> ClickLook:
    """Return the look with the weights that ship.

    Raises
    ------
    CheckpointError
        They are missing or corrupt.
    """
    return ClickLook(load_click())
