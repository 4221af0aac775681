"""What a job has told so far, on disk: events one a line, and its state."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.jobs.events import JobEvent, StateChanged, to_line
from napari_slidesam.jobs.spec import EVENTS_FILE
from napari_slidesam.jobs.status import write_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LOCK_FILE = ".job.lock"


def recorded(folder: Path, events: Iterable[JobEvent]) -> Iterator[JobEvent]:
    """Yield a job's events, each already on disk; the status follows them.

    Raises
    ------
    TuningError
        Another process runs this job.
    FileFormatError
        The folder cannot be written.
    """
    with _alone(folder):
        for event in events:
            append_event(folder, event)
            if isinstance(event, StateChanged):
                write_status(folder, event.state, event.message)
            yield event


def append_event(folder: Path, event: JobEvent) -> None:
    """Add one line to the events of a job; half a line that a kill left is ended before it.

    Raises
    ------
    FileFormatError
        The file cannot be written.
    """
    path = folder / EVENTS_FILE
    try:
        with path.open("ab+") as file:
            if file.tell() and not _ends_line(file.fileno()):
                file.write(b"\n")
            file.write(f"{to_line(event)}\n".encode())
    except OSError as error:
        raise FileFormatError(
            f"{path} cannot be written: {error.strerror}. Free some space; the job goes on from "
            "its checkpoint when it is started again."
        ) from error


def _ends_line(descriptor: int) -> bool:
    end = os.lseek(descriptor, -1, os.SEEK_END)
    last = os.read(descriptor, 1)
    os.lseek(descriptor, end + 1, os.SEEK_SET)
    return last == b"\n"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / _LOCK_FILE, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TuningError(
            f"The job in {folder} is running in another process. Wait for it, or pause it there."
        ) from error
    except OSError as error:
        raise FileFormatError(
            f"{folder} cannot be written: {error.strerror}. Choose another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()
