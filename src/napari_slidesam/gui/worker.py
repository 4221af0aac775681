"""The one bridge between the GUI thread and work that takes long.

A `Worker` has one thread. A job is a function that returns an iterator; what it yields waits in
a queue that the GUI thread empties by a timer, never longer than `BUDGET_S` at a time, so that a
fast network cannot freeze the window. Every exception of a job becomes its outcome, also a
``RuntimeError``, which napari's own generator workers swallow.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from qtpy.QtCore import QObject, QTimer

from napari_slidesam.errors import InferenceError, SlideSamError
from napari_slidesam.gui.collector import full_collections

logger = logging.getLogger(__name__)

TICK_MS = 10
"""How often the GUI thread looks for results."""

BUDGET_S = 0.012
"""How long it deals with them at a time: a frame at 60 Hz lasts 16 ms."""

JOIN_S = 10.0
"""How long closing waits for the step under way; a job looks at its cancel flag between steps."""

Work = Callable[[threading.Event], Iterator[Any]]


@dataclass(slots=True, eq=False)
class Job:
    """Work that was handed to a `Worker`; changed by it alone."""

    work: Work
    on_result: Callable[[Any], None]
    on_done: Callable[[SlideSamError | None], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False

    def cancel(self) -> None:
        """Ask the work to stop after the step it is in."""
        self.cancelled.set()


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    error: SlideSamError | None


class Worker(QObject):
    """One thread that does jobs in their order; results come on the GUI thread.

    Parameters
    ----------
    name : str
        Of the thread.
    spare_cores : int
        Cores that PyTorch leaves to the window.
    """

    def __init__(self, name: str, *, spare_cores: int = 1) -> None:
        super().__init__()
        self._name, self._spare_cores = name, spare_cores
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: deque[tuple[Job, Any]] = deque()
        self._open: list[Job] = []
        self._thread: threading.Thread | None = None
        self._is_closed = self._holds = False
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(lambda: self._drain())

    @property
    def is_busy(self) -> bool:
        """Whether a job is not done yet, or its results are not delivered."""
        return bool(self._open)

    def submit(
        self,
        work: Work,
        on_result: Callable[[Any], None],
        on_done: Callable[[SlideSamError | None], None],
    ) -> Job:
        """Hand over work.

        Parameters
        ----------
        work : callable
            Called in the thread with the job's cancel flag; yields results.
        on_result : callable
            Called on the GUI thread with each result, in order.
        on_done : callable
            Called on the GUI thread after the last result, with the error or None.
        """
        job = Job(work, on_result, on_done)
        if self._is_closed:
            logger.debug("%s is closed: a job was not taken.", self._name)
            job.is_done = True
            return job
        self._open.append(job)
        self._hold_collections(True)
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name)
            self._thread.start()
        self._timer.start()
        return job

    def close(self) -> None:
        """Cancel every job and end the thread; no callback is called any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._timer.stop()
        for job in self._open:
            job.cancel()
            job.is_done = True
        self._open.clear()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                logger.warning("%s is still in its last step; it ends after that.", self._name)
        self._results.clear()
        self._hold_collections(False)

    def _hold_collections(self, holds: bool) -> None:
        if holds and not self._holds:
            full_collections.hold_off()
        elif self._holds and not holds:
            full_collections.release()
        self._holds = holds

    def _serve(self) -> None:
        # Of this thread alone: PyTorch on every core starves the window of its own.
        torch.set_num_threads(max(1, torch.get_num_threads() - self._spare_cores))
        while (job := self._jobs.get()) is not None:
            error: SlideSamError | None = None
            try:
                for result in job.work(job.cancelled):
                    self._results.append((job, result))
            except SlideSamError as raised:
                error = raised
            except Exception as raised:
                logger.exception("A job of %s failed.", self._name)
                error = InferenceError(f"{type(raised).__name__}: {raised}")
                error.__cause__ = raised
            self._results.append((job, _Outcome(error)))

    def _drain(self) -> None:
        end = time.perf_counter() + BUDGET_S
        while self._results and time.perf_counter() < end:
            job, result = self._results.popleft()
            if job.is_done:
                continue
            if isinstance(result, _Outcome):
                job.is_done = True
                self._open.remove(job)
                job.on_done(result.error)
            else:
                job.on_result(result)
        if not self._open and not self._results:
            self._timer.stop()
            self._hold_collections(False)
