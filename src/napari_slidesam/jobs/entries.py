"""A job of the queue as its folder tells it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from napari_slidesam.errors import TuningError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.jobs.processes import ProcessMark
from napari_slidesam.jobs.spec import RUN_FOLDER, FinetuneJob
from napari_slidesam.jobs.status import INTERRUPTED, Ask, SeenState, read_ask, read_status

if TYPE_CHECKING:
    from pathlib import Path

PROCESS_FILE = "process.json"
CHECK_FILE = "check.json"
CHECKS_FILE = "checks.jsonl"
"""Events of the look at a job's data."""

STARTING = "Starting …"


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A job, and what is going on with it.

    Parameters
    ----------
    folder : Path
        Its name is the job's key.
    job : FinetuneJob
    state : SeenState
    message : str
        For people, where there is something to say.
    asked : str
        What its process was asked for: run, pause or stop.
    process, check : ProcessMark, optional
        The processes that work on it, or look at its data, where they are alive.
    is_crashed : bool
        A process was started and is gone without a word.
    """

    folder: Path
    job: FinetuneJob
    state: SeenState
    message: str = ""
    asked: Ask = "run"
    process: ProcessMark | None = None
    check: ProcessMark | None = None
    is_crashed: bool = False

    @property
    def job_id(self) -> str:
        """The job's key."""
        return self.folder.name

    @property
    def is_alive(self) -> bool:
        """Whether a process works on it."""
        return self.process is not None

    @property
    def is_running(self) -> bool:
        """Whether it is being trained; a process that ends has said so before it is gone."""
        return self.is_alive and self.state == "running"

    @property
    def is_checking(self) -> bool:
        """Whether a process looks at its data."""
        return self.check is not None

    @property
    def can_start(self) -> bool:
        """Whether starting it means something."""
        return not self.is_alive and self.state in ("ready", "paused", "failed", "interrupted")

    @property
    def can_change(self) -> bool:
        """Whether its settings may still be changed."""
        is_waiting = self.state in ("ready", "queued", "failed") and not self.is_alive
        return is_waiting and not (self.folder / RUN_FOLDER).exists()

    def end_process(self) -> None:
        """End the process that works on it at once."""
        if self.process is not None:
            self.process.end()

    def end_check(self) -> None:
        """End the process that looks at its data."""
        if self.check is not None:
            self.check.end()


def read_entry(folder: Path) -> JobEntry:
    """Return the job of a folder.

    Raises
    ------
    TuningError
        There is none.
    """
    job = FinetuneJob.load(folder)
    # Before the state: a process that ends has said everything by then.
    process, check = read_mark(folder / PROCESS_FILE), _alive(folder / CHECK_FILE)
    is_alive = process is not None and process.is_running
    state, message = _state(folder)
    if is_alive and state in ("queued", "interrupted"):
        state, message = "running", STARTING
    if not is_alive and state == "queued" and process is not None:  # gone before its first word
        state, message = "interrupted", INTERRUPTED
    return JobEntry(
        folder,
        job,
        state,
        message,
        read_ask(folder),
        process if is_alive else None,
        check,
        state == "interrupted",
    )


def read_mark(path: Path) -> ProcessMark | None:
    """Return the process that a file names, alive or not; None where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return ProcessMark(int(values["pid"]), float(values["started_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_mark(path: Path, mark: ProcessMark) -> None:
    """Note the process that works on a job."""
    with replacing_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(asdict(mark)), encoding="utf-8")


def _alive(path: Path) -> ProcessMark | None:
    mark = read_mark(path)
    return mark if mark is not None and mark.is_running else None


def _state(folder: Path) -> tuple[SeenState, str]:
    try:
        status = read_status(folder)
    except TuningError as error:
        return "failed", str(error)
    return status.state, status.message
