"""Where a job is, and what it is asked to do: two small files in its folder.

``status.json`` is written by the job's process alone, ``control.json`` by who watches it. Each
is replaced in one move, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import psutil  # type: ignore[import-untyped,unused-ignore]

from napari_slidesam.errors import TuningError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.jobs.events import JobState
from napari_slidesam.jobs.spec import CONTROL_FILE, STATUS_FILE

if TYPE_CHECKING:
    from pathlib import Path

SeenState = JobState | Literal["ready", "interrupted"]
"""A job's state as others see it: never started, or running with its process gone."""

Ask = Literal["run", "pause", "stop"]
"""Go on; make a checkpoint and end; keep the best so far as adapter and end."""

INTERRUPTED = "Its process ended without a word. Start it again: it goes on from its checkpoint."

_STATES = (*get_args(JobState), "ready", "interrupted")
_ASKS = get_args(Ask)
_CLOCK_SLACK_S = 5.0


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job's state.

    Parameters
    ----------
    state : str
        A `JobState`; ``ready`` before the first start, ``interrupted`` where the job was
        running and its process is gone.
    pid : int, optional
        Of the process that wrote it.
    message : str
        For people, where there is something to say.
    process_started : float, optional
        When that process began, in seconds since 1970: process numbers are used again.
    """

    state: SeenState
    pid: int | None = None
    message: str = ""
    process_started: float | None = None

    @property
    def is_over(self) -> bool:
        """Nothing is left to do: it is done, or was stopped."""
        return self.state in ("done", "stopped")


def read_status(folder: Path) -> JobStatus:
    """Return the state of the job in a folder; without a file it is ready to start.

    Raises
    ------
    TuningError
        The file is not understood.
    """
    path = folder / STATUS_FILE
    values = _read(path)
    if values is None:
        return JobStatus("ready")
    state, pid, message = values.get("state"), values.get("pid"), values.get("message", "")
    started = values.get("process_started")
    is_good = state in _STATES and isinstance(message, str)
    if (
        not is_good
        or not isinstance(pid, int | None)
        or not isinstance(started, int | float | None)
    ):
        raise TuningError(
            f"{path} is no status of a job: expected a state of {', '.join(_STATES)}; got "
            f"{values}. Remove the file; the job then goes on from its checkpoint."
        )
    if state == "running" and not _is_alive(pid, started):
        return JobStatus("interrupted", None, INTERRUPTED)
    return JobStatus(cast("SeenState", state), pid, message, started)


def write_status(folder: Path, state: JobState, message: str = "") -> None:
    """Note the job's state as this process's word.

    Raises
    ------
    FileFormatError
        The file cannot be written.
    """
    pid = os.getpid()
    status = JobStatus(state, pid, message, psutil.Process(pid).create_time())
    with replacing_file(folder / STATUS_FILE, overwrite=True) as partial:
        partial.write_text(json.dumps(asdict(status)), encoding="utf-8")


def read_ask(folder: Path) -> Ask:
    """Return what the job in a folder is asked to do; without a file, to run.

    A file that cannot be read asks for nothing: a run of hours does not end for it.
    """
    try:
        values = _read(folder / CONTROL_FILE)
    except TuningError:
        return "run"
    ask = "run" if values is None else values.get("ask")
    return cast("Ask", ask) if ask in _ASKS else "run"


def write_ask(folder: Path, ask: Ask) -> None:
    """Ask the job in a folder to go on, to pause or to stop; it answers between two steps.

    Raises
    ------
    FileFormatError
        The file cannot be written.
    """
    with replacing_file(folder / CONTROL_FILE, overwrite=True) as partial:
        partial.write_text(json.dumps({"ask": ask}), encoding="utf-8")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TuningError(f"{path} cannot be read ({error}). Remove the file.") from error
    if not isinstance(values, dict):
        raise TuningError(f"{path} holds no JSON object but {values!r:.60}. Remove the file.")
    return values


def _is_alive(pid: int | None, started: float | None) -> bool:
    """Whether the process is there, is not a zombie, and began when it says."""
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return started is None or abs(process.create_time() - started) < _CLOCK_SLACK_S
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
