"""What a network is shown: the frame of a window in its plane, its pixels, its prompts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.compat import (
    NO_QUIRKS,
    Quirks,
    inclusive_drawn,
    inclusive_handed,
    lopsided,
    min_max_range,
)
from napari_slidesam.geometry import INDEX_TO_EDGE, Region
from napari_slidesam.intensity import normalise
from napari_slidesam.model.protocol import WindowPrompt
from napari_slidesam.model.views import mask_prompt, put_back, resized

if TYPE_CHECKING:
    from fractions import Fraction

    import torch
    from numpy.typing import NDArray

    from napari_slidesam.engine.predictor import WindowRequest
    from napari_slidesam.geometry import Box, Viewport
    from napari_slidesam.slice_cache import SliceCache


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle of a plane that a network sees as its square image.

    A viewport, or, where the published resizing is asked for, the whole plane without regard
    to its aspect ratio.

    Parameters
    ----------
    outer : Region
        The rectangle in the plane; may reach beyond it.
    size : int
        Side of the image in model pixels.
    """

    outer: Region
    size: int

    @classmethod
    def of(cls, view: Viewport, plane_shape_yx: tuple[int, int], quirks: Quirks) -> Frame:
        """Return the frame of a viewport in a plane of this shape."""
        plane = Region(0, 0, *plane_shape_yx)
        if quirks.nearest_resize and view.region(plane_shape_yx) == plane:
            return cls(plane, view.size)
        return cls(Region(view.y0, view.x0, view.y0 + view.side, view.x0 + view.side), view.size)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Extent in plane pixels."""
        return self.outer.shape_yx

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Model pixels per plane pixel."""
        height, width = self.outer.shape_yx
        return (self.size / height, self.size / width)

    def inner(self, plane_shape_yx: tuple[int, int]) -> Region:
        """Return the part inside a plane of this shape."""
        y1, x1 = min(self.outer.y1, plane_shape_yx[0]), min(self.outer.x1, plane_shape_yx[1])
        inside = Region(max(self.outer.y0, 0), max(self.outer.x0, 0), y1, x1)
        assert min(inside.shape_yx) > 0, "prompts are checked to touch the plane"
        return inside

    def box_xyxy(self, box: Box) -> tuple[float, float, float, float]:
        """Return a plane box in the model frame."""
        sy, sx = self.scale_yx
        y0, x0 = self.outer.y0, self.outer.x0
        return ((box.x0 - x0) * sx, (box.y0 - y0) * sy, (box.x1 - x0) * sx, (box.y1 - y0) * sy)

    def point_xy(self, y_index: float, x_index: float, quirks: Quirks) -> tuple[float, float]:
        """Return a point given in index coordinates in the model frame.

        A pixel's index is scaled as it is where prompts are pixel indices, its centre else.
        """
        sy, sx = self.scale_yx
        before, after = (0.0, INDEX_TO_EDGE) if quirks.inclusive_boxes else (INDEX_TO_EDGE, 0.0)
        return (
            (x_index + before - self.outer.x0) * sx + after,
            (y_index + before - self.outer.y0) * sy + after,
        )


@dataclass(frozen=True, eq=False)
class Window:
    """The three slices of a request inside a frame.

    Parameters
    ----------
    crops : ndarray of float32, shape (3, height, width) of the frame
        Stored values, border pixels repeated beyond the plane.
    frame : Frame
    low_high : tuple of 2 floats, optional
        Stored values that become 0 and 1; None: the window's own percentiles.
    quirks : Quirks
    """

    crops: NDArray[np.float32]
    frame: Frame
    low_high: tuple[float, float] | None
    quirks: Quirks = NO_QUIRKS

    @classmethod
    def read(cls, request: WindowRequest, frame: Frame) -> Window:
        """Read the slices of a request.

        Raises
        ------
        VolumeError
            A slice cannot be read.
        """
        positions = [request.position + k * request.step for k in (-1, 0, 1)]
        crops = np.stack([_crop(request.slices, p, frame.outer) for p in positions])
        return cls(crops, frame, request.low_high, request.quirks)

    def pixels(self) -> NDArray[np.float32]:
        """Return what the network sees; float32, shape (3, size, size), range [0, 1]."""
        low_high = self.low_high
        if self.quirks.min_max:
            low_high = min_max_range(self.crops, self.low_high)
        pixels = normalise(self.crops, low_high)
        return resized(pixels, self.frame.size, nearest=self.quirks.nearest_resize)

    @cached_property
    def digest(self) -> str:
        """Identifies what the network sees: equal digests have equal pixels.

        Of the stored values themselves, so it holds for any volume, axis, position and
        viewport, and changes when an array is edited in place. Hashing three planes of
        512 x 512 takes 3.4 ms; making their pixels, which a hit saves, 18 ms.
        """
        how = (
            self.crops.shape,
            self.frame.size,
            self.low_high,
            self.quirks.min_max,
            self.quirks.nearest_resize,
        )
        hasher = hashlib.blake2b(repr(how).encode(), digest_size=20)
        hasher.update(np.ascontiguousarray(self.crops).data.cast("B"))
        return hasher.hexdigest()


def window_prompt(request: WindowRequest, frame: Frame) -> WindowPrompt:
    """Return a request's prompts in the model frame."""
    quirks = request.quirks
    masks = mask_prompt(request.masks, frame.outer, frame.size, nearest=quirks.nearest_resize)
    return WindowPrompt(
        box_xyxy_model=None if request.box is None else _model_box(request, request.box, frame),
        points_xy_model=tuple(frame.point_xy(p.y, p.x, quirks) for p in request.points),
        point_labels=tuple(int(p.positive) for p in request.points),
        mask_logits_model=masks,
    )


def _model_box(request: WindowRequest, box: Box, frame: Frame) -> tuple[float, float, float, float]:
    found, quirks = frame.box_xyxy(box), request.quirks
    if quirks.inclusive_boxes:
        sy, sx = frame.scale_yx
        found = (
            inclusive_handed(found) if request.is_handed_on else inclusive_drawn(found, (sx, sy))
        )
    if quirks.lopsided_margin and request.is_handed_on:
        found = lopsided(found, frame.size)
    return found


def to_plane(logits: torch.Tensor, frame: Frame, quirks: Quirks) -> NDArray[np.float32]:
    """Return logits of shape (3, h, w) of the model frame at the frame's size in its plane."""
    by_way_of = frame.size if quirks.nearest_resize else None
    return put_back(logits, frame.shape_yx, by_way_of=by_way_of)


def _crop(slices: SliceCache, position: int | Fraction, outer: Region) -> NDArray[np.float32]:
    """Cut a rectangle out of a plane, its border pixels repeated beyond the edge."""
    height, width = slices.stack.plane_shape_yx
    rows = np.clip(np.arange(outer.y0, outer.y1), 0, height - 1)
    cols = np.clip(np.arange(outer.x0, outer.x1), 0, width - 1)
    region = Region(int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
    inside = slices.read_at(position, region)
    if inside.shape == outer.shape_yx:
        return inside
    out: NDArray[np.float32] = inside[np.ix_(rows - rows[0], cols - cols[0])]
    return out
