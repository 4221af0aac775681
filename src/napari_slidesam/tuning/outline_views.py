"""What the outline network sees of labelled volumes: boxes as people draw them.

A view is what `napari_slidesam.model.outline.grid.BoxGrid` samples of some slices around a box,
along any of the volume's axes, turned and sheared, with the truth sampled at the same places. Label
maps are painted: see `napari_slidesam.tuning.appearance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.grid import UPRIGHT, BoxGrid, half_sides
from napari_slidesam.model.outline.look import RANGE_PERCENTILES, scaled
from napari_slidesam.tuning.appearance import degrade, paint, remap
from napari_slidesam.tuning.drawn_volumes import DrawnVolumes, axis_first
from napari_slidesam.tuning.fields import apply_in_plane, averaging_matrix
from napari_slidesam.tuning.labelled import MAX_VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.model.outline.grid import Turn
    from napari_slidesam.tuning.drawn_volumes import ObjectBoxes
    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.synthetic import SyntheticVolumes

MAX_ATTEMPTS = 20
"""In one volume."""
MAX_VOLUMES = 30
"""That are tried for one view."""
MIN_REGION_SIDE = 4
"""Pixels that are seen along each axis, at least."""
MIN_BOX_SIDE = 1.0
"""In pixels; a box that was moved by chance may become smaller than its object."""
MASK_VALUE = 255
"""Of a sample that is all the object's."""


@dataclass(frozen=True, slots=True)
class OutlineDraw:
    """How views are drawn.

    ``real``, ``painted`` and ``procedural`` are the shares of real images, of real labels painted
    anew, and of procedural label volumes; the share of a source without volumes goes to the
    others. The ``middle_share`` of the slices lie within ``middle`` of the object's extent, the
    others within ``anywhere``. Planes whose spacings differ by more than ``max_anisotropy`` are
    left out, and objects with fewer than ``min_pixels`` there or a side below ``min_side``.

    The ``turned_share`` of the views is turned by any angle, the ``sheared_share`` sheared with a
    deviation of ``shear``. A box's sides are moved with a deviation of ``jitter`` of its extents;
    in the ``loose_share`` of the views it is ``loose_jitter``, in the ``exact_share`` 0. The
    ``zoomed_share`` sees the surroundings times ``zoom``; the ``shifted_share`` is off the box's
    centre with a deviation of ``shift`` of what is seen. The ``other_step_share`` shows
    neighbouring slices that are up to ``max_step`` apart, instead of one.

    The ``noise_share`` of the real images gets white noise of at most ``noise`` of their range.
    Painted views are ``painted_px`` across, of objects at least ``min_painted_side`` pixels; the
    ``remapped_share`` goes through a random intensity curve. Views whose grey values differ by
    less than ``min_range`` are drawn anew.
    """

    real: float = 0.68
    painted: float = 0.18
    procedural: float = 0.14
    middle_share: float = 0.4
    middle: tuple[float, float] = (0.35, 0.65)
    anywhere: tuple[float, float] = (0.03, 0.97)
    max_anisotropy: float = 2.5
    min_pixels: int = 16
    min_side: int = 3
    turned_share: float = 0.45
    sheared_share: float = 0.3
    shear: float = 0.2
    jitter: float = 0.05
    loose_jitter: float = 0.1
    loose_share: float = 0.2
    exact_share: float = 0.1
    zoomed_share: float = 0.4
    zoom: tuple[float, float] = (0.85, 1.2)
    shifted_share: float = 0.2
    shift: float = 0.05
    other_step_share: float = 0.15
    max_step: int = 2
    noise: float = 0.06
    noise_share: float = 0.25
    painted_px: int = 96
    min_painted_side: float = 3.0
    remapped_share: float = 0.3
    min_range: float = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class OutlineSample:
    """What the outline network sees, and the truth.

    Parameters
    ----------
    images : ndarray of uint16, shape (slices, side, side)
        The slices' grey values, scaled as `napari_slidesam.model.outline.look.scaled` does,
        times 65535.
    truth : ndarray of uint8, shape (side, side)
        How much of a sample is the object, times 255.
    inside : ndarray of bool, shape (side, side)
        Which samples lie inside the plane.
    box : ndarray of float32, shape (4,)
        y0, x0, y1, x1; the view reaches from -1 to 1.
    source : str
        Kind and name of the volume, as ``real/name``.
    """

    images: NDArray[np.uint16]
    truth: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    box: NDArray[np.float32]
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """One object on one slice, and a box around it.

    ``corners`` are the least and largest y, x along the turned axes, in index coordinates: an
    array of shape (2, 2).
    """

    volume: LabelledVolume
    label: int
    axis: int
    index: int
    turn: Turn
    corners: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[Any]:
        """The volume's labels, slices first."""
        return np.moveaxis(self.volume.labels, self.axis, 0)


class OutlineSampler:
    """Draws views from labelled volumes.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones; those without an image are only painted.
    series : SyntheticVolumes, optional
        Procedural label volumes; made when they are first drawn.
    procedural : int
        How many of the series are used.
    grid : OutlineConfig, optional
    config : OutlineDraw, optional

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
        grid: OutlineConfig | None = None,
        config: OutlineDraw | None = None,
    ) -> None:
        self.grid = OutlineConfig() if grid is None else grid
        self.config = OutlineDraw() if config is None else config
        shares = (self.config.real, self.config.painted, self.config.procedural)
        self._volumes = DrawnVolumes(volumes, series, procedural, shares)

    def draw(self, rng: np.random.Generator) -> OutlineSample:
        """Return a view of a source, volume, axis, object, slice and box chosen at random.

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
        """Choose an object, a slice and a box; None where it shows too little of it."""
        config, volume = self.config, objects.volume
        label = int(rng.choice(volume.object_ids))
        axis = int(rng.integers(3))
        _, *spacing = axis_first(volume.spacing_zyx, axis)
        if max(spacing) / min(spacing) > config.max_anisotropy:
            return None
        extent, rows, columns = axis_first(objects.boxes[label], axis)
        low, high = config.middle if rng.random() < config.middle_share else config.anywhere
        length = extent.stop - extent.start
        index = min(extent.stop - 1, int(extent.start + length * rng.uniform(low, high)))
        mask = np.moveaxis(volume.labels, axis, 0)[index, rows, columns] == label
        if mask.sum() < config.min_pixels:
            return None
        if min(np.ptp(np.flatnonzero(mask.any(k))) + 1 for k in (0, 1)) < config.min_side:
            return None
        turn = self._turn(rng)
        corners = _turned_corners(mask, (rows.start, columns.start), turn)
        return _Target(volume, label, axis, index, turn, corners)

    def _turn(self, rng: np.random.Generator) -> Turn:
        """Choose an angle and a shear.

        Mirrored and turned by right angles, views are by `OutlineAugmenter`.
        """
        turn = np.array(UPRIGHT)
        if rng.random() < self.config.turned_share:
            angle = rng.uniform(-math.pi, math.pi)
            cos, sin = math.cos(angle), math.sin(angle)
            turn = np.array([[cos, -sin], [sin, cos]])
        if rng.random() < self.config.sheared_share:
            shear = np.array([[1.0, rng.normal(0, self.config.shear)], [0.0, 1.0]])
            turn = turn @ (shear if rng.random() < 0.5 else shear.T)
        (yy, yx), (xy, xx) = turn.tolist()
        return (yy, yx), (xy, xx)

    def _view(self, target: _Target, kind: str, rng: np.random.Generator) -> OutlineSample | None:
        """Return what is seen around a box; None where that is too little."""
        config = self.config
        sides = np.diff(target.corners, axis=0)
        if kind != "real" and sides.min() < config.min_painted_side:
            return None
        grid, box = self._framed(target, rng)
        if min(grid.region.shape_yx) < MIN_REGION_SIDE:
            return None
        step = 1
        if rng.random() < config.other_step_share:
            step = int(rng.integers(config.max_step + 1))
        last = len(target.labels) - 1
        reach = self.grid.slices // 2
        offsets = range(-reach, reach + 1)
        shown = [min(max(target.index + k * step, 0), last) for k in offsets]
        look = _real if kind == "real" else _painted
        images, mask = look(target, grid, shown, config, rng)
        low, high = np.percentile(images[reach], RANGE_PERCENTILES)
        if high - low < config.min_range:
            return None
        inside = grid.inside
        return OutlineSample(
            (scaled(images) * MAX_VALUE).astype(np.uint16),
            truth=(mask * inside * MASK_VALUE).astype(np.uint8),
            inside=inside,
            box=box,
            source=f"{kind}/{target.volume.name}",
        )

    def _framed(
        self, target: _Target, rng: np.random.Generator
    ) -> tuple[BoxGrid, NDArray[np.float32]]:
        """Move a box's sides by chance; return a grid around it, and the box on the grid."""
        config, chance = self.config, rng.random()
        jitter = config.jitter
        if chance < config.loose_share + config.exact_share:
            jitter = config.loose_jitter if chance < config.loose_share else 0.0
        sides = np.diff(target.corners, axis=0)
        corners = np.sort(target.corners + rng.normal(0, jitter, (2, 2)) * sides, axis=0)
        corners[1] = np.maximum(corners[1], corners[0] + MIN_BOX_SIDE)
        height, width = (corners[1] - corners[0]).tolist()
        half = np.array(half_sides(self.grid, height, width))
        if rng.random() < config.zoomed_share:
            half *= rng.uniform(*config.zoom)
        centre = corners.mean(axis=0)
        if rng.random() < config.shifted_share:
            centre += rng.normal(0, config.shift, 2) * half
        y, x = (np.array(target.turn) @ centre).tolist()
        half_y, half_x = half.tolist()
        rows, columns = target.labels.shape[1:]
        grid = BoxGrid(self.grid, (y, x), (half_y, half_x), (rows, columns), target.turn)
        return grid, ((corners - centre) / half).astype(np.float32).ravel()


def _turned_corners(
    mask: NDArray[np.bool_], origin: tuple[int, int], turn: Turn
) -> NDArray[np.float64]:
    """Return the least and largest y, x of a mask along turned axes; shape (2, 2).

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
        Not empty.
    origin : tuple of 2 int
        Of its first pixel in the plane.
    turn : Turn
        As of a `BoxGrid`.
    """
    ys = np.flatnonzero(mask.any(axis=1))
    first = mask[ys].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[ys, ::-1].argmax(axis=1)
    y = np.concatenate([ys - 0.5, ys + 0.5, ys - 0.5, ys + 0.5]) + origin[0]
    x = np.concatenate([first - 0.5, first - 0.5, last + 0.5, last + 0.5]) + origin[1]
    along = np.linalg.inv(np.array(turn)) @ np.stack([y, x])
    corners: NDArray[np.float64] = np.stack([along.min(axis=1), along.max(axis=1)])
    return corners


def _real(
    target: _Target,
    grid: BoxGrid,
    shown: Sequence[int],
    config: OutlineDraw,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a real image's slices on the grid, some of them noisier, and the mask."""
    volume, where = target.volume, grid.region.slices
    assert volume.image is not None
    slices = np.moveaxis(volume.image, target.axis, 0)
    values = np.stack([slices[k][where] for k in shown]).astype(np.float32)
    values /= np.float32(MAX_VALUE)
    if rng.random() < config.noise_share:
        noise = rng.standard_normal(values.shape, dtype=np.float32)
        values += noise * np.float32(rng.uniform(0, config.noise))
    mask = target.labels[target.index][where] == target.label
    return grid.images(values), grid.images(mask[None])[0]


def _painted(
    target: _Target,
    grid: BoxGrid,
    shown: Sequence[int],
    config: OutlineDraw,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return grey values painted on the labels, whose border is repeated outside, and the mask."""
    n = config.painted_px
    fine = replace(grid, config=replace(grid.config, side=n))
    places = np.rint(fine.places()).astype(int)
    rows, columns = (
        p.clip(0, size - 1) for p, size in zip(places, grid.plane_shape_yx, strict=True)
    )
    seen = np.stack([target.labels[k][rows, columns] for k in shown])
    half_y, half_x = grid.half_yx
    is_object = seen == target.label
    painted = paint(seen, is_object, rng, (n / (2 * half_y), n / (2 * half_x)))
    images = remap(degrade(painted, rng), rng, config.remapped_share)
    coarser = averaging_matrix(n, grid.config.side)
    middle = len(shown) // 2
    layers = np.concatenate([images, is_object[middle : middle + 1]]).astype(np.float32)
    means = apply_in_plane(layers, coarser, coarser)
    return means[:-1], means[-1]
