"""Fine-tuning jobs one after another, each in a process of its own, stored on disk.

::

    queue folder
        queue.json              the order of the jobs
        .queue.lock             held by who changes anything
        8c1f0a3b2d44/           a job: see `napari_slidesam.jobs.spec`
            process.json        the process that works on it
            check.json          the process that looks at its data
            log.txt             what they print

Several windows may share a queue. Whatever happens to them, a job goes on, and whatever happens
to a job, the next one starts.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from napari_slidesam.errors import TuningError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.jobs.adapter_files import read_adapter, register
from napari_slidesam.jobs.entries import (
    CHECK_FILE,
    CHECKS_FILE,
    PROCESS_FILE,
    JobEntry,
    write_mark,
)
from napari_slidesam.jobs.processes import LOG_FILE, NICENESS, launch, log_tail
from napari_slidesam.jobs.queue_files import QueueBusyError, QueueFolder
from napari_slidesam.jobs.spec import (
    ADAPTER_FOLDER,
    CONTROL_FILE,
    EVENTS_FILE,
    PREVIEW_FILE,
    RUN_FOLDER,
    STATUS_FILE,
    FinetuneJob,
)
from napari_slidesam.jobs.status import write_ask, write_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_slidesam.jobs.adapter_files import Adapter
    from napari_slidesam.jobs.processes import ProcessMark

logger = logging.getLogger(__name__)

REGISTERED_FILE = "registered.json"
"""Says where the adapter of a job is among those at hand."""

RUN_COMMAND = (sys.executable, "-m", "napari_slidesam.jobs")
CHECK_COMMAND = (sys.executable, "-m", "napari_slidesam.jobs.check_only")
"""Each is followed by the job's folder."""

_OF_A_RUN = (
    RUN_FOLDER,
    ADAPTER_FOLDER,
    EVENTS_FILE,
    STATUS_FILE,
    CONTROL_FILE,
    PREVIEW_FILE,
    PROCESS_FILE,
    CHECK_FILE,
    CHECKS_FILE,
    REGISTERED_FILE,
    LOG_FILE,
)
"""What a duplicate does not take over."""


def queue_folder() -> Path:
    """Return where the user's queue is; the folder need not exist."""
    return platformdirs.user_data_path("napari-slidesam", appauthor=False) / "finetuning"


class JobQueue:
    """The jobs of a folder. All that is known of them is on disk, so several may look at it.

    Parameters
    ----------
    folder : Path, optional
        The user's own without it.
    command, check_command : sequence of str
        Start a job, or only look at its data; the job's folder is added.
    environment : mapping of str to str, optional
        Variables for the processes, besides those of this one.
    niceness : int
        How far they stand back behind others.
    adapters : Path, optional
        Where adapters are put; the user's own folder without it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        command: Sequence[str] = RUN_COMMAND,
        check_command: Sequence[str] = CHECK_COMMAND,
        environment: Mapping[str, str] | None = None,
        niceness: int = NICENESS,
        adapters: Path | None = None,
    ) -> None:
        self.folder = queue_folder() if folder is None else folder
        self._files = QueueFolder(self.folder)
        self._command, self._check_command = tuple(command), tuple(check_command)
        self._environment, self._niceness = dict(environment or {}), niceness
        self._adapters = adapters
        self._seen_alive: set[str] = set()

    def entries(self) -> tuple[JobEntry, ...]:
        """Return the jobs in their order, as they are now; those that cannot be read are left out.

        Raises
        ------
        FileFormatError
            The list of jobs cannot be understood.
        """
        return self._files.entries()

    def entry(self, job_id: str) -> JobEntry:
        """Return one job.

        Raises
        ------
        TuningError
            There is no such job.
        """
        return self._files.entry(job_id)

    def add(self, job: FinetuneJob, fill: Callable[[Path], FinetuneJob] | None = None) -> str:
        """Put a job at the end; it waits for `start`.

        Parameters
        ----------
        job : FinetuneJob
        fill : callable, optional
            Writes the job's data into its folder, before anything else sees it, and returns the
            job that names them.

        Returns
        -------
        str
            The job's key.
        """
        job_id = uuid.uuid4().hex[:12]
        with self._files.making(job_id) as folder:
            (job if fill is None else fill(folder)).save(folder)
        return job_id

    def duplicate(self, job_id: str) -> str:
        """Put a job with the same data and settings behind this one; return its key."""
        entry = self.entry(job_id)
        copy_id = uuid.uuid4().hex[:12]
        with self._files.making(copy_id, after=job_id) as folder:
            for path in entry.folder.iterdir():
                if path.name in _OF_A_RUN:
                    continue
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / path.name)
            names = [e.job.name for e in self.entries()]
            dataclasses.replace(entry.job, name=_free_name(entry.job.name, names)).save(folder)
        return copy_id

    def change(self, job_id: str, job: FinetuneJob) -> None:
        """Give a job that never ran other settings; its data stays.

        Raises
        ------
        TuningError
            It has run already.
        """
        with self._files.exclusive():
            entry = self.entry(job_id)
            if not entry.can_change:
                raise TuningError(
                    f"“{entry.job.name}” has begun: duplicate it and change the copy."
                )
            job.save(entry.folder)

    def move(self, job_id: str, index: int) -> None:
        """Put a job at another place of the order, counted from 0."""
        with self._files.exclusive():
            order = [key for key in self._files.order() if key != self.entry(job_id).job_id]
            order.insert(max(0, min(index, len(order))), job_id)
            self._files.write_order(order)

    def remove(self, job_id: str) -> None:
        """Delete a job with its data and its adapter.

        Raises
        ------
        TuningError
            It is being worked on.
        """
        with self._files.exclusive():
            entry = self.entry(job_id)
            if entry.is_alive:
                raise TuningError(f"“{entry.job.name}” is running: stop it, then remove it.")
            entry.end_check()
            self._files.write_order([key for key in self._files.order() if key != job_id])
            shutil.rmtree(entry.folder, ignore_errors=True)

    def register(self, job_id: str, *, again: bool = False) -> Adapter | None:
        """Put the adapter of a job that is over among those at hand, once.

        Parameters
        ----------
        job_id : str
        again : bool
            Also where it was there before and was removed.

        Returns
        -------
        Adapter or None
            None where there is none yet.

        Raises
        ------
        CheckpointError, FileFormatError
            It is damaged, or cannot be written.
        """
        with self._files.exclusive():
            entry = self.entry(job_id)
            source, mark = entry.folder / ADAPTER_FOLDER, entry.folder / REGISTERED_FILE
            if entry.is_alive or entry.state not in ("done", "stopped") or not source.is_dir():
                return None
            if mark.exists():
                known = _registered(mark)
                if known is not None and (known.exists() or not again):
                    return read_adapter(known)
            adapter = register(source, entry.job.name, entry.job.model, root=self._adapters)
            with replacing_file(mark, overwrite=True) as partial:
                partial.write_text(json.dumps({"folder": str(adapter.folder)}), encoding="utf-8")
            return adapter

    # -- running -----------------------------------------------------------------------------

    def check(self, job_id: str) -> None:
        """Have a process look at a job's data and measure what training takes."""
        with self._files.exclusive():
            entry = self.entry(job_id)
            if entry.is_checking or entry.is_alive:
                return
            (entry.folder / CHECKS_FILE).unlink(missing_ok=True)
            command = (*self._check_command, str(entry.folder))
            write_mark(entry.folder / CHECK_FILE, self._launched(command, entry.folder))

    def start(self, job_id: str) -> None:
        """Let a job run when its turn comes; one that was interrupted goes on where it was."""
        with self._files.exclusive():
            entry = self.entry(job_id)
            if entry.can_start:
                entry.end_check()
                (entry.folder / PROCESS_FILE).unlink(missing_ok=True)
                write_status(entry.folder, "queued")
                write_ask(entry.folder, "run")
        self.poll()

    def pause(self, job_id: str) -> None:
        """Have a running job keep a checkpoint and end its process; a waiting one waits on."""
        with self._files.exclusive():
            entry = self.entry(job_id)
            if entry.is_alive:
                write_ask(entry.folder, "pause")
            elif entry.state == "queued":
                self._take_back(entry)

    def stop(self, job_id: str) -> None:
        """End a job with what is best so far; asked twice, end its process at once."""
        with self._files.exclusive():
            entry = self.entry(job_id)
            if entry.is_alive and entry.asked == "stop":
                entry.end_process()
                write_status(entry.folder, "paused", "Ended at once: its last checkpoint is kept.")
            elif entry.is_alive:
                write_ask(entry.folder, "stop")
            elif entry.state == "queued":
                self._take_back(entry)

    def poll(self) -> tuple[JobEntry, ...]:
        """Find out what ended, start what is next, and return the jobs.

        Call it again and again; it takes milliseconds.
        """
        try:
            with self._files.exclusive(timeout_s=0.0):
                self._reconcile()
                self._start_next()
        except QueueBusyError:  # another window is at it
            logger.debug("The queue is being changed by another process.")
        return self.entries()

    def _reconcile(self) -> None:
        """Note of each job whose process crashed before our eyes what it said last."""
        for entry in self.entries():
            if entry.is_alive:
                self._seen_alive.add(entry.job_id)
            elif entry.job_id in self._seen_alive:
                self._seen_alive.discard(entry.job_id)
                if entry.is_crashed:
                    write_status(entry.folder, "failed", _crashed(entry.folder))

    def _start_next(self) -> None:
        entries = self.entries()
        if any(entry.is_alive for entry in entries):
            return
        for entry in entries:
            if entry.state != "queued":
                continue
            try:
                mark = self._launched((*self._command, str(entry.folder)), entry.folder)
            except TuningError as error:
                write_status(entry.folder, "failed", str(error))
                continue
            write_mark(entry.folder / PROCESS_FILE, mark)
            self._seen_alive.add(entry.job_id)
            return

    def _launched(self, command: Sequence[str], folder: Path) -> ProcessMark:
        return launch(command, folder, self._environment, self._niceness)

    def _take_back(self, entry: JobEntry) -> None:
        if (entry.folder / RUN_FOLDER).exists():
            write_status(entry.folder, "paused")
        else:
            (entry.folder / STATUS_FILE).unlink(missing_ok=True)


def _registered(mark: Path) -> Path | None:
    try:
        return Path(json.loads(mark.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _crashed(folder: Path) -> str:
    tail = log_tail(folder)
    end = f" It said last:\n{tail}" if tail else " It may have run out of memory."
    return f"The job's process ended without a word; start it again to go on.{end}"


def _free_name(name: str, taken: Sequence[str]) -> str:
    stem = name.rsplit(" copy", 1)[0]
    candidates = (f"{stem} copy{f' {i}' if i > 1 else ''}" for i in range(1, len(taken) + 2))
    return next(c for c in candidates if c not in taken)
