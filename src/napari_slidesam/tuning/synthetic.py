"""Procedural label volumes: the shapes of many kinds of objects, without any image.

Every volume is a cube of side 1 in its own units, cut into voxels that may be up to six times
thicker along z than in plane, and bent by a smooth random displacement at the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.signal import lfilter

from napari_slidesam.tuning.canvas import Canvas
from napari_slidesam.tuning.fields import log_uniform, random_rotation, smooth_field
from napari_slidesam.tuning.labelled import LabelledVolume

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MAX_ANISOTROPY = 6.0
MIN_COMPONENT_VOXELS = 200
MAX_OBJECT_SHARE = 0.3
"""Of a volume: what fills more is cut by its borders everywhere and has no outline of its own."""


class SyntheticVolumes:
    """Procedural label volumes, each fixed by a seed and its number.

    Parameters
    ----------
    seed : int
        Seed of the whole series.
    side : int
        Voxels along each side of an isotropic volume; others have about as many in all.
    """

    def __init__(self, seed: int, side: int = 128) -> None:
        self.seed = seed
        self.side = side

    def make(self, number: int) -> LabelledVolume:
        """Return one volume of the series; its name is its kind."""
        rng = np.random.default_rng((self.seed, number))
        kind = KINDS[number % len(KINDS)]
        while True:
            canvas = Canvas(self._shape(rng))
            kind(canvas, rng)
            canvas.bend(rng, abs(rng.normal(0, 0.035)))
            spacing = tuple(float(s) * self.side for s in canvas.spacing)
            counts = np.bincount(canvas.labels.ravel())
            canvas.unprompted |= {0, *np.flatnonzero(counts > MAX_OBJECT_SHARE * counts.sum())}
            large = np.flatnonzero(counts >= MIN_COMPONENT_VOXELS)
            if len(set(large.tolist()) - canvas.unprompted) >= 2:
                assert len(spacing) == 3
                volume = LabelledVolume.from_arrays(kind.__name__, None, canvas.labels, spacing)
                objects = tuple(i for i in volume.object_ids if i not in canvas.unprompted)
                return replace(volume, object_ids=objects)

    def _shape(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Return isotropic voxels for half of the volumes, thicker ones for the others."""
        ratio = 1.0 if rng.random() < 0.5 else log_uniform(rng, 1.3, MAX_ANISOTROPY)
        plane = round(self.side * ratio ** (1 / 3))
        return (max(8, round(plane / ratio)), plane, plane)


def ellipsoids(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw scattered ellipsoids of all sizes, over or under one another, some with cores."""
    for _ in range(int(rng.integers(15, 90))):
        radius = log_uniform(rng, 0.035, 0.26)
        radii = radius * np.exp(rng.normal(0, 0.3, 3))
        blob = canvas.ellipsoid(rng.uniform(-0.05, 1.05, 3), radii, random_rotation(rng))
        if rng.random() < 0.3:
            canvas.fill_free(blob, canvas.new_label())
            continue
        canvas.fill(blob, canvas.new_label())
        if rng.random() < 0.35:
            canvas.fill(blob, canvas.new_label(), outer=rng.uniform(0.3, 0.85))


def solids(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw deformed solids, from octahedra over lumps to boxes, some nested three deep."""
    for _ in range(int(rng.integers(10, 45))):
        radii = log_uniform(rng, 0.04, 0.22) * np.exp(rng.normal(0, 0.35, 3))
        waves = rng.normal(0, 0.6, (int(rng.integers(0, 4)), 4))
        waves[:, 3] = rng.uniform(-0.15, 0.15, len(waves))
        blob = canvas.solid(
            rng.uniform(0, 1, 3), radii, random_rotation(rng), log_uniform(rng, 1.0, 9.0), waves
        )
        if rng.random() < 0.25:
            blob = blob.cut(int(rng.integers(3)), rng.uniform(0.2, 0.5), rng.random() < 0.5)
        outer = 1.0
        for _ in range(1 if rng.random() < 0.6 else int(rng.integers(2, 4))):
            canvas.fill(blob, canvas.new_label(), outer=outer)
            outer *= rng.uniform(0.45, 0.85)


def cells(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw cells that fill space, with or without walls between them and organelles in them."""
    points, count = _spread_points(rng, int(log_uniform(rng, 15, 250)))
    owners, _ = canvas.voronoi(points, np.arange(2, count + 2))
    canvas.labels = owners.astype(np.uint16)
    wall = 1 if rng.random() < 0.5 else 0
    canvas.unprompted.add(1)
    if rng.random() < 0.6:
        width = count ** (-1 / 3) * log_uniform(rng, 0.03, 0.25)
        canvas.labels[canvas.boundaries(owners, width)] = wall
    canvas.last_label = count + 1
    if rng.random() < 0.6:
        _organelles(canvas, rng, points)


def tubes(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw curved tubes of varying radius, some cut head to tail into segments."""
    for _ in range(int(rng.integers(8, 30))):
        curve = _curve(rng, stiffness=rng.uniform(0.5, 0.97))
        radius = log_uniform(rng, 0.012, 0.09)
        waves = np.sin(np.linspace(0, rng.uniform(2, 25), len(curve)) + rng.uniform(0, 6))
        radii = np.maximum(radius * (1 + rng.uniform(0, 0.4) * waves), 0.009)
        labels = _segments(canvas, rng, len(curve))
        canvas.tube(curve, radii, labels)
        if rng.random() < 0.3 and radius > 0.035:  # a lumen
            label = np.full(len(curve), canvas.new_label() if rng.random() < 0.7 else 0)
            canvas.tube(curve, radii * rng.uniform(0.4, 0.8), label)


def organs(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw large soft organs that touch one another in a body with a skin and a spine."""
    body = canvas.ellipsoid(
        np.full(3, 0.5) + rng.normal(0, 0.03, 3), rng.uniform(0.42, 0.75, 3), random_rotation(rng)
    )
    canvas.fill(body, canvas.new_label())
    inner = rng.uniform(0.75, 0.95)
    fat = canvas.new_label()
    canvas.unprompted.add(fat)
    canvas.fill(body, fat, outer=inner)
    points, count = _spread_points(rng, int(rng.integers(8, 30)))
    owners, _ = canvas.voronoi(points, np.arange(1, count + 1))
    organ_of = np.array([0] + [canvas.new_label() for _ in range(count)])
    merged = rng.random(count + 1) < 0.3  # neighbours grown together, and gaps of fat
    organ_of[merged] = rng.choice(organ_of[1:], int(merged.sum()))
    organ_of[rng.random(count + 1) < 0.2] = fat
    inside = canvas.labels == fat
    canvas.labels[inside] = organ_of[owners[inside]]
    if rng.random() < 0.5:
        width = rng.uniform(0.01, 0.03)
        canvas.labels[canvas.boundaries(organ_of[owners], width) & inside] = fat
    curve = _curve(rng, stiffness=0.98)
    radius = rng.uniform(0.03, 0.07)
    canvas.tube(curve, np.full(len(curve), radius), _segments(canvas, rng, len(curve)))
    _scatter(canvas, rng, int(rng.integers(3, 15)), 0.07)


def random_fields(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw the connected parts of the level sets of a random field."""
    shape = canvas.labels.shape
    grain = int(rng.integers(4, 13))
    field = smooth_field(rng, shape, (grain,) * 3)
    field += np.float32(0.4 * rng.random()) * smooth_field(rng, shape, (2 * grain,) * 3)
    levels = np.sort(rng.normal(0, 0.5, int(rng.integers(1, 4))))
    bands = np.digitize(field, levels)
    start = 0 if rng.random() < 0.5 else 1
    for band in range(start, len(levels) + 1):
        parts, count = ndimage.label(bands == band)
        large = np.bincount(parts.ravel(), minlength=count + 1) >= MIN_COMPONENT_VOXELS
        large[0] = False
        lookup = np.zeros(count + 1, dtype=np.uint16)
        lookup[large] = [canvas.new_label() for _ in range(int(large.sum()))]
        canvas.labels += lookup[parts]


def shells(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw hollow ellipsoids, cups, rings and hollow tubes with thin or thick walls."""
    for _ in range(int(rng.integers(6, 26))):
        wall, lumen = canvas.new_label(), canvas.new_label() if rng.random() < 0.6 else 0
        thickness = log_uniform(rng, 0.08, 0.5)
        form = rng.random()
        if form < 0.55:
            radii = log_uniform(rng, 0.06, 0.28) * np.exp(rng.normal(0, 0.25, 3))
            blob = canvas.ellipsoid(rng.uniform(0, 1, 3), radii, random_rotation(rng))
            if rng.random() < 0.4:  # a cup: open on one side, as the heart's muscle is
                blob = blob.cut(int(rng.integers(3)), rng.uniform(0.15, 0.45), rng.random() < 0.5)
            canvas.fill(blob, wall)
            canvas.fill(blob, lumen, outer=1 - thickness)
        elif form < 0.75:
            angle = np.linspace(0, 2 * np.pi * rng.uniform(0.6, 1), 90)
            circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
            radius = log_uniform(rng, 0.07, 0.25)
            curve = radius * circle @ random_rotation(rng) + rng.uniform(0, 1, 3)
            tube = radius * rng.uniform(0.12, 0.4)
            canvas.tube(curve, np.full(90, tube), np.full(90, wall))
        else:
            curve = _curve(rng, stiffness=0.95)
            radii = np.full(len(curve), log_uniform(rng, 0.04, 0.12))
            canvas.tube(curve, radii, np.full(len(curve), wall))
            canvas.tube(curve, radii * (1 - thickness), np.full(len(curve), lumen))
    if rng.random() < 0.4:
        _scatter(canvas, rng, int(rng.integers(5, 30)), 0.06)


def nuclei(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw packed nuclei of like size, touching or nearly, some with nucleoli."""
    points, count = _spread_points(rng, int(log_uniform(rng, 40, 400)))
    owners, distance = canvas.voronoi(points, np.arange(1, count + 1))
    pitch = count ** (-1 / 3)
    radii = pitch * rng.uniform(0.4, 0.62) * np.exp(rng.normal(0, 0.15, count + 1))
    radii[rng.random(count + 1) < 0.1] = 0
    canvas.labels = np.where(distance < radii[owners], owners, 0).astype(np.uint16)
    canvas.last_label = count
    if rng.random() < 0.3:
        _organelles(canvas, rng, points, small=True)


def neurites(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw branching processes that fill space with thin membranes, and mitochondria in them."""
    curves, owners = [], []
    for _ in range(int(log_uniform(rng, 30, 160))):
        label = canvas.new_label()
        trunk = _curve(rng, stiffness=rng.uniform(0.6, 0.95))
        branches = [trunk]
        for _ in range(int(rng.integers(0, 3))):
            branch = _curve(rng, stiffness=0.8)
            branches.append(branch - branch[0] + trunk[rng.integers(len(trunk))])
        for part in branches:
            inside = part[((part > 0) & (part < 1)).all(1)]
            curves.append(inside)
            owners.append(np.full(len(inside), label))
    points = np.concatenate(curves)
    cell_of, distance = canvas.voronoi(points, np.concatenate(owners))
    canvas.labels = cell_of.astype(np.uint16)
    if rng.random() < 0.8:
        canvas.labels[canvas.boundaries(cell_of, rng.uniform(0.008, 0.02))] = 0
    if rng.random() < 0.6:
        centres = points[rng.integers(0, len(points), int(rng.integers(10, 60)))]
        _organelles(canvas, rng, centres, small=True)
    if rng.random() < 0.15:  # sparse processes in empty space
        canvas.labels[distance > rng.uniform(0.01, 0.03)] = 0


KINDS: tuple[Callable[[Canvas, np.random.Generator], None], ...] = (
    ellipsoids,
    cells,
    tubes,
    organs,
    random_fields,
    shells,
    nuclei,
    neurites,
    solids,
)
"""Kinds of volumes; a series goes through them in turn."""


def _spread_points(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], int]:
    """Return about ``count`` points of the cube, none very close to another."""
    candidates = rng.uniform(0, 1, (count * 4, 3))
    least = (0.7 * count ** (-1 / 3)) ** 2
    kept = candidates[:1]
    for point in candidates[1:]:
        if len(kept) < count and ((kept - point) ** 2).sum(1).min() > least:
            kept = np.vstack([kept, point])
    return kept, len(kept)


def _curve(rng: np.random.Generator, stiffness: float, steps: int = 130) -> NDArray[np.float64]:
    """Return a random walk (steps, 3) through the cube that keeps its direction for a while."""
    noise = 1.8 * (1 - stiffness) * rng.normal(0, 1, (steps, 3))
    noise[0] = rng.normal(0, 1, 3)
    directions = lfilter([1.0], [1.0, -stiffness], noise, axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    path = np.cumsum(directions, axis=0) * rng.uniform(0.7, 1.5) / steps
    curve: NDArray[np.float64] = path - path[int(rng.integers(steps))] + rng.uniform(0.1, 0.9, 3)
    return curve


def _segments(canvas: Canvas, rng: np.random.Generator, steps: int) -> NDArray[np.int_]:
    """Return a label for every step of a curve: one, or several one after the other."""
    pieces = 1 if rng.random() < 0.6 else int(rng.integers(2, 9))
    labels = np.array([canvas.new_label() for _ in range(pieces)])
    return labels[np.arange(steps) * pieces // steps]


def _scatter(canvas: Canvas, rng: np.random.Generator, count: int, largest: float) -> None:
    """Draw small ellipsoids anywhere."""
    for _ in range(count):
        radii = log_uniform(rng, 0.02, largest) * np.exp(rng.normal(0, 0.25, 3))
        blob = canvas.ellipsoid(rng.uniform(0, 1, 3), radii, random_rotation(rng))
        canvas.fill(blob, canvas.new_label())


def _organelles(
    canvas: Canvas, rng: np.random.Generator, centres: NDArray[np.float64], small: bool = False
) -> None:
    """Draw an ellipsoid in many of the cells, cut off at the cell's own border."""
    pitch = len(centres) ** (-1 / 3)
    share = rng.uniform(0.3, 1.0)
    hollow = rng.random() < 0.3
    for centre in centres[rng.random(len(centres)) < share]:
        size = pitch * (rng.uniform(0.08, 0.2) if small else rng.uniform(0.15, 0.4))
        radii = np.maximum(size * np.exp(rng.normal(0, 0.3, 3)), 0.012)
        place = centre + rng.normal(0, 0.1 * pitch, 3)
        blob = canvas.ellipsoid(place, radii, random_rotation(rng))
        voxel = np.clip((centre / canvas.spacing).astype(int), 0, np.array(canvas.labels.shape) - 1)
        view = canvas.labels[blob.index]
        cell = view == canvas.labels[tuple(voxel)]
        label = canvas.new_label()
        view[cell & (blob.distance < 1)] = label
        if hollow:
            view[cell & (blob.distance < 0.6)] = canvas.new_label()
