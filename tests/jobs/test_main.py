from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from napari_slidesam.jobs.__main__ import EXIT_FAILED, EXIT_NO_JOB, main
from napari_slidesam.jobs.events import Finished, Stepped, Validated
from napari_slidesam.jobs.run import run_job
from napari_slidesam.jobs.spec import EVENTS_FILE, FinetuneJob, PairSpec
from napari_slidesam.jobs.status import read_status
from napari_slidesam.jobs.tail import EventTail

if TYPE_CHECKING:
    from pathlib import Path

LONG_S = 120.0


@pytest.fixture
def folder(tmp_path: Path, write_pair, tiny_weights) -> Path:
    """A job of a few dozen steps that lie in the folder ``job``."""
    image, labels = write_pair(tmp_path / "files", "brain")
    job = FinetuneJob(
        "ellipsoids",
        pairs=(PairSpec("brain", str(image), str(labels)),),
        model=str(tiny_weights),
        rank=2,
        epochs=10,
        batch_size=2,
        axes=(0,),
        validation_share=0.35,
        device="cpu",
        precision="float32",
    )
    job.save(tmp_path / "job")
    return tmp_path / "job"


def events_of(folder, kind):
    return [e for e in EventTail(folder / EVENTS_FILE).read() if isinstance(e, kind)]


def wait_for_a_step(folder, seconds=LONG_S):
    stop = time.monotonic() + seconds
    while not events_of(folder, Stepped):
        assert time.monotonic() < stop
        time.sleep(0.02)


def test_sigterm_pauses(folder):
    def terminate() -> None:
        wait_for_a_step(folder)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    watcher = threading.Thread(target=terminate)
    watcher.start()
    assert main([str(folder)]) == 0
    watcher.join()
    assert read_status(folder).state == "paused"
    assert signal.getsignal(signal.SIGTERM) == before
    assert not events_of(folder, Finished)


def test_killed_in_a_process_of_its_own_it_goes_on_from_its_checkpoint(folder):
    with (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "napari_slidesam.jobs", str(folder)], stderr=log
        )
    try:
        wait_for_a_step(folder)
        assert read_status(folder).state == "running"
        assert read_status(folder).pid == child.pid
    finally:
        child.kill()
        child.wait()
    assert read_status(folder).state == "interrupted"
    stop = iter(["run", "run", "run", "stop"])
    list(run_job(folder, ask=lambda: next(stop, "stop")))
    assert read_status(folder).state == "stopped"
    (finished,) = events_of(folder, Finished)
    validated = events_of(folder, Validated)
    assert [v.step for v in validated].count(0) == 1
    assert finished.before == validated[0].dice_by_label


def test_exit_codes(folder, tmp_path, caplog):
    assert main([str(tmp_path / "nowhere")]) == EXIT_NO_JOB
    assert "no readable job" in caplog.text
    FinetuneJob("empty").save(tmp_path / "empty")
    assert main([str(tmp_path / "empty")]) == EXIT_FAILED
    assert read_status(tmp_path / "empty").state == "failed"
    running = run_job(folder, ask=lambda: "pause")
    next(running)
    assert main([str(folder)]) == EXIT_FAILED
    assert "running in another process" in caplog.text
    running.close()
