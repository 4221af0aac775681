"""Training crops for the coarse network, cut where it will look when it is used.

A crop is what `napari_slidesam.model.coarse.crops.CropGrid` computes from one prompted slice of
an object, along any of the volume's axes, with the truth sampled at the same places. Label maps
are painted: see `napari_slidesam.tuning.coarse_paint`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import Box
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.crops import CropGrid, stretched
from napari_slidesam.tuning.coarse_paint import painted
from napari_slidesam.tuning.drawn_volumes import DrawnVolumes, axis_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.geometry import Region
    from napari_slidesam.tuning.drawn_volumes import ObjectBoxes
    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.synthetic import SyntheticVolumes

MAX_ATTEMPTS = 50
"""In one volume."""
MAX_VOLUMES = 30
"""That are tried for one crop."""


@dataclass(frozen=True, slots=True)
class DrawConfig:
    """How crops are drawn.

    ``real``, ``painted`` and ``procedural`` are the shares of real images, of real labels painted
    anew, and of procedural label volumes; the share of a source without volumes goes to the
    others. The ``middle_share`` of the prompted slices lie within ``middle`` of the object's
    extent, the others within ``anywhere``. An object needs ``min_slices``; its mask on the slice
    ``min_pixels``, sides of ``min_side`` and ``min_fill`` of its box, and in the cube the
    ``fill`` of a plane. ``context_spread`` is the deviation of the logarithm of the cube's edge,
    ``jitter`` that of its centre, in sides of the box.
    """

    real: float = 0.6
    painted: float = 0.2
    procedural: float = 0.2
    middle_share: float = 0.65
    middle: tuple[float, float] = (0.35, 0.65)
    anywhere: tuple[float, float] = (0.08, 0.92)
    min_slices: int = 4
    min_pixels: int = 24
    min_side: int = 4
    min_fill: float = 0.2
    fill: tuple[float, float] = (0.02, 0.6)
    context_spread: float = 0.08
    jitter: float = 0.03

    def __post_init__(self) -> None:
        shares = (self.real, self.painted, self.procedural, self.middle_share)
        if not all(isinstance(s, (int, float)) and s >= 0 for s in shares):
            raise TuningError(
                "real, painted, procedural and middle_share are numbers of at least 0; got "
                f"{shares}."
            )


@dataclass(frozen=True, slots=True, eq=False)
class CoarseCrop:
    """What the coarse network sees of an object, and the truth.

    Parameters
    ----------
    image, truth : ndarray of float32, shape (N, N, N), range [0, 1]
        Grey values, and how much of a voxel is the object.
    mask : ndarray of float32, shape (N, N), range [0, 1]
        How much of a pixel of the prompted slice is the object.
    inside : ndarray of bool, shape (3, N)
        Which planes along each axis lie inside the volume.
    source : str
        Kind and name of the volume, as ``real/name``.
    """

    image: NDArray[np.float32]
    truth: NDArray[np.float32]
    mask: NDArray[np.float32]
    inside: NDArray[np.bool_]
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """A volume seen along one of its axes, and one object's mask on one of its slices."""

    image: NDArray[Any] | None
    labels: NDArray[Any]
    label: int
    grid: CropGrid


class CropSampler:
    """Draws crops from labelled volumes.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones; those without an image are only painted.
    series : SyntheticVolumes, optional
        Procedural label volumes; made when they are first drawn.
    procedural : int
        How many of the series are used.
    cubes : CoarseConfig, optional
    config : DrawConfig, optional

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
        cubes: CoarseConfig | None = None,
        config: DrawConfig | None = None,
    ) -> None:
        self.cubes = CoarseConfig() if cubes is None else cubes
        self.config = DrawConfig() if config is None else config
        shares = (self.config.real, self.config.painted, self.config.procedural)
        self._images = [v.image for v in volumes if v.image is not None]
        self._volumes = DrawnVolumes(volumes, series, procedural, shares)

    def draw(self, rng: np.random.Generator) -> CoarseCrop:
        """Return a crop of a source, volume, axis, object and slice chosen at random.

        Raises
        ------
        TuningError
            The volumes' objects are too small or thin to give one.
        """
        for _ in range(MAX_VOLUMES):
            kind, objects = self._volumes.draw(rng)
            for _ in range(MAX_ATTEMPTS):
                stack = self._place(objects, rng)
                crop = None if stack is None else self._cut(stack, kind, objects, rng)
                if crop is not None:
                    return crop
        raise TuningError(
            f"No crop was found in {MAX_VOLUMES} volumes with {MAX_ATTEMPTS} attempts each. Give "
            "volumes with larger objects."
        )

    def _place(self, objects: ObjectBoxes, rng: np.random.Generator) -> _Stack | None:
        """Choose an object and a slice; None where it shows too little of it."""
        config, volume = self.config, objects.volume
        label = int(rng.choice(volume.object_ids))
        axis = int(rng.integers(3))
        extent, rows, columns = axis_first(objects.boxes[label], axis)
        length = extent.stop - extent.start
        if length < config.min_slices:
            return None
        low, high = config.middle if rng.random() < config.middle_share else config.anywhere
        anchor = min(extent.stop - 1, int(extent.start + length * rng.uniform(low, high)))
        labels = np.moveaxis(volume.labels, axis, 0)
        mask = labels[anchor, rows, columns] == label
        box = _box(mask, rows.start, columns.start)
        if box is None or mask.sum() < max(
            config.min_pixels, config.min_fill * box.height * box.width
        ):
            return None
        if min(box.height, box.width) < config.min_side:
            return None
        step, *spacing = axis_first(volume.spacing_zyx, axis)
        grid = CropGrid.around(
            self.cubes,
            anchor,
            box,
            step=step,
            spacing_yx=(spacing[0], spacing[1]),
            n_slices=len(labels),
            plane_shape_yx=(labels.shape[1], labels.shape[2]),
        )
        image = None if volume.image is None else np.moveaxis(volume.image, axis, 0)
        return _Stack(image, labels, label, self._jittered(grid, rng))

    def _jittered(self, grid: CropGrid, rng: np.random.Generator) -> CropGrid:
        """Return a cube moved and scaled a little: no box that is drawn fits exactly."""
        scale = float(np.exp(rng.normal(0, self.config.context_spread)))
        z, y, x = grid.edges
        off_y, off_x = rng.normal(0, self.config.jitter, 2) / self.cubes.context
        centre = (grid.centre_yx[0] + off_y * y, grid.centre_yx[1] + off_x * x)
        return replace(grid, centre_yx=centre, edges=(z * scale, y * scale, x * scale))

    def _cut(
        self, stack: _Stack, kind: str, objects: ObjectBoxes, rng: np.random.Generator
    ) -> CoarseCrop | None:
        """Return the crop of a cube; None where the mask hardly shows in it, or fills it."""
        grid = stack.grid
        anchor, (rows, columns) = int(grid.anchor), grid.region.slices
        mask = grid.mask(stack.labels[anchor, rows, columns] == stack.label)
        low, high = self.config.fill
        if not low < mask.mean() < high:
            return None
        image = None
        if kind == "real":
            image = _seen(stack)
            if not image.any():
                return None
        else:
            image = _made_up(stack, rng, self._images)
        truth, source = _truth(stack), f"{kind}/{objects.volume.name}"
        return CoarseCrop(image, truth, mask, grid.inside(), source)


def _box(mask: NDArray[np.bool_], top: int, left: int) -> Box | None:
    """Return the box of a mask that begins at (top, left) of its plane; None of an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return None
    y0, y1, x0, x1 = (int(v) for v in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    return Box(top + y0, left + x0, top + y1, left + x1)


def _seen(stack: _Stack) -> NDArray[np.float32]:
    """Return the grey values of a real image."""
    image = stack.image
    assert image is not None

    def read_plane(index: int, region: Region) -> NDArray[Any]:
        plane: NDArray[Any] = image[index][region.slices]
        return plane

    return stack.grid.image(read_plane)


def _truth(stack: _Stack) -> NDArray[np.float32]:
    """Return how much of each voxel is the object, sampled as the mask is."""
    grid, samples = stack.grid, stack.grid.config.samples
    rows, columns = grid.region.slices
    planes: dict[int, NDArray[np.float32]] = {}
    out = np.zeros((grid.config.side,) * 3, dtype=np.float32)
    for i, index in enumerate(np.round(grid.positions()[0]).astype(int)):
        if not 0 <= index < grid.n_slices:
            continue
        if index not in planes:
            planes[index] = grid.mask(stack.labels[index, rows, columns] == stack.label)
        out[i // samples] += planes[index] / samples
    return out


def _made_up(
    stack: _Stack, rng: np.random.Generator, images: Sequence[NDArray[np.uint16]]
) -> NDArray[np.float32]:
    """Return grey values painted on the labels, whose border is repeated outside."""
    grid, samples = stack.grid, stack.grid.config.samples
    places = (
        np.clip(np.round(p).astype(int), 0, size - 1)
        for p, size in zip(grid.positions(), stack.labels.shape, strict=True)
    )
    fine = painted(stack.labels[np.ix_(*places)], stack.label, rng, images)
    n = grid.config.side
    voxels: NDArray[np.float32] = fine.reshape((n, samples) * 3).mean((1, 3, 5), dtype=np.float32)
    return stretched(voxels)
