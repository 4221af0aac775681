"""Propagation with the embedded network."""

from __future__ import annotations

import tempfile
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import LocalStore, WrapperStore

from benchmarks.measure import peak_memory, timed
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.geometry import Box
from napari_slidesam.model.registry import load_model
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

TALL_SHAPE_ZYX = (140, 512, 512)
"""Holds an object on 100 slices."""

SLICE_COUNTS = (10, 100, 1000)

HUGE_SHAPE_ZYX = (2000, 2048, 2048)
HUGE_CHUNKS_ZYX = (16, 256, 256)


def bench_hundred_slices() -> dict[str, float]:
    """Time a 100-slice object in 512 x 512 from one box, its first mask, and take its memory."""
    volume, prompts = _tube()
    predictor = _predictor()
    timing = timed(lambda: list(propagate(predictor, volume, [prompts])), repeats=3)
    first = timed(lambda: next(propagate(predictor, volume, [prompts])))
    with peak_memory() as peak:
        results = list(propagate(predictor, volume, [prompts]))
    slices = len({r.slice_index for r in results if r.mask.any()})
    return {
        "seconds": timing.median,
        "first_mask_seconds": first.median,
        "slices": slices,
        "slices_per_second": slices / timing.median,
        "peak_megabytes_above_volume": peak.megabytes,
    }


def bench_first_mask_by_slices() -> dict[str, float]:
    """Take the processor time until the first mask, in volumes of few slices and of many."""
    predictor = _predictor()
    image = _tube()[0].data
    calls = {}
    for n_slices in SLICE_COUNTS:
        volume = Volume(np.broadcast_to(np.asarray(image[70]), (n_slices, *image.shape[1:])))
        middle = n_slices // 2
        prompts = ObjectPrompts(1, (BoxPrompt(middle, _tube_box(70)),))
        calls[n_slices] = partial(_first_mask, predictor, volume, prompts)
    seconds = {n_slices: float("inf") for n_slices in calls}
    for _ in range(5):  # by turns, so that what else the machine does falls on all of them
        for n_slices, call in calls.items():
            start = time.process_time()
            call()
            seconds[n_slices] = min(seconds[n_slices], time.process_time() - start)
    fewest = seconds[SLICE_COUNTS[0]]
    figures = {f"{n}_slices_processor_seconds": value for n, value in seconds.items()}
    return figures | {f"{n}_slices_ratio": value / fewest for n, value in seconds.items()}


def _first_mask(predictor: Predictor, volume: Volume, prompts: ObjectPrompts) -> None:
    next(propagate(predictor, volume, [prompts]))


class CountingStore(WrapperStore[LocalStore]):
    """Keeps the keys of the chunks that are asked for."""

    chunks: set[str]

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Return what the wrapped store has."""
        if key.startswith("c/"):
            self.chunks.add(key)
        return await super().get(key, *args, **options)


def bench_huge_zarr() -> dict[str, float]:
    """Segment one box in a zarr of 8.4 billion voxels and count the chunks read.

    Only the chunks around the object are on the disk; the others are the fill value.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = CountingStore(LocalStore(folder))
        store.chunks = set()
        array = zarr.create_array(
            store, shape=HUGE_SHAPE_ZYX, chunks=HUGE_CHUNKS_ZYX, dtype="uint8", fill_value=40
        )
        array[928:1072, 768:1280, 768:1280] = _ball((928, 1072), (768, 1280), (768, 1280))
        prompts = ObjectPrompts(1, (BoxPrompt(1000, Box(1008, 1008, 1093, 1093)),))
        predictor = _predictor()
        store.chunks.clear()
        with peak_memory() as peak:
            timing = timed(
                lambda: list(propagate(predictor, Volume(array), [prompts])), repeats=1, warm_up=0
            )
        read = len(store.chunks)
    return {
        "seconds": timing.median,
        "chunks_read": read,
        "chunks_in_all": float(np.prod(np.divide(HUGE_SHAPE_ZYX, HUGE_CHUNKS_ZYX))),
        "peak_megabytes": peak.megabytes,
    }


@cache
def _predictor() -> Predictor:
    return Predictor(load_model())


def _tube() -> tuple[Volume, ObjectPrompts]:
    """Return a bright tube on slices 20 to 119 and a box in its middle."""
    rng = np.random.default_rng(0)
    image = rng.normal(40, 10, TALL_SHAPE_ZYX).astype(np.float32)
    y, x = np.ogrid[:512, :512]
    for z in range(20, 120):
        centre_y, centre_x = 250 + 20 * np.sin(z / 20), 240 + 15 * np.cos(z / 25)
        image[z][(y - centre_y) ** 2 + (x - centre_x) ** 2 < 45**2] += 120
    return Volume(image), ObjectPrompts(1, (BoxPrompt(70, _tube_box(70)),))


def _tube_box(z: int) -> Box:
    centre_y, centre_x = 250 + 20 * np.sin(z / 20), 240 + 15 * np.cos(z / 25)
    return Box(centre_y - 46, centre_x - 46, centre_y + 46, centre_x + 46)


def _ball(*ranges: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a part of the huge volume: a ball of radius 40 in its middle."""
    z, y, x = np.ogrid[tuple(slice(start, stop) for start, stop in ranges)]
    inside = (z - 1000) ** 2 + (y - 1050) ** 2 + (x - 1050) ** 2 < 40**2
    return np.where(inside, 180, 40).astype(np.uint8)
