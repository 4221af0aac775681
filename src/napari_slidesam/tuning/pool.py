"""Filling a pool of stacks with several processes, and the command that does it.

A stack depends only on the seed, its slot and the volumes its worker draws from, so a pool that
was interrupted continues where it stopped: run the same again.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import queue
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import SlideSamError, TuningError
from napari_slidesam.tuning.labelled import read_labelled_folder
from napari_slidesam.tuning.pool_files import (
    SOURCES_FILE,
    STACKS_FILE,
    STATE_FILE,
    Pool,
    PoolState,
    open_array,
    pack,
    unpack_masks,
)
from napari_slidesam.tuning.stack_config import StackConfig
from napari_slidesam.tuning.stacks import StackSampler
from napari_slidesam.tuning.synthetic import KINDS, SyntheticVolumes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

    from napari_slidesam.tuning.labelled import LabelledVolume

logger = logging.getLogger(__name__)

__all__ = ["Pool", "main", "unpack_masks", "write_pool"]

REPORT_EVERY = 100
"""Stacks a worker writes between two reports."""
LOG_EVERY = 500


def write_pool(
    folder: str | Path,
    volumes: Sequence[LabelledVolume],
    n: int,
    seed: int,
    workers: int = 1,
    procedural: int = 0,
    config: StackConfig | None = None,
) -> Pool:
    """Fill a pool with stacks, or continue one that was interrupted.

    Parameters
    ----------
    folder : str or Path
        Where to; made if needed.
    volumes : sequence of LabelledVolume
        Real ones and label maps.
    n : int
        Stacks of the full pool.
    seed : int
        Seed of the pool.
    workers : int
        Processes; with 1 the work is done in this one.
    procedural : int
        Procedural volumes to make; each worker makes and uses its own share of them.
    config : StackConfig, optional
        What stacks look like.

    Raises
    ------
    TuningError
        A number is out of range, the folder holds another pool, or a worker failed.
    """
    if n < 1 or workers < 1 or procedural < 0:
        raise TuningError(
            "A pool needs at least one stack and one worker and no negative number of "
            f"procedural volumes; got n={n}, workers={workers}, procedural={procedural}."
        )
    config = config if config is not None else StackConfig()
    path = Path(folder)
    state = _prepare(path, volumes, n, seed, min(workers, n), procedural, config)
    if state.available < n:
        if len(state.written) == 1:
            _fill(path, state, volumes, 0, _StateKeeper(path, state).update)
        else:
            _fill_in_parallel(path, state, volumes)
    return Pool.open(path)


def _prepare(
    path: Path,
    volumes: Sequence[LabelledVolume],
    n: int,
    seed: int,
    workers: int,
    procedural: int,
    config: StackConfig,
) -> PoolState:
    """Make the pool's files, or check that those there belong to the same plan."""
    sources = [f"real/{v.name}" for v in volumes if v.image is not None]
    sources += [f"painted/{v.name}" for v in volumes]
    sources += [f"procedural/{kind.__name__}" for kind in KINDS] if procedural else []
    plan = PoolState(
        capacity=n,
        slices=config.slices,
        side_px=config.side_px,
        seed=seed,
        procedural=procedural,
        written=(0,) * workers,
        sources=tuple(dict.fromkeys(sources)),
        config=json.loads(json.dumps(asdict(config))),
    )
    if (path / STATE_FILE).exists():
        state = PoolState.read(path)
        if state.plan != plan:
            raise TuningError(
                f"{path} holds a pool made with other settings, seed, volumes or workers. "
                "Continue it with the same ones, or give another folder."
            )
        logger.info("continuing %s: %d of %d stacks are there", path, sum(state.written), n)
        return state
    try:
        path.mkdir(parents=True, exist_ok=True)
        shape = (n, config.slices + 1, config.side_px, config.side_px)
        np.lib.format.open_memmap(path / STACKS_FILE, "w+", np.uint8, shape)
        np.lib.format.open_memmap(path / SOURCES_FILE, "w+", np.int16, (n,))
        plan.write(path)
    except OSError as error:
        raise TuningError(
            f"A pool of {n} stacks cannot be made in {path} ({error}). Free space or give "
            "another folder."
        ) from error
    return plan


def _fill(
    path: Path,
    state: PoolState,
    volumes: Sequence[LabelledVolume],
    worker: int,
    report: Callable[[int, int], None],
) -> None:
    """Write one worker's stacks, reporting its number and how many it has written."""
    workers = len(state.written)
    series = SyntheticVolumes(state.seed)
    numbers = range(worker, max(state.procedural, worker + 1), workers) if state.procedural else ()
    made = [series.make(number) for number in numbers]
    sampler = StackSampler(volumes, made, StackConfig.from_json(state.config))
    stacks = open_array(path / STACKS_FILE, "r+")
    sources = open_array(path / SOURCES_FILE, "r+")
    slots = range(worker, state.capacity, workers)
    for done in range(state.written[worker], len(slots)):
        slot = slots[done]
        stack = sampler.draw(np.random.default_rng((state.seed, slot)))
        stacks[slot] = pack(stack)
        sources[slot] = state.sources.index(stack.source)
        if (done + 1) % REPORT_EVERY == 0:
            report(worker, done + 1)
    report(worker, len(slots))


class _StateKeeper:
    """The one writer of ``pool.json`` while a pool is being filled."""

    def __init__(self, path: Path, state: PoolState) -> None:
        self.path = path
        self.state = state
        self.started = time.monotonic()
        self.before = sum(state.written)
        self.logged = self.before // LOG_EVERY

    def update(self, worker: int, done: int) -> None:
        """Note how many stacks a worker has written."""
        written = list(self.state.written)
        written[worker] = done
        self.state = replace(self.state, written=tuple(written))
        self.state.write(self.path)
        total = sum(written)
        if total // LOG_EVERY > self.logged or total == self.state.capacity:
            self.logged = total // LOG_EVERY
            rate = (total - self.before) / max(time.monotonic() - self.started, 1e-6)
            logger.info("%d of %d stacks, %.1f a second", total, self.state.capacity, rate)


def _work(
    path: Path,
    state: PoolState,
    volumes: Sequence[LabelledVolume],
    worker: int,
    messages: multiprocessing.queues.Queue[tuple[int, int | str]],
) -> None:
    """Fill one worker's slots in a process of its own; what goes wrong is sent as text."""
    parent = multiprocessing.parent_process()

    def report(worker: int, done: int) -> None:
        if parent is not None and not parent.is_alive():  # killed: nobody keeps the state
            sys.exit(1)
        messages.put((worker, done))

    try:
        _fill(path, state, volumes, worker, report)
    except (SlideSamError, OSError, MemoryError) as error:
        messages.put((worker, f"{type(error).__name__}: {error}"))


def _fill_in_parallel(path: Path, state: PoolState, volumes: Sequence[LabelledVolume]) -> None:
    """Fill a pool with one process a worker; this one keeps the state."""
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.queues.Queue[tuple[int, int | str]] = context.Queue()
    keeper = _StateKeeper(path, state)
    processes: list[BaseProcess] = [
        context.Process(target=_work, args=(path, state, volumes, w, messages), daemon=True)
        for w in range(len(state.written))
    ]
    for process in processes:
        process.start()
    try:
        while keeper.state.available < state.capacity:
            try:
                worker, content = messages.get(timeout=1.0)
            except queue.Empty:
                if not any(p.is_alive() for p in processes) and messages.empty():
                    raise TuningError(
                        f"The workers ended with {sum(keeper.state.written)} of "
                        f"{state.capacity} stacks written. Run again to continue."
                    ) from None
                continue
            if isinstance(content, str):
                raise TuningError(f"Worker {worker} failed: {content}")
            keeper.update(worker, content)
    finally:
        for process in processes:
            if keeper.state.available < state.capacity:
                process.terminate()
            process.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill a pool from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_slidesam.tuning.pool",
        description="Fill a pool of training stacks from labelled and procedural volumes.",
    )
    parser.add_argument("--data", type=Path, help="folder with one labelled volume a folder")
    parser.add_argument("--synthetic", type=int, default=120, help="procedural volumes to make")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pool")
    parser.add_argument("--n", type=int, default=24000, help="stacks")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stacks", default="{}", metavar="JSON", help="values of StackConfig that differ"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        config = StackConfig.from_json(json.loads(options.stacks))
        volumes = read_labelled_folder(options.data) if options.data else []
        write_pool(
            options.out,
            volumes,
            options.n,
            options.seed,
            options.workers,
            options.synthetic,
            config,
        )
    except (SlideSamError, json.JSONDecodeError, TypeError) as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
