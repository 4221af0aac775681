"""A job's process: apart from the one that starts it, and never mistaken for another one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped,unused-ignore]

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

LOG_FILE = "log.txt"
"""What a job's process writes to its standard output and error."""

SPARE_CORES = 1
"""Cores that a job leaves to the window."""

NICENESS = 10
"""Of a job's process on POSIX; Windows gets its class below normal."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

SAME_START_S = 1.0
"""Start times of a process, read twice, differ by less."""

LOG_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process, told from a later one of the same number by when it started.

    Parameters
    ----------
    pid : int
    started_s : float
        Seconds since the epoch.
    """

    pid: int
    started_s: float

    @property
    def is_running(self) -> bool:
        """Whether the process is there and not only waited for."""
        return self._process() is not None

    def end(self) -> None:
        """End the process at once, without a chance to keep anything."""
        process = self._process()
        if process is None:
            return
        try:
            process.kill()
        except psutil.NoSuchProcess:
            return  # it ended by itself meanwhile
        except psutil.Error as error:
            raise TuningError(
                f"The process {self.pid} cannot be ended ({error}). End it in the system's own "
                "list of processes."
            ) from error

    def _process(self) -> Any:
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_s) < SAME_START_S
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def launch(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    niceness: int = NICENESS,
) -> ProcessMark:
    """Start a process that outlives this one and leaves it a core.

    Parameters
    ----------
    command : sequence of str
    folder : Path
        Where its `LOG_FILE` grows.
    environment : mapping of str to str
        Variables besides those of this process.
    niceness : int

    Raises
    ------
    TuningError
        It cannot be started.
    """
    threads = str(max(1, (os.cpu_count() or 1) - SPARE_CORES))
    limits = {name: os.environ.get(name, threads) for name in THREAD_VARIABLES}
    try:
        with (folder / LOG_FILE).open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **limits, "PYTHONUNBUFFERED": "1", **environment},
                **_apart(niceness),
            )
    except OSError as error:
        raise TuningError(f"The job's process cannot be started: {error}.") from error
    started_s = _lower_priority(child.pid, niceness)
    # Who starts a process has to wait for it, else it stays in the system's list when it ends.
    threading.Thread(target=child.wait, name=f"wait for {child.pid}", daemon=True).start()
    return ProcessMark(child.pid, started_s)


def log_tail(folder: Path, n_lines: int = 6) -> str:
    """Return the last lines that a job's process wrote, without empty ones."""
    try:
        with (folder / LOG_FILE).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-n_lines:])


def _apart(niceness: int) -> dict[str, Any]:
    """Return what keeps a child alive when its parent, or the parent's terminal, ends."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        low = subprocess.BELOW_NORMAL_PRIORITY_CLASS if niceness > 0 else 0
        return {"creationflags": flags | low}
    return {"start_new_session": True}


def _lower_priority(pid: int, niceness: int) -> float:
    """Let a new process wait for others; return when it started."""
    try:
        process = psutil.Process(pid)
        if sys.platform != "win32":
            process.nice(max(process.nice(), niceness))
        return float(process.create_time())
    except psutil.Error as error:  # it has ended already, or may not be changed
        logger.debug("The process %d keeps its priority: %s", pid, error)
        return 0.0
