"""A contact sheet of slices with the outlines of their pseudo-labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.intensity import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from napari_slidesam.tuning.pseudo_files import PseudoStore
    from napari_slidesam.tuning.pseudo_masks import PseudoSlice
    from napari_slidesam.volume import SliceStack, Volume

TILES = 12
"""Slices on a sheet, at most."""

_COLUMNS = 4
_TILE_INCHES = 3.0
_DOTS_PER_INCH = 120
_COLOURS = ("#ffd400", "#00c8ff", "#ff5db1", "#6dff5d", "#ff8a3d", "#b794ff", "#ff4d4d", "#3dffd0")


def write_pseudo_sheet(path: Path, parts: Sequence[tuple[PseudoStore, Volume]]) -> None:
    """Draw evenly chosen slices of one or more stores with the outlines of their masks.

    Parameters
    ----------
    path : Path
        Written as PNG, or what the suffix says.
    parts : sequence of (PseudoStore, Volume)

    Raises
    ------
    TuningError
        No slice is done, or the masks are damaged.
    FileFormatError
        The picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    done = [(part, entry) for part in parts for entry in part[0].entries]
    if not done:
        raise TuningError("A picture needs at least one slice with pseudo-labels; none is done.")
    chosen = np.unique(np.linspace(0, len(done) - 1, TILES).round().astype(int))
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    size = (columns * _TILE_INCHES, rows * (_TILE_INCHES + 0.3))
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    tiles = figure.subplots(rows, columns, squeeze=False).ravel()
    for tile in tiles:
        tile.set_axis_off()
    for tile, number in zip(tiles, chosen, strict=False):
        (store, volume), entry = done[number]
        found = store.read(entry.axis, entry.slice_index)
        _draw(tile, volume.along(entry.axis), found)
        where = f"{store.facts.name}  {'zyx'[entry.axis]} {entry.slice_index}"
        tile.set_title(f"{where}: {len(found.masks)} masks", fontsize=8, pad=2)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"The picture {path} cannot be written: {error}.") from error


def _draw(tile: Axes, stack: SliceStack, found: PseudoSlice) -> None:
    from skimage.measure import find_contours

    height, width = found.plane_shape_yx
    step_y, step_x = stack.spacing_yx
    grey = normalise(stack.read(found.slice_index), None)
    extent = (0, width, height, 0)
    tile.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent, aspect=step_y / step_x)
    for number, mask in enumerate(found.masks):
        colour = _COLOURS[number % len(_COLOURS)]
        for outline in find_contours(np.pad(mask.mask, 1).astype(np.float32), 0.5):
            y, x = outline[:, 0] + mask.region.y0 - 0.5, outline[:, 1] + mask.region.x0 - 0.5
            tile.plot(x, y, color=colour, linewidth=0.8)
    tile.set_xlim(0, width)
    tile.set_ylim(height, 0)
