"""One image, the layers that were made on its grid, and the sessions that they show."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.engine.session import Session
from napari_slidesam.gui.displayed import displayed_plane
from napari_slidesam.gui.layers import (
    n_leading,
    new_boxes_layer,
    new_labels_layer,
    new_points_layer,
    spatial_shape,
    volume_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import napari
    from napari.layers import Image, Labels, Layer, Points, Shapes
    from numpy.typing import NDArray

    from napari_slidesam.gui.drawing import DrawnBox
    from napari_slidesam.gui.layers import Plane
    from napari_slidesam.volume import Volume

METADATA_KEY = "napari-slidesam"


@dataclass(frozen=True, slots=True, eq=False)
class BoxRow:
    """A row of the boxes layer: what is drawn, what it means, and whose it is."""

    vertices: NDArray[np.float64]
    kind: str
    drawn: DrawnBox
    object_id: int

    def is_same(self, vertices: NDArray[np.float64], kind: str) -> bool:
        """Whether the layer still holds this drawing unchanged."""
        return self.kind == kind and np.array_equal(self.vertices, vertices)


@dataclass(frozen=True, slots=True, eq=False)
class PointRow:
    """A row of the points layer."""

    position: NDArray[np.float64]
    positive: bool
    object_id: int


class Workspace:
    """What the dock knows of one image; kept with the labels layer, so it outlives the dock.

    Parameters
    ----------
    image : napari.layers.Image
        Only looked at, and only as long as it lives.
    channel : int, optional
        The colour of an RGB image that is segmented.
    """

    def __init__(self, image: Image, channel: int | None = None) -> None:
        self._image = weakref.ref(image)
        self.image_name = str(image.name)
        self.channel = channel
        self.shape_zyx = spatial_shape(image)
        self.overlap_rule = OverlapRule.KEEP
        self.sessions: dict[tuple[int, ...], Session] = {}
        self.hidden: dict[tuple[int, ...], set[int]] = {}
        self.box_rows: list[BoxRow] = []
        self.point_rows: list[PointRow] = []
        self.labels: Labels | None = None
        self.boxes: Shapes | None = None
        self.points: Points | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """Give a copy of the labels layer nothing: no session belongs to it."""

    @property
    def image(self) -> Image | None:
        """The image layer, or None where it is gone."""
        return self._image()

    @property
    def first(self) -> tuple[int, ...]:
        """The start of the axes before z."""
        image = self.image
        return () if image is None else (0,) * n_leading(image)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers made for this image that are there."""
        return tuple(x for x in (self.labels, self.points, self.boxes) if x is not None)

    def session(self, leading: tuple[int, ...]) -> Session:
        """Return the session of a leading position; a new one where there is none yet."""
        if leading not in self.sessions:
            source = self.image_name + "".join(f"[{i}]" for i in leading)
            self.sessions[leading] = Session.for_volume(
                self.volume(leading), source=source, overlap_rule=self.overlap_rule
            )
        return self.sessions[leading]

    def volume(self, leading: tuple[int, ...]) -> Volume:
        """Return the image at a leading position.

        Raises
        ------
        VolumeError
            The image cannot be a volume.
        """
        image = self.image
        assert image is not None, "the dock lets go of a workspace with its image"
        return volume_of(image, self.channel, leading)

    def displayed(self, viewer: napari.Viewer) -> Plane:
        """Return the plane of the image on the screen.

        Raises
        ------
        VolumeError
            None is: see `displayed_plane`.
        """
        image = self.image
        assert image is not None, "the dock lets go of a workspace with its image"
        return displayed_plane(viewer.dims, image)

    def restore_layers(self, viewer: napari.Viewer) -> tuple[Layer, ...]:
        """Put the layers that are missing into a viewer, above the image; return those."""
        image = self.image
        assert image is not None, "the dock lets go of a workspace with its image"
        added: list[Layer] = []
        if self.labels is None or self.labels not in viewer.layers:
            self.labels = new_labels_layer(image, f"{image.name} objects")
            self.labels.metadata[METADATA_KEY] = self
            added.append(self.labels)
        if self.points is None or self.points not in viewer.layers:
            self.points = new_points_layer(image, f"{image.name} points")
            self.point_rows = []
            added.append(self.points)
        if self.boxes is None or self.boxes not in viewer.layers:
            self.boxes = new_boxes_layer(image, f"{image.name} boxes")
            self.box_rows = []
            added.append(self.boxes)
        for layer in added:
            viewer.add_layer(layer)
        return tuple(added)


def workspace_of(image: Image, layers: Iterable[Layer]) -> Workspace | None:
    """Return the workspace that an earlier dock left in a viewer for this image."""
    for layer in layers:
        kept = layer.metadata.get(METADATA_KEY)
        if isinstance(kept, Workspace) and kept.image is image and kept.labels is layer:
            return kept
    return None
