"""Stacks of slices through labelled volumes: the samples that a network is trained on.

A stack is cut along any plane of a volume around one object:

    slice 0   1   2   3   4        the object's box on the centre slice (2) has a longest side
          |   |   |   |   |        of about side_px / context; the other slices lie step apart,
      ----+---+---O---+---+---     through the object, or past its end
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.appearance import VOXEL_BLUR, degrade, paint, remap, to_uint8
from napari_slidesam.tuning.components import keep_connected
from napari_slidesam.tuning.fields import (
    apply_in_plane,
    blurring_matrix,
    log_uniform,
    smooth_field,
)
from napari_slidesam.tuning.labelled import MAX_VALUE
from napari_slidesam.tuning.planes import (
    ObjectIndex,
    Plane,
    draw_axes,
    draw_plane,
    look_at_target,
)
from napari_slidesam.tuning.stack_config import StackConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.labelled import LabelledVolume

MAX_ATTEMPTS = 400
MIN_TARGET_PX = 80
MIN_IMAGE_STD = 2.0
MIN_OBJECTS_FOR_UNION = 20
MIN_INTERIOR_SHARE = 0.3
"""Of a target's pixels: less is a web of walls that no box can mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """One sample.

    Parameters
    ----------
    images : ndarray of uint8, shape (K, P, P)
        The slices.
    masks : ndarray of bool, shape (K, P, P)
        The target on each; never empty on the centre slice.
    source : str
        Kind and name of the volume, as ``real/name``.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where a stack is cut, its side and step in the spacing's unit, and its target's labels."""

    plane: Plane
    side: float
    step: float
    targets: tuple[int, ...]


class StackSampler:
    """Draws stacks from labelled volumes.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones; those without an image are only painted.
    procedural : sequence of LabelledVolume
        Procedural label volumes; always painted.
    config : StackConfig
        What stacks look like. The share of a source without volumes goes to the others.

    Raises
    ------
    TuningError
        No source has both a volume and a share.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        procedural: Sequence[LabelledVolume] = (),
        config: StackConfig | None = None,
    ) -> None:
        self.config = config if config is not None else StackConfig()
        indices = [ObjectIndex(v) for v in volumes]
        self.sources = {
            "real": [i for i in indices if i.volume.image is not None],
            "painted": indices,
            "procedural": [ObjectIndex(v) for v in procedural],
        }
        shares = {
            name: getattr(self.config, name) if found else 0.0
            for name, found in self.sources.items()
        }
        total = sum(shares.values())
        if total <= 0:
            raise TuningError(
                f"Stacks need at least one volume of a source with a share; got {len(volumes)} "
                f"labelled and {len(procedural)} procedural volumes. Give some."
            )
        self.shares = {name: share / total for name, share in shares.items()}
        self.weights = {
            name: np.full(len(found), 1 / len(found))
            if name == "procedural" and found
            else volume_weights([i.volume for i in found], self.config.max_volume_share)
            for name, found in self.sources.items()
        }

    def draw(self, rng: np.random.Generator) -> Stack:
        """Return one stack of a source and volume chosen at random.

        Raises
        ------
        TuningError
            The volumes' objects are too small or flat to give a stack.
        """
        source = str(rng.choice(list(self.shares), p=list(self.shares.values())))
        return self.draw_from(source, rng)

    def draw_from(self, source: str, rng: np.random.Generator) -> Stack:
        """Return one stack of a source: "real", "painted" or "procedural"."""
        found = self.sources[source]
        for _ in range(MAX_ATTEMPTS):
            index = found[int(rng.choice(len(found), p=self.weights[source]))]
            stack = self._attempt(index, source, rng)
            if stack is not None:
                return stack
        raise TuningError(
            f"No stack found in {MAX_ATTEMPTS} attempts on {source} volumes. Give volumes with "
            "larger objects and images that are not constant."
        )

    def _attempt(self, index: ObjectIndex, source: str, rng: np.random.Generator) -> Stack | None:
        """Cut one stack, or None where the chosen place does not show enough."""
        placed = self._place(index, source == "real", rng)
        if placed is None:
            return None
        coordinates = placed.plane.coordinates(
            index.spacing, placed.side, placed.step, self.config.side_px, self.config.slices
        )
        if source != "real":
            coordinates = coordinates + _warp(rng, self.config.side_px, placed.side, index.spacing)
        replicated = rng.random() < 0.5
        labels, inside = index.look_up(coordinates, placed.plane.through if replicated else None)
        voxel_y_px, voxel_x_px = (
            float(np.abs(axis) @ index.spacing) * self.config.side_px / placed.side
            for axis in placed.plane.axes[1:]
        )
        masks = _target_masks(labels, inside, placed.targets, (voxel_y_px, voxel_x_px))
        if masks is None or not self._fits(masks):
            return None
        if source == "real":
            found = self._real_image(
                index, coordinates, None if replicated else ~inside, masks, rng
            )
            if found is None:
                return None
            image = found
        else:
            seen = labels if replicated else np.where(inside, labels, 0)
            image = degrade(paint(seen, masks, rng, (voxel_y_px, voxel_x_px)), rng)
        images = to_uint8(image)
        if images.std() < MIN_IMAGE_STD:
            return None
        return Stack(images, masks, f"{source}/{index.volume.name}")

    def _place(
        self, index: ObjectIndex, is_real: bool, rng: np.random.Generator
    ) -> Placement | None:
        """Choose an object, a plane through it, and the stack's scale."""
        config = self.config
        label = index.draw_object(rng)
        native = is_real and rng.random() < config.native_share
        full_turn = rng.random() < (config.rotation_real if is_real else config.rotation_labels)
        axes = draw_axes(rng, full_turn and not native, 0.0 if native else config.tilt_deg)
        voxel_depth = float(np.abs(axes[0]) @ index.spacing)
        factor = log_uniform(rng, *config.step_factors)
        step = voxel_depth if native else max(0.7 * index.size(label) * factor, voxel_depth / 2)
        end_depth = None
        if rng.random() < config.end_share:
            steps = rng.uniform(0.0, config.slices // 2 + 0.2)
            end_depth = step * (np.floor(steps) if native else steps)
        plane = draw_plane(index, label, axes, end_depth, rng)

        wants_union = rng.random() < (config.union_real if is_real else config.union_labels)
        if is_real and len(index.volume.object_ids) <= MIN_OBJECTS_FOR_UNION:
            wants_union = False
        outline = look_at_target(index, plane, label, wants_union, rng)
        if outline is None:
            return None
        if not native:
            step = max(step, outline.side * factor)
        offset = np.array(outline.offset_yx) + outline.side * rng.normal(0, config.jitter, 2)
        side = outline.side * config.context / log_uniform(rng, *config.size_spread)
        plane = plane.moved(offset @ plane.axes[1:], index.spacing)
        return Placement(plane, side, step, outline.labels)

    def _real_image(
        self,
        index: ObjectIndex,
        coordinates: NDArray[np.float32],
        blank: NDArray[np.bool_] | None,
        masks: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> NDArray[np.float32] | None:
        """Return the image at coordinates, sometimes focused, remapped and degraded.

        Outside the volume the border is repeated, or 0 where ``blank`` says so. None where the
        volume shows nothing but one value.
        """
        config = self.config
        values: NDArray[np.float32] = ndimage.map_coordinates(
            index.volume.image,
            coordinates,
            order=1,
            mode="nearest",
            output=np.float32,
            prefilter=False,
        )
        values *= np.float32(255 / MAX_VALUE)
        if values.std() < MIN_IMAGE_STD:
            return None
        if blank is not None:
            values[blank] = 0
        values /= np.float32(255)
        image = _focused(values, masks, rng) if rng.random() < config.focus else values
        image = remap(image, rng, config.remap)
        return degrade(image, rng, 0.5) if rng.random() < config.degrade else image

    def _fits(self, masks: NDArray[np.bool_]) -> bool:
        """Whether the centre mask is about as large as the config asks."""
        centre = masks[len(masks) // 2]
        rows, cols = np.flatnonzero(centre.any(1)), np.flatnonzero(centre.any(0))
        longest = max(rows[-1] - rows[0], cols[-1] - cols[0]) + 1
        ratio = longest * self.config.context / self.config.side_px
        area = int(centre.sum())
        interior = centre[2:-2, 2:-2].copy()
        for dy, dx in ((0, 2), (4, 2), (2, 0), (2, 4)):
            interior &= centre[dy : dy + interior.shape[0], dx : dx + interior.shape[1]]
        solid = interior.sum() >= MIN_INTERIOR_SHARE * area or longest**2 > 12 * area
        return bool(0.65 < ratio < 1.5) and area >= MIN_TARGET_PX and bool(solid)


def volume_weights(volumes: Sequence[LabelledVolume], cap: float) -> NDArray[np.float64]:
    """Return how often each volume is used: the root of its number of objects, capped.

    A volume counts as having at least four objects, and gets at most ``cap`` of the whole where
    there are enough volumes for that.
    """
    if len(volumes) == 0:
        return np.zeros(0)
    roots = np.sqrt([max(4, len(v.object_ids)) for v in volumes])
    weights: NDArray[np.float64] = roots / roots.sum()
    cap = max(cap, 1 / len(volumes))
    for _ in range(len(volumes)):
        over = weights > cap + 1e-12
        if not over.any():
            break
        weights[over] = cap
        free = weights < cap
        weights[free] *= (1 - weights[~free].sum()) / weights[free].sum()
    return weights


def _warp(
    rng: np.random.Generator, size_px: int, side: float, spacing: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return a displacement (3, 1, size, size) in voxels, the same on every slice."""
    amplitude = abs(rng.normal(0, 0.02)) * side
    shift = smooth_field(rng, (3, size_px, size_px), (3, 4, 4))
    shift += np.float32(0.5) * smooth_field(rng, (3, size_px, size_px), (3, 7, 7))
    scaled = shift * (amplitude / spacing).astype(np.float32)[:, None, None]
    return scaled[:, None]


def _target_masks(
    labels: NDArray[Any],
    inside: NDArray[np.bool_],
    targets: tuple[int, ...],
    voxel_yx_px: tuple[float, float],
) -> NDArray[np.bool_] | None:
    """Return the target on every slice, its voxel steps smoothed, its far parts left out."""
    if len(targets) == 1:
        masks = (labels == targets[0]) & inside
    else:
        masks = np.isin(labels, targets) & inside
    if max(voxel_yx_px) > 1.5:
        size = labels.shape[1]
        sigma_y, sigma_x = (VOXEL_BLUR * v for v in voxel_yx_px)
        blur_y, blur_x = blurring_matrix(size, sigma_y), blurring_matrix(size, sigma_x)
        masks = apply_in_plane(masks.astype(np.float32), blur_y, blur_x) > 0.5
    return keep_connected(masks)


def _focused(
    image: NDArray[np.float32], masks: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the image cut to the intensities in and near the target's box, scaled to 0-1."""
    centre = masks[len(masks) // 2]
    rows, cols = np.flatnonzero(centre.any(1)), np.flatnonzero(centre.any(0))
    margin = int(rng.uniform(0.1, 0.5) * max(np.ptp(rows), np.ptp(cols)))
    near = image[
        :,
        max(0, rows[0] - margin) : rows[-1] + margin + 1 : 2,
        max(0, cols[0] - margin) : cols[-1] + margin + 1 : 2,
    ]
    low, high = np.percentile(near, [rng.uniform(0, 5), rng.uniform(95, 100)])
    cut: NDArray[np.float32] = (image - np.float32(low)) / np.float32(max(high - low, 1e-3))
    return np.clip(cut, 0, 1)
