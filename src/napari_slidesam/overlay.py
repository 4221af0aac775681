"""A contact sheet of slices with the outlines of the objects on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.geometry import Region, mask_to_box
from napari_slidesam.intensity import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import SliceStack, Volume

    LabelsOn = Callable[[int], NDArray[Any]]

TILES = 12
"""Slices on a sheet, at most."""

MARGIN = 0.25
"""What is shown around the objects, as a share of their extent on each side."""

_COLUMNS = 4
_TILE_INCHES = 2.4
_DOTS_PER_INCH = 120
_COLOURS = ("#ffd400", "#00c8ff", "#ff5db1", "#6dff5d", "#ff8a3d", "#b794ff", "#ff4d4d", "#3dffd0")


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """What every tile of a sheet shares."""

    stack: SliceStack
    labels_on: LabelsOn
    prompts: tuple[ObjectPrompts, ...]
    view: Region
    range: tuple[float, float] | None

    def colour(self, object_id: int) -> str:
        return _COLOURS[(object_id - 1) % len(_COLOURS)]


def write_contact_sheet(
    path: Path,
    volume: Volume,
    labels_on: LabelsOn,
    prompts: Sequence[ObjectPrompts],
    slices: Sequence[int],
    *,
    intensity_range: tuple[float, float] | None = None,
) -> None:
    """Draw evenly spaced slices with the objects' outlines and the prompts, and write a picture.

    Parameters
    ----------
    path : Path
        Written as PNG, or what the suffix says.
    volume : Volume
    labels_on : callable
        Gives the labels of a slice along the prompts' axis; integer, shape (y, x) of the plane,
        0 is background.
    prompts : sequence of ObjectPrompts
        All along one axis; their boxes and points are drawn on their slices.
    slices : sequence of int
        The slices that hold objects; of these and the prompted ones up to 12 are drawn.
    intensity_range : tuple of 2 floats, optional
        Stored values that become black and white; None: percentiles of each slice.

    Raises
    ------
    VolumeError
        A plane of labels has another shape, or there are no prompts.
    FileFormatError
        The picture cannot be written.
    """
    if not prompts:
        raise VolumeError("A contact sheet needs the prompts of at least one object; got none.")
    stack = volume.along(prompts[0].axis)
    chosen = choose_slices(slices, [z for p in prompts for z in p.slice_indices])
    planes = [np.asarray(labels_on(z)) for z in chosen]
    for plane in planes:
        if plane.shape != stack.plane_shape_yx:
            raise VolumeError(
                f"The labels of a slice have shape {plane.shape}, but the plane has shape "
                f"{stack.plane_shape_yx} (y, x)."
            )
    view = _view(planes, prompts, stack.plane_shape_yx)
    sheet = _Sheet(stack, labels_on, tuple(prompts), view, intensity_range)
    _draw(sheet, chosen, path)


def choose_slices(
    slices: Sequence[int], prompted: Sequence[int], n_tiles: int = TILES
) -> list[int]:
    """Return up to ``n_tiles`` slices in order, evenly spaced, with a prompted one among them."""
    found = sorted({*slices, *prompted})
    if len(found) <= n_tiles:
        return found
    even = np.linspace(0, len(found) - 1, n_tiles)
    chosen = {found[round(float(i))] for i in even}
    if prompted and not chosen & set(prompted):
        nearest = min(chosen, key=lambda z: abs(z - prompted[0]))
        chosen = (chosen - {nearest}) | {prompted[0]}
    return sorted(chosen)


def _view(
    planes: Sequence[NDArray[Any]], prompts: Sequence[ObjectPrompts], shape_yx: tuple[int, int]
) -> Region:
    """Return the part of the plane with all objects and boxes, and some room around."""
    found = [mask_to_box(plane != 0) for plane in planes]
    boxes = [b for b in found if b is not None] + [p.box for o in prompts for p in o.boxes]
    if not boxes:
        return Region(0, 0, *shape_yx)
    whole = boxes[0]
    for box in boxes[1:]:
        whole = whole.union(box)
    return whole.enlarged(MARGIN).outer_region(shape_yx)


def _draw(sheet: _Sheet, chosen: Sequence[int], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    step_y, step_x = sheet.stack.spacing_yx
    height, width = sheet.view.shape_yx
    ratio = float(np.clip(height * step_y / (width * step_x), 0.3, 3.0))
    size = (columns * _TILE_INCHES, rows * (_TILE_INCHES * ratio + 0.3))
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for tile in axes:
        tile.set_axis_off()
    for tile, slice_index in zip(axes, chosen, strict=False):
        _draw_tile(tile, sheet, slice_index)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"The picture {path} cannot be written: {error}.") from error


def _draw_tile(tile: Axes, sheet: _Sheet, slice_index: int) -> None:
    from skimage.measure import find_contours

    view = sheet.view
    grey = normalise(sheet.stack.read(slice_index)[view.slices], sheet.range)
    # Pixel edges of the plane, so that boxes are drawn as they are.
    extent = (view.x0, view.x1, view.y1, view.y0)
    step_y, step_x = sheet.stack.spacing_yx
    tile.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent, aspect=step_y / step_x)
    labels = np.asarray(sheet.labels_on(slice_index))[view.slices]
    for object_id in np.unique(labels[labels != 0]):
        padded = np.pad(labels == object_id, 1).astype(np.float32)
        for outline in find_contours(padded, 0.5):
            y, x = outline[:, 0] + view.y0 - 0.5, outline[:, 1] + view.x0 - 0.5
            tile.plot(x, y, color=sheet.colour(int(object_id)), linewidth=1.0)
    is_prompted = _draw_prompts(tile, sheet, slice_index)
    tile.set_xlim(view.x0, view.x1)
    tile.set_ylim(view.y1, view.y0)
    tile.set_title(f"{slice_index}{' (prompt)' * is_prompted}", fontsize=8, pad=2)


def _draw_prompts(tile: Axes, sheet: _Sheet, slice_index: int) -> bool:
    """Draw the boxes and points of a slice; whether there are any prompts."""
    from matplotlib.patches import Rectangle

    for prompts in sheet.prompts:
        colour = sheet.colour(prompts.object_id)
        for prompt in prompts.boxes:
            if prompt.slice_index == slice_index:
                box = prompt.box
                frame = Rectangle((box.x0, box.y0), box.width, box.height, fill=False)
                frame.set(edgecolor=colour, linestyle="--", linewidth=0.8)
                tile.add_patch(frame)
        for point in prompts.points_on(slice_index):
            marker = "+" if point.positive else "x"
            tile.plot(point.x + 0.5, point.y + 0.5, marker=marker, color=colour, markersize=6)
    return any(slice_index in p.slice_indices for p in sheet.prompts)
