"""Run a job in this process: ``python -m napari_slidesam.jobs FOLDER``.

Everything it tells goes into the job's folder; its log goes to standard error. SIGTERM pauses
the job: a checkpoint is written, and the same command goes on from it. Ends with 0 when the job
is done, stopped or paused, with 1 when it failed, with 2 where there is no job.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from napari_slidesam.errors import SlideSamError
from napari_slidesam.jobs.events import StateChanged
from napari_slidesam.jobs.spec import FinetuneJob
from napari_slidesam.jobs.status import read_ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from napari_slidesam.jobs.status import Ask

logger = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_NO_JOB = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the folder that is named; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m napari_slidesam.jobs", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the job")
    folder = parser.parse_args(arguments).folder
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        FinetuneJob.load(folder)
    except SlideSamError as error:
        logger.error("%s", error)
        return EXIT_NO_JOB
    with _terminated() as terminated:
        return _run(folder, terminated)


def _run(folder: Path, terminated: threading.Event) -> int:
    # The imports take seconds; a job without a folder need not wait for them.
    from napari_slidesam.jobs.run import run_job

    def ask() -> Ask:
        return "pause" if terminated.is_set() else read_ask(folder)

    state = "failed"
    try:
        for event in run_job(folder, ask=ask):
            if isinstance(event, StateChanged):
                state = event.state
                logger.info("%s %s", event.state, event.message)
    except SlideSamError as error:  # the folder is in use, or cannot be written
        logger.error("%s", error)
        return EXIT_FAILED
    return EXIT_FAILED if state == "failed" else 0


@contextlib.contextmanager
def _terminated() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets, where signals can be handled."""
    event = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    raise SystemExit(main())
