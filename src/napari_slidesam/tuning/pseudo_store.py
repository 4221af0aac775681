"""Pseudo-labels as windows to train on; `MixedSource` mixes them with real labels."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import SlideSamError, TuningError
from napari_slidesam.intensity import Intensity, normalise
from napari_slidesam.tuning.mixed_source import MixedSource
from napari_slidesam.tuning.pseudo_files import (
    FACTS_FILE,
    PseudoFacts,
    PseudoStore,
    read_facts,
    writing,
)
from napari_slidesam.tuning.windows import TrainingWindow
from napari_slidesam.volume import SliceCache, Volume

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.pseudo_masks import PseudoSlice

__all__ = [
    "MixedSource",
    "PseudoFacts",
    "PseudoStore",
    "PseudoWindows",
    "is_pseudo_store",
    "open_pseudo_windows",
    "stores_in",
    "writing",
]

PSEUDO_LABEL = 0
"""The label of windows whose object has none."""

INDICATOR = (False, True, False)
"""2D labels count on their own slice only (Slide-SAM, equation 4)."""

_CACHED_SLICES = 8
"""Slices whose masks are kept unpacked; windows of one slice are often read one after another."""

_CACHE_BYTES = 64 * 2**20


class PseudoWindows:
    """The masks of one or more stores, each as a window of three slices; a `WindowSource`.

    Images and masks are read when a window is asked for.

    Parameters
    ----------
    parts : sequence of (PseudoStore, Volume)
        Pseudo-labels and the volume they were made on.
    axes : tuple of int
        Axes whose slices are used.
    intensity : Intensity, optional
        How stored values become grey values; without it as inference does.
    min_iou : float
        Masks with a smaller predicted IoU are left out.
    min_share : float
        Masks with a smaller share of their plane are left out (Slide-SAM, 3.1: 0.14 %).
    whole_range : bool
        As for `napari_slidesam.tuning.window_index.WindowIndex`: where each window has its own
        range, 0 and 1 are its extremes, so that nothing is clipped before each view is mapped.

    Raises
    ------
    TuningError
        A volume has another shape than that of its pseudo-labels, or no mask is left.
    """

    def __init__(
        self,
        parts: Sequence[tuple[PseudoStore, Volume]],
        *,
        axes: Collection[int] = (0, 1, 2),
        intensity: Intensity | None = None,
        min_iou: float = 0.0,
        min_share: float = 0.0014,
        whole_range: bool = False,
    ) -> None:
        self._stores = tuple(store for store, _ in parts)
        self._volumes = tuple(volume for _, volume in parts)
        self._intensity = Intensity() if intensity is None else intensity
        self._whole_range = whole_range
        for store, volume in parts:
            _check_shape(store, volume)
        rows = [
            (part, entry.axis, entry.slice_index, number)
            for part, store in enumerate(self._stores)
            for entry in store.entries
            if entry.axis in axes
            for number, mask in enumerate(entry.masks)
            if mask.predicted_iou >= min_iou
            and mask.area_px >= min_share * _plane_px(store.facts.shape_zyx, entry.axis)
        ]
        if not rows:
            where = ", ".join(str(store.folder) for store in self._stores) or "no store"
            raise TuningError(
                f"Training needs at least one pseudo-label along the axes {sorted(axes)} with a "
                f"predicted IoU of {min_iou} or more; {where} holds none. Make pseudo-labels "
                "along these axes, or lower the thresholds."
            )
        self._rows: NDArray[np.int32] = np.array(rows, dtype=np.int32)
        self._caches: dict[tuple[int, int], SliceCache] = {}
        self._lock = threading.Lock()
        self._slices: OrderedDict[tuple[int, int, int], PseudoSlice] = OrderedDict()

    def __len__(self) -> int:
        """Return how many windows there are: one a mask."""
        return len(self._rows)

    @property
    def n_volumes(self) -> int:
        """Volumes that the windows are of."""
        return len(self._stores)

    def read(self, index: int) -> TrainingWindow:
        """Return one window.

        Raises
        ------
        TuningError
            There is no such window, or its masks are damaged.
        VolumeError
            Its slices cannot be read.
        """
        if not 0 <= index < len(self):
            raise TuningError(f"Windows are numbered 0 to {len(self) - 1}; got {index}.")
        part, axis, slice_index, number = (int(v) for v in self._rows[index])
        with self._lock:
            found = self._slice(part, axis, slice_index)
            slices = self._cache(part, axis)
        planes = slices.window(slice_index)
        masks = np.zeros(planes.shape, dtype=bool)
        masks[1] = found.masks[number].on_plane(found.plane_shape_yx)
        low_high = self._intensity.fixed_range(slices.stack, slice_index)
        if low_high is None and self._whole_range:
            finite = planes[np.isfinite(planes)]
            low_high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        return TrainingWindow(
            images=normalise(planes, low_high),
            masks=masks,
            indicator=INDICATOR,
            source=self._stores[part].facts.name,
            axis=axis,
            slice_index=slice_index,
            label=PSEUDO_LABEL,
        )

    def _cache(self, part: int, axis: int) -> SliceCache:
        if (part, axis) not in self._caches:
            if len(self._caches) >= _CACHED_SLICES:
                self._caches.clear()
            stack = self._volumes[part].along(axis)
            self._caches[(part, axis)] = SliceCache(stack, _CACHE_BYTES)
        return self._caches[(part, axis)]

    def _slice(self, part: int, axis: int, slice_index: int) -> PseudoSlice:
        key = (part, axis, slice_index)
        found = self._slices.pop(key, None)
        if found is None:
            found = self._stores[part].read(axis, slice_index)
        self._slices[key] = found
        while len(self._slices) > _CACHED_SLICES:
            self._slices.popitem(last=False)
        return found


def stores_in(path: Path) -> tuple[Path, ...]:
    """Return the folders of pseudo-labels at a path: itself, or those in it."""
    if (path / FACTS_FILE).is_file():
        return (path,)
    if not path.is_dir():
        return ()
    return tuple(sorted(p for p in path.iterdir() if (p / FACTS_FILE).is_file()))


def is_pseudo_store(path: str | Path) -> bool:
    """Whether a path is a folder of pseudo-labels, of one volume or of several."""
    for folder in stores_in(Path(path)):
        try:
            read_facts(folder)
        except TuningError:
            return False
    return bool(stores_in(Path(path)))


def open_pseudo_windows(
    path: str | Path,
    *,
    axes: Collection[int] = (0, 1, 2),
    intensity: Intensity | None = None,
    min_iou: float = 0.0,
    min_share: float = 0.0014,
    whole_range: bool = False,
) -> PseudoWindows:
    """Open the pseudo-labels of a folder, with the volumes they were made on.

    Parameters
    ----------
    path : str or Path
        The folder of one volume, or one that holds several of them.
    axes, intensity, min_iou, min_share, whole_range
        As for `PseudoWindows`.

    Raises
    ------
    TuningError
        There are none, or a volume is not where it was, or is another one.
    """
    folders = stores_in(Path(path))
    if not folders:
        raise TuningError(
            f"{path} holds no pseudo-labels. Make them with 'napari-slidesam pseudo-label'."
        )
    stores = [PseudoStore(folder) for folder in folders]
    parts = [(store, open_image(store)) for store in stores]
    return PseudoWindows(
        parts,
        axes=axes,
        intensity=intensity,
        min_iou=min_iou,
        min_share=min_share,
        whole_range=whole_range,
    )


def open_image(store: PseudoStore) -> Volume:
    """Return the volume that pseudo-labels were made on, its slices at hand.

    Raises
    ------
    TuningError
        It is not there, or cannot be read.
    """
    from napari_slidesam.io import read_volume
    from napari_slidesam.tuning.unpacking import open_at_hand

    facts = store.facts
    try:
        if (facts.channel, facts.level, facts.time) == (None, 0, None):
            return open_at_hand(Path(facts.image)).volume
        return read_volume(
            facts.image, channel=facts.channel, level=facts.level, time=facts.time
        ).volume
    except SlideSamError as error:
        raise TuningError(
            f"The volume of the pseudo-labels in {store.folder} cannot be opened: {error} Put it "
            f"back to {facts.image}, or correct 'image' in {store.folder / FACTS_FILE}."
        ) from error


def _check_shape(store: PseudoStore, volume: Volume) -> None:
    if volume.shape_zyx != store.facts.shape_zyx:
        raise TuningError(
            f"The pseudo-labels in {store.folder} were made on a volume of shape "
            f"{store.facts.shape_zyx} (zyx); the one given has {volume.shape_zyx}. Give the same "
            "volume, or make the pseudo-labels again."
        )


def _plane_px(shape_zyx: tuple[int, int, int], axis: int) -> int:
    y, x = (n for i, n in enumerate(shape_zyx) if i != axis)
    return y * x
