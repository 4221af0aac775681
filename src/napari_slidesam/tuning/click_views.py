"""What the click network sees of labelled volumes: clicks drawn where people would click.

A view is what `napari_slidesam.model.click.polar.PolarGrid` samples of one slice around a click,
along any of the volume's axes, with the truth sampled at the same places. Label maps are painted:
see `napari_slidesam.tuning.appearance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import Region
from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.polar import PolarGrid
from napari_slidesam.tuning.appearance import degrade, paint
from napari_slidesam.tuning.drawn_volumes import DrawnVolumes, axis_first
from napari_slidesam.tuning.labelled import MAX_VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.drawn_volumes import ObjectBoxes
    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.synthetic import SyntheticVolumes

MAX_ATTEMPTS = 50
"""In one volume."""
MAX_VOLUMES = 30
"""That are tried for one view."""
CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class ClickDraw:
    """How views are drawn.

    ``real``, ``painted`` and ``procedural`` are the shares of real images, of real labels painted
    anew, and of procedural label volumes; the share of a source without volumes goes to the
    others. The ``middle_share`` of the slices lie within ``middle`` of the object's extent, the
    others within ``anywhere``. A click lies in a pixel at least ``inner_depth`` of the largest
    distance from the outline, for ``inner_share`` of the views, or else ``outer_depth`` of it.
    The ``scaled_share`` of the views has a last ring whose radius is multiplied by between
    2 to the power of both ``octaves``. An object needs ``min_pixels`` on the slice and sides of
    ``min_side``; from the click it reaches at most ``max_reach`` of the last ring's radius.
    Painted views are ``painted_px`` across; there an object reaches at least ``min_painted_px``.
    The ``noise_share`` of the real images get white noise of at most ``noise`` of their range.
    """

    real: float = 0.6
    painted: float = 0.2
    procedural: float = 0.2
    middle_share: float = 0.6
    middle: tuple[float, float] = (0.35, 0.65)
    anywhere: tuple[float, float] = (0.05, 0.95)
    inner_share: float = 0.7
    inner_depth: float = 0.85
    outer_depth: float = 0.3
    scaled_share: float = 0.5
    octaves: tuple[float, float] = (-1.5, 1.0)
    min_pixels: int = 16
    min_side: int = 3
    max_reach: float = 0.85
    painted_px: int = 144
    min_painted_px: float = 3.0
    noise: float = 0.08
    noise_share: float = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class ClickSample:
    """What the click network sees, and the truth.

    Parameters
    ----------
    image : ndarray of float32, shape (rings, angles)
        Grey values.
    truth : ndarray of float32, shape (rings, angles), range [0, 1]
        How much of a sample is the object.
    inside : ndarray of bool, shape (rings, angles)
        Which samples lie inside the plane.
    source : str
        Kind and name of the volume, as ``real/name``.
    """

    image: NDArray[np.float32]
    truth: NDArray[np.float32]
    inside: NDArray[np.bool_]
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """One object on one slice, and a click on it."""

    volume: LabelledVolume
    label: int
    axis: int
    index: int
    part: NDArray[np.bool_]
    region: Region
    y: int
    x: int

    @property
    def labels(self) -> NDArray[Any]:
        """The slice's labels."""
        plane: NDArray[Any] = np.moveaxis(self.volume.labels, self.axis, 0)[self.index]
        return plane

    @property
    def reach(self) -> float:
        """How far the object reaches from the click along an axis, in pixels."""
        where = self.region
        return max(self.y - where.y0, where.y1 - self.y, self.x - where.x0, where.x1 - self.x)


class ClickSampler:
    """Draws views from labelled volumes.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones; those without an image are only painted.
    series : SyntheticVolumes, optional
        Procedural label volumes; made when they are first drawn.
    procedural : int
        How many of the series are used.
    grid : ClickConfig, optional
    config : ClickDraw, optional

    Raises
    ------
    TuningError
        No source has both a volume and a share.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        series: SyntheticVolumes | None = None,
        procedural: int = 0,
        grid: ClickConfig | None = None,
        config: ClickDraw | None = None,
    ) -> None:
        self.grid = ClickConfig() if grid is None else grid
        self.config = ClickDraw() if config is None else config
        shares = (self.config.real, self.config.painted, self.config.procedural)
        self._volumes = DrawnVolumes(volumes, series, procedural, shares)

    def draw(self, rng: np.random.Generator) -> ClickSample:
        """Return a view of a source, volume, axis, object, slice and click chosen at random.

        Raises
        ------
        TuningError
            The volumes' objects are too small or thin to give one.
        """
        for _ in range(MAX_VOLUMES):
            kind, objects = self._volumes.draw(rng)
            for _ in range(MAX_ATTEMPTS):
                target = self._target(objects, rng)
                view = None if target is None else self._view(target, kind, rng)
                if view is not None:
                    return view
        raise TuningError(
            f"No view was found in {MAX_VOLUMES} volumes with {MAX_ATTEMPTS} attempts each. Give "
            "volumes with larger objects."
        )

    def _target(self, objects: ObjectBoxes, rng: np.random.Generator) -> _Target | None:
        """Choose an object, a slice and a click; None where it shows too little of it."""
        config, volume = self.config, objects.volume
        label = int(rng.choice(volume.object_ids))
        axis = int(rng.integers(3))
        extent, rows, columns = axis_first(objects.boxes[label], axis)
        low, high = config.middle if rng.random() < config.middle_share else config.anywhere
        length = extent.stop - extent.start
        index = min(extent.stop - 1, int(extent.start + length * rng.uniform(low, high)))
        mask = np.moveaxis(volume.labels, axis, 0)[index, rows, columns] == label
        if mask.sum() < config.min_pixels:
            return None
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        is_inner = rng.random() < config.inner_share
        least = depth.max() * (config.inner_depth if is_inner else config.outer_depth)
        candidates = np.flatnonzero(depth >= least)
        y, x = divmod(int(rng.choice(candidates)), mask.shape[1])
        parts, _ = ndimage.label(mask, CONNECTED)
        part = parts == parts[y, x]
        ys, xs = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        inner = (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
        part = part[inner]
        if part.sum() < config.min_pixels or min(part.shape) < config.min_side:
            return None
        y0, x0 = rows.start + int(ys[0]), columns.start + int(xs[0])
        region = Region(y0, x0, y0 + part.shape[0], x0 + part.shape[1])
        return _Target(volume, label, axis, index, part, region, rows.start + y, columns.start + x)

    def _view(self, target: _Target, kind: str, rng: np.random.Generator) -> ClickSample | None:
        """Return what is seen around a click; None where the object is too large or small."""
        config = self.config
        labels = target.labels
        shape = (labels.shape[0], labels.shape[1])
        grid = PolarGrid.around(self.grid, target.y, target.x, shape)
        if rng.random() < config.scaled_share:
            radius = grid.radius * 2 ** rng.uniform(*config.octaves)
            grid = PolarGrid(self.grid, target.y, target.x, radius, shape)
        if target.reach > config.max_reach * grid.radius:
            return None
        truth = _truth(target, grid)
        if kind == "real":
            image = self._seen(target, grid, rng)
        else:
            pixel = 2 * grid.radius / config.painted_px
            if target.reach < config.min_painted_px * pixel:
                return None
            image = self._made_up(target, grid, labels, rng)
        if image.max() - image.min() < 1e-6:
            return None
        return ClickSample(image, truth, grid.inside, f"{kind}/{target.volume.name}")

    def _seen(
        self, target: _Target, grid: PolarGrid, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return the grey values of a real image, some of them noisier."""
        volume = target.volume
        assert volume.image is not None
        plane = np.moveaxis(volume.image, target.axis, 0)[target.index]
        values = plane[grid.region.slices].astype(np.float32) / np.float32(MAX_VALUE)
        if rng.random() < self.config.noise_share:
            noise = rng.standard_normal(values.shape, dtype=np.float32)
            values += noise * np.float32(rng.uniform(0, self.config.noise))
        return grid.image(values)

    def _made_up(
        self, target: _Target, grid: PolarGrid, labels: NDArray[Any], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return grey values painted on the labels, whose border is repeated outside."""
        n = self.config.painted_px
        pixel = 2 * grid.radius / n
        offsets = (np.arange(n) + 0.5) * pixel - grid.radius
        rows, columns = (
            np.clip(np.round(c + offsets).astype(int), 0, size - 1)
            for c, size in zip((target.y, target.x), labels.shape, strict=True)
        )
        seen = labels[np.ix_(rows, columns)][None]
        voxel = (1 / pixel, 1 / pixel)
        painted = degrade(paint(seen, seen == target.label, rng, voxel), rng)[0]
        square = PolarGrid(grid.config, (n - 1) / 2, (n - 1) / 2, n / 2, (n, n))
        part = square.region
        return square.image(painted[part.slices])


def _truth(target: _Target, grid: PolarGrid) -> NDArray[np.float32]:
    """Return how much of each sample is the object."""
    mask = np.zeros(grid.region.shape_yx, dtype=np.float32)
    part, whole = target.region, grid.region
    y0, x0 = max(part.y0, whole.y0), max(part.x0, whole.x0)
    y1, x1 = min(part.y1, whole.y1), min(part.x1, whole.x1)
    common = Region(y0, x0, y1, x1)
    mask[common.within(whole)] = target.part[common.within(part)]
    return grid.image(mask) * grid.inside
