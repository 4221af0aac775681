"""Filling a pool of coarse crops, in this process or with several others.

A crop depends on the seed, its number and the volumes alone: a pool that was interrupted goes on
where it stopped, also with another number of workers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.tuning.coarse_crops import CropSampler, DrawConfig
from napari_slidesam.tuning.coarse_pool_files import (
    ARRAY_FILES,
    SOURCES_FILE,
    CoarsePool,
    CoarsePoolState,
    CropArrays,
    crop_shapes,
)
from napari_slidesam.tuning.pool_files import STATE_FILE, open_array
from napari_slidesam.tuning.synthetic import KINDS, SyntheticVolumes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_slidesam.tuning.labelled import LabelledVolume

logger = logging.getLogger(__name__)

BATCH = 50
"""Crops that are drawn between two reports; the most that an interruption loses a worker."""
LOG_EVERY = 500
PROCEDURAL_SIDE = 96
"""Voxels along a procedural volume: a cube sees no finer ones."""

Drawn = tuple[CropArrays, list[str]]

_sampler: CropSampler | None = None
"""Of a worker: a process of its own, which draws from the same volumes all its life."""


def write_coarse_pool(
    folder: str | Path,
    volumes: Sequence[LabelledVolume],
    n: int,
    seed: int,
    workers: int = 1,
    procedural: int = 0,
    cubes: CoarseConfig | None = None,
    config: DrawConfig | None = None,
) -> CoarsePool:
    """Fill a pool with crops, or continue one that was interrupted.

    Parameters
    ----------
    folder : str or Path
        Where to; made if needed.
    volumes : sequence of LabelledVolume
        Real ones and label maps.
    n : int
        Crops of the full pool.
    seed : int
    workers : int
        Processes; with 1 the work is done in this one.
    procedural : int
        Procedural volumes to draw from.
    cubes : CoarseConfig, optional
        What the network sees.
    config : DrawConfig, optional

    Raises
    ------
    TuningError
        A number is out of range, the folder holds another pool, the volumes give no crops, or a
        worker ended.
    """
    if n < 1 or workers < 1 or procedural < 0:
        raise TuningError(
            "A pool needs at least one crop and one worker and no negative number of "
            f"procedural volumes; got n={n}, workers={workers}, procedural={procedural}."
        )
    cubes = CoarseConfig() if cubes is None else cubes
    config = DrawConfig() if config is None else config
    series = SyntheticVolumes(seed, PROCEDURAL_SIDE)
    sampler = CropSampler(volumes, series, procedural, cubes, config)
    path = Path(folder)
    state = _prepare(path, _plan(volumes, n, seed, procedural, cubes, config))
    missing = range(state.written, n, BATCH)
    tasks = [(seed, first, min(n, first + BATCH)) for first in missing]
    if workers == 1:
        _write(path, state, (_drawn(sampler, *task) for task in tasks))
    elif tasks:
        with _drawn_elsewhere(sampler, tasks, workers) as drawn:
            _write(path, state, drawn)
    return CoarsePool.open(path)


def _plan(
    volumes: Sequence[LabelledVolume],
    n: int,
    seed: int,
    procedural: int,
    cubes: CoarseConfig,
    config: DrawConfig,
) -> CoarsePoolState:
    sources = [f"real/{v.name}" for v in volumes if v.image is not None]
    sources += [f"painted/{v.name}" for v in volumes]
    sources += [f"procedural/{kind.__name__}" for kind in KINDS] if procedural else []
    return CoarsePoolState(
        capacity=n,
        side=cubes.side,
        samples=cubes.samples,
        context=cubes.context,
        seed=seed,
        procedural=procedural,
        written=0,
        sources=tuple(dict.fromkeys(sources)),
        draw=json.loads(json.dumps(asdict(config))),
    )


def _prepare(path: Path, plan: CoarsePoolState) -> CoarsePoolState:
    """Make the pool's files, or check that those there belong to the same plan."""
    if (path / STATE_FILE).exists():
        state = CoarsePoolState.read(path)
        if state.plan != plan:
            raise TuningError(
                f"{path} holds a pool made with other settings, seed or volumes. Continue it with "
                "the same ones, or give another folder."
            )
        logger.info("continuing %s: %d of %d crops are there", path, state.written, state.capacity)
        return state
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, (shape, dtype) in zip(ARRAY_FILES, crop_shapes(plan.side), strict=True):
            np.lib.format.open_memmap(path / name, "w+", dtype, (plan.capacity, *shape))
        np.lib.format.open_memmap(path / SOURCES_FILE, "w+", np.int16, (plan.capacity,))
        plan.write(path)
    except OSError as error:
        raise TuningError(
            f"A pool of {plan.capacity} crops cannot be made in {path} ({error}). Free space or "
            "give another folder."
        ) from error
    return plan


def _write(path: Path, state: CoarsePoolState, drawn: Iterator[Drawn]) -> None:
    """Append what is drawn; the state counts crops that are in the files whole."""
    arrays = [open_array(path / name, "r+") for name in (*ARRAY_FILES, SOURCES_FILE)]
    started, before = time.monotonic(), state.written
    for crops, names in drawn:
        rows = slice(state.written, state.written + len(names))
        numbers = np.array([state.sources.index(name) for name in names], dtype=np.int16)
        for to, values in zip(arrays, (*crops, numbers), strict=True):
            to[rows] = values
        state = replace(state, written=rows.stop)
        state.write(path)
        if rows.stop // LOG_EVERY > rows.start // LOG_EVERY or rows.stop == state.capacity:
            rate = (rows.stop - before) / max(time.monotonic() - started, 1e-6)
            logger.info("%d of %d crops, %.1f a second", rows.stop, state.capacity, rate)


def _drawn(sampler: CropSampler, seed: int, first: int, stop: int) -> Drawn:
    """Return the crops of these numbers."""
    crops = [sampler.draw(np.random.default_rng((seed, k))) for k in range(first, stop)]
    return CropArrays.of(crops), [c.source for c in crops]


def _begin_worker(sampler: CropSampler) -> None:
    global _sampler
    _sampler = sampler


def _drawn_here(task: tuple[int, int, int]) -> Drawn:
    """Return the crops of a task, in a worker."""
    assert _sampler is not None
    return _drawn(_sampler, *task)


@contextlib.contextmanager
def _drawn_elsewhere(
    sampler: CropSampler, tasks: Sequence[tuple[int, int, int]], workers: int
) -> Iterator[Iterator[Drawn]]:
    """Draw in processes of their own, a few batches ahead; their results come in order."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, _begin_worker, (sampler,))

    def results() -> Iterator[Drawn]:
        waiting = iter(tasks)
        futures = [executor.submit(_drawn_here, t) for t in itertools.islice(waiting, 2 * workers)]
        while futures:
            yield futures.pop(0).result()
            futures += [executor.submit(_drawn_here, t) for t in itertools.islice(waiting, 1)]

    try:
        yield results()
    except BrokenProcessPool as error:
        raise TuningError(
            f"A worker ended ({error}): memory may be short. Give fewer workers; the same command "
            "goes on."
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)
