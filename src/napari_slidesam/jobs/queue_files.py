"""The folder of a queue: the order of its jobs, their folders, and the lock of who changes them."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.jobs.entries import JobEntry, read_entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

QUEUE_FILE = "queue.json"
LOCK_FILE = ".queue.lock"
LOCK_TIMEOUT_S = 5.0
"""A change takes milliseconds."""


class QueueBusyError(TuningError):
    """Another process changes the queue."""


@dataclass(frozen=True, slots=True)
class QueueFolder:
    """The jobs of a folder in their order."""

    path: Path

    def entries(self) -> tuple[JobEntry, ...]:
        """Return the jobs in their order, as they are now; those that cannot be read are left out.

        Raises
        ------
        FileFormatError
            The list of jobs cannot be understood.
        """
        found = (self._entry(job_id) for job_id in self.order())
        return tuple(entry for entry in found if entry is not None)

    def entry(self, job_id: str) -> JobEntry:
        """Return one job.

        Raises
        ------
        TuningError
            There is no such job.
        """
        entry = self._entry(job_id) if job_id in self.order() else None
        if entry is None:
            raise TuningError(f"There is no job {job_id} in the queue: it was removed.")
        return entry

    def order(self) -> list[str]:
        """Return the keys of the jobs.

        Raises
        ------
        FileFormatError
            The list cannot be understood.
        """
        path = self.path / QUEUE_FILE
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
            order = values["order"]
            if not all(isinstance(key, str) for key in order):
                raise TypeError(f"expected keys, got {order!r:.60}")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FileFormatError(
                f"The queue {path} cannot be read ({error}). Nothing was changed: repair it, or "
                "move it away to begin a new queue."
            ) from error
        return list(order)

    def write_order(self, order: Sequence[str]) -> None:
        """Replace the list of jobs."""
        with replacing_file(self.path / QUEUE_FILE, overwrite=True) as partial:
            partial.write_text(json.dumps({"order": list(order)}), encoding="utf-8")

    @contextlib.contextmanager
    def making(self, job_id: str, after: str | None = None) -> Iterator[Path]:
        """Give a folder that becomes a job only when the block succeeds.

        Raises
        ------
        TuningError
            It cannot be written.
        """
        partial = self.path / f".{job_id}"
        try:
            partial.mkdir(parents=True)
            yield partial
            with self.exclusive():
                order = self.order()
                partial.rename(self.path / job_id)
                place = order.index(after) + 1 if after in order else len(order)
                self.write_order([*order[:place], job_id, *order[place:]])
        except OSError as error:
            raise TuningError(
                f"The job cannot be written to {self.path}: {error.strerror or error}. Free "
                "some space or check that you may write there."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @contextlib.contextmanager
    def exclusive(self, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        """Keep all others from changing anything meanwhile.

        Raises
        ------
        QueueBusyError
            Another process does, for longer than the timeout.
        TuningError
            The folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK_FILE, timeout=timeout_s)
            lock.acquire()
        except Timeout as error:
            raise QueueBusyError(
                f"The queue {self.path} is being changed by another process for more than "
                f"{timeout_s:g} s. Wait for it or end it, then try again."
            ) from error
        except OSError as error:
            raise TuningError(f"The queue {self.path} cannot be written: {error}.") from error
        try:
            yield
        finally:
            lock.release()

    def _entry(self, job_id: str) -> JobEntry | None:
        try:
            return read_entry(self.path / job_id)
        except TuningError as error:
            logger.warning("A job is left out: %s", error)
            return None
