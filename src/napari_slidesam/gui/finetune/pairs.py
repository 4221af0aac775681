"""The pairs that the next job is trained on: layers of the viewer, and paths on disk."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels

from napari_slidesam.errors import TuningError
from napari_slidesam.gui.displayed import leading_of
from napari_slidesam.gui.finetune.saving import LayerPair
from napari_slidesam.gui.finetune.state import PairRow
from napari_slidesam.gui.layers import N_SPATIAL, At, n_leading, spatial_shape, volume_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari
    from napari.layers import Layer

CSV_SUFFIX = ".csv"


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    key: int
    image: weakref.ref[Image] | None = None
    labels: weakref.ref[Labels] | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What a job is made of.

    Parameters
    ----------
    pairs : tuple of LayerPair
        To be saved in the job's folder.
    data : tuple of str
        Paths on disk.
    name : str
        A name for the job.
    """

    pairs: tuple[LayerPair, ...]
    data: tuple[str, ...]
    name: str


class Pairs:
    """Keeps the pairs of one dock; layers are only looked at, as long as they live.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._pairs: list[_Pair] = []
        self._keys = itertools.count(1)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the image layers."""
        return tuple(layer.name for layer in self._layers(Image))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels layers."""
        return tuple(layer.name for layer in self._layers(Labels))

    def rows(self) -> tuple[PairRow, ...]:
        """Return the pairs as they are shown."""
        return tuple(self._row(pair) for pair in self._pairs)

    def add_layers(self) -> bool:
        """Add the pair of layers that fits best and is not there yet; return whether one does."""
        image, labels = self._guess()
        self._pairs.append(_Pair(next(self._keys), _ref(image), _ref(labels)))
        return image is not None and labels is not None

    def has_guess(self) -> bool:
        """Whether there is an image with labels that fit, not yet among the pairs."""
        image, labels = self._guess()
        return image is not None and labels is not None

    def add_paths(self, paths: Sequence[str]) -> None:
        """Add folders and CSV files.

        Raises
        ------
        TuningError
            Something else was given; what could be added is.
        """
        wrong = []
        known = {pair.path for pair in self._pairs}
        for text in paths:
            path = Path(text)
            if not path.is_dir() and path.suffix.lower() != CSV_SUFFIX:
                wrong.append(path.name)
            elif str(path) not in known:
                self._pairs.append(_Pair(next(self._keys), path=str(path)))
        if wrong:
            raise TuningError(
                f"Folders of images and labels, or a CSV file of pairs, are expected; got "
                f"{', '.join(wrong[:3])}. Open single files as layers and add those."
            )

    def change(self, key: int, image: str, labels: str) -> None:
        """Take other layers for a pair, by their names; one that is empty stays open."""
        self._pairs = [
            replace(
                pair,
                image=_ref(self._named(image, Image)),
                labels=_ref(self._named(labels, Labels)),
            )
            if pair.key == key
            else pair
            for pair in self._pairs
        ]

    def remove(self, key: int) -> None:
        """Take a pair out."""
        self._pairs = [pair for pair in self._pairs if pair.key != key]

    def chosen(self) -> Chosen:
        """Return what a job is made of, with the layers as they are now.

        Raises
        ------
        TuningError
            There is no pair, or one of them cannot be used.
        VolumeError
            An image cannot be a volume.
        """
        if not self._pairs:
            raise TuningError(
                "There is nothing to train on: add an image layer with its labels, or a folder."
            )
        rows = self.rows()
        for row in rows:
            if row.is_wrong:
                raise TuningError(f"{row.image or 'A pair'}: {row.note}")
        pairs = tuple(self._layer_pair(pair) for pair in self._pairs if not pair.path)
        data = tuple(pair.path for pair in self._pairs if pair.path)
        first = rows[0].image
        return Chosen(pairs, data, Path(first).name if rows[0].is_on_disk else first)

    def _layer_pair(self, pair: _Pair) -> LayerPair:
        image, labels = _alive(pair.image), _alive(pair.labels)
        assert image is not None, "rows were looked at before"
        assert labels is not None, "rows were looked at before"
        leading = leading_of(self._viewer.dims, image)
        view = At(
            _full(labels),
            leading_of(self._viewer.dims, labels),
            is_plane=labels.ndim < N_SPATIAL,
        )
        return LayerPair(str(image.name), volume_of(image, None, leading), view)

    def _row(self, pair: _Pair) -> PairRow:
        if pair.path:
            is_there = Path(pair.path).exists()
            kind = "folder" if Path(pair.path).suffix.lower() != CSV_SUFFIX else "file of pairs"
            note = f"{kind} on disk" if is_there else "It is not there any more."
            return PairRow(pair.key, pair.path, "", True, note, not is_there)
        image, labels = self._present(pair.image), self._present(pair.labels)
        note, is_wrong = _note(image, labels)
        names = ["" if layer is None else str(layer.name) for layer in (image, labels)]
        return PairRow(pair.key, names[0], names[1], False, note, is_wrong)

    def _guess(self) -> tuple[Image | None, Labels | None]:
        images, labels = self._layers(Image), self._layers(Labels)
        used = {id(_alive(pair.image)) for pair in self._pairs}
        free = [image for image in images if id(image) not in used]
        active = self._viewer.layers.selection.active
        free.sort(key=lambda image: image is not active)
        for image in free:
            fitting = [one for one in labels if _shape(one) == spatial_shape(image)]
            fitting.sort(key=lambda one: str(image.name) not in str(one.name))
            if fitting:
                return image, fitting[0]
        return (free[0] if free else None), None

    def _present(self, ref: weakref.ref[Any] | None) -> Any:
        layer = _alive(ref)
        return layer if layer is not None and layer in self._viewer.layers else None

    def _layers(self, kind: type[Layer]) -> list[Any]:
        return [layer for layer in self._viewer.layers if isinstance(layer, kind)]

    def _named(self, name: str, kind: type[Layer]) -> Any:
        return next((layer for layer in self._layers(kind) if layer.name == name), None)


def _note(image: Image | None, labels: Labels | None) -> tuple[str, bool]:
    """Return a line on two layers, and whether something is wrong with them."""
    if image is None or labels is None:
        missing = "an image" if image is None else "labels"
        return f"Choose {missing} for this pair: there is none, or it was removed.", True
    shape, given = spatial_shape(image), _shape(labels)
    if shape != given:
        return (
            f"The image has {_sizes(shape)} voxels (z, y, x), the labels have {_sizes(given)}. "
            "Choose labels on the image's grid.",
            True,
        )
    time = " at the time that is shown" if n_leading(image) else ""
    return f"{_sizes(shape)}{time}", False


def _full(labels: Labels) -> Any:
    return labels.data[0] if labels.multiscale else labels.data


def _shape(labels: Labels) -> tuple[int, ...]:
    shape = [int(n) for n in _full(labels).shape][n_leading(labels) :]
    return tuple([1] * (N_SPATIAL - len(shape)) + shape)


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _ref(layer: Any) -> Any:
    return None if layer is None else weakref.ref(layer)


def _alive(ref: weakref.ref[Any] | None) -> Any:
    return None if ref is None else ref()
