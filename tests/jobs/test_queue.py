"""A queue with real processes: small scripts that behave as jobs do."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.jobs.entries import CHECKS_FILE, PROCESS_FILE, read_mark
from napari_slidesam.jobs.events import StateChanged, Stepped, to_line
from napari_slidesam.jobs.processes import LOG_FILE, ProcessMark, launch
from napari_slidesam.jobs.queue import JobQueue
from napari_slidesam.jobs.queue_files import QUEUE_FILE
from napari_slidesam.jobs.spec import EVENTS_FILE, RUN_FOLDER, FinetuneJob
from napari_slidesam.jobs.tail import EventTail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeQueue = Callable[..., JobQueue]

LIMIT_S = 30.0

JOB = """
import json, os, sys, time
from pathlib import Path

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())

def say(state, message=""):
    values = {"state": state, "pid": os.getpid(), "message": message}
    partial = folder / "status.partial"
    partial.write_text(json.dumps(values))
    os.replace(partial, folder / "status.json")

(folder / "run").mkdir(exist_ok=True)
checkpoint = folder / "run" / "step.txt"
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
say("running")
print("hello from", job["name"], flush=True)
with (folder.parent / "began.txt").open("a") as began:
    began.write(f"{job['name']} {step}\\n")
if job["name"] == "crash":
    print("about to end", flush=True)
    os._exit(3)
while step < job["epochs"]:
    time.sleep(0.02)
    step += 1
    checkpoint.write_text(str(step))
    control = folder / "control.json"
    ask = json.loads(control.read_text())["ask"] if control.exists() else "run"
    if job["name"] == "deaf":
        continue
    if ask != "run":
        say("paused" if ask == "pause" else "stopped")
        sys.exit()
say("done", "All done.")
"""

CHECK = """
import sys, json
from pathlib import Path
folder = Path(sys.argv[1])
line = {"kind": "state", "state": "queued", "message": "looked"}
(folder / "checks.jsonl").write_text(json.dumps(line) + "\\n")
"""


@pytest.fixture
def make_queue(tmp_path: Path) -> MakeQueue:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "check.py").write_text(CHECK)

    def make(folder: str = "queue") -> JobQueue:
        return JobQueue(
            tmp_path / folder,
            command=(sys.executable, str(tmp_path / "job.py")),
            check_command=(sys.executable, str(tmp_path / "check.py")),
            niceness=0,
        )

    return make


def _job(name: str, epochs: int = 3) -> FinetuneJob:
    return FinetuneJob(name, data=("/somewhere",), epochs=epochs)


def _names(queue: JobQueue) -> list[str]:
    return [entry.job.name for entry in queue.entries()]


def _wait(queue: JobQueue, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        queue.poll()
        time.sleep(0.02)


def _wait_for(queue: JobQueue, job_id: str, *states: str) -> None:
    def is_there() -> bool:
        entry = queue.entry(job_id)
        return entry.state in states and (entry.is_alive == (entry.state == "running"))

    _wait(queue, is_there)


def test_jobs_are_kept_in_their_order(make_queue: MakeQueue) -> None:
    queue = make_queue()
    a, b, c = (queue.add(_job(name)) for name in "abc")
    queue.move(c, 0)
    queue.move(a, 99)
    assert _names(queue) == ["c", "b", "a"]
    assert _names(make_queue()) == ["c", "b", "a"]
    queue.remove(b)
    assert _names(queue) == ["c", "a"]
    assert not (queue.folder / b).exists()
    with pytest.raises(TuningError, match="removed"):
        queue.entry(b)
    queue.change(a, _job("other", 7))
    assert queue.entry(a).job == _job("other", 7)
    assert all(entry.state == "ready" for entry in queue.poll())


def test_a_job_that_cannot_be_written_is_no_job(make_queue: MakeQueue) -> None:
    queue = make_queue()

    def fill(folder: Path) -> FinetuneJob:
        raise TuningError("no labels")

    with pytest.raises(TuningError, match="no labels"):
        queue.add(_job("a"), fill)
    assert queue.entries() == ()
    assert [p.name for p in queue.folder.iterdir() if p.is_dir()] == []


def test_a_duplicate_has_the_data_but_not_the_run(make_queue: MakeQueue) -> None:
    queue = make_queue()

    def fill(folder: Path) -> FinetuneJob:
        (folder / "data").mkdir()
        (folder / "data" / "image.npy").write_bytes(b"values")
        return _job("a")

    first = queue.add(_job("unnamed"), fill)
    queue.add(_job("b"))
    queue.start(first)
    _wait_for(queue, first, "done")
    copies = [queue.duplicate(first), queue.duplicate(first)]
    assert _names(queue) == ["a", "a copy 2", "a copy", "b"]
    entry = queue.entry(copies[0])
    assert entry.state == "ready"
    assert (entry.folder / "data" / "image.npy").read_bytes() == b"values"
    assert sorted(p.name for p in entry.folder.iterdir()) == ["data", "job.json"]


def test_jobs_run_one_after_another_and_a_crash_stops_none(make_queue: MakeQueue) -> None:
    queue = make_queue()
    ids = [queue.add(_job(name)) for name in ("a", "crash", "b")]
    for job_id in ids:
        queue.start(job_id)
    assert [e.state for e in queue.entries()] == ["running", "queued", "queued"]
    running = []

    def is_over() -> bool:
        running.append(sum(e.is_alive for e in queue.entries()))
        return all(not e.is_alive and e.state in ("done", "failed") for e in queue.entries())

    _wait(queue, is_over)
    assert max(running) == 1
    assert [e.state for e in queue.entries()] == ["done", "failed", "done"]
    assert "about to end" in queue.entry(ids[1]).message
    assert queue.entry(ids[0]).message == "All done."


def test_a_killed_job_fails_and_goes_on_from_its_checkpoint(make_queue: MakeQueue) -> None:
    queue = make_queue()
    job_id = queue.add(_job("a", 40))
    queue.start(job_id)
    step = queue.folder / job_id / RUN_FOLDER / "step.txt"
    _wait(queue, lambda: step.exists() and int(step.read_text() or 0) > 3)
    process = queue.entry(job_id).process
    assert process is not None
    process.end()
    _wait_for(queue, job_id, "failed")
    assert "without a word" in queue.entry(job_id).message
    queue.start(job_id)
    _wait_for(queue, job_id, "done")
    began = (queue.folder / "began.txt").read_text().split()
    assert int(began[3]) > 3


def test_pause_resume_and_stop(make_queue: MakeQueue) -> None:
    queue = make_queue()
    a, b = queue.add(_job("a", 1000)), queue.add(_job("b"))
    queue.start(a)
    queue.start(b)
    queue.pause(b)  # it waits: back to where it was
    assert queue.entry(b).state == "ready"
    _wait_for(queue, a, "running")
    with pytest.raises(TuningError, match="stop it"):
        queue.remove(a)
    with pytest.raises(TuningError, match="duplicate"):
        queue.change(a, _job("a", 1))
    queue.pause(a)
    _wait_for(queue, a, "paused")
    queue.start(a)
    _wait_for(queue, a, "running")
    queue.stop(a)
    _wait_for(queue, a, "stopped")
    assert not queue.entry(a).can_start


def test_asked_twice_a_job_that_does_not_listen_ends(make_queue: MakeQueue) -> None:
    queue = make_queue()
    job_id = queue.add(_job("deaf", 100_000))
    queue.start(job_id)
    _wait_for(queue, job_id, "running")
    queue.stop(job_id)
    assert queue.entry(job_id).asked == "stop"
    queue.stop(job_id)
    _wait_for(queue, job_id, "paused")
    assert "checkpoint" in queue.entry(job_id).message


def test_a_job_outlives_the_queue_and_an_interrupted_one_is_known(make_queue: MakeQueue) -> None:
    queue = make_queue()
    job_id = queue.add(_job("a", 1000))
    queue.start(job_id)
    _wait_for(queue, job_id, "running")
    process = queue.entry(job_id).process
    assert process is not None
    del queue
    again = make_queue()
    assert again.entry(job_id).is_alive
    assert again.poll()[0].state == "running"
    process.end()
    while process.is_running:
        time.sleep(0.02)
    later = make_queue()  # as after a restart: nobody saw it end
    assert later.poll()[0].state == "interrupted"
    assert "checkpoint" in later.entry(job_id).message
    assert later.entry(job_id).can_start
    later.start(job_id)
    _wait_for(later, job_id, "running")
    later.stop(job_id)
    _wait_for(later, job_id, "stopped")


def test_a_process_of_the_same_number_is_another_one(make_queue: MakeQueue) -> None:
    queue = make_queue()
    folder = queue.folder / queue.add(_job("a"))
    mark = {"pid": os.getpid(), "started_s": psutil.Process().create_time() - 100}
    (folder / PROCESS_FILE).write_text(json.dumps(mark))
    assert not queue.entries()[0].is_alive
    (folder / PROCESS_FILE).write_text("{")
    assert read_mark(folder / PROCESS_FILE) is None
    assert not ProcessMark(2**22 + 1, 0.0).is_running
    ProcessMark(2**22 + 1, 0.0).end()


def test_the_process_leaves_napari_its_time(make_queue: MakeQueue, tmp_path: Path) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.nice(0), os.getsid(0), flush=True)"
    mark = launch((sys.executable, "-c", f"import time; time.sleep(0.3); {code}"), tmp_path, {})
    assert mark.is_running
    end = time.monotonic() + LIMIT_S
    while mark.is_running:
        assert time.monotonic() < end
        time.sleep(0.02)
    threads, niceness, session = (tmp_path / LOG_FILE).read_text().split()
    assert int(threads) >= 1
    assert int(niceness) >= 10
    assert int(session) == mark.pid


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "queue", command=(str(tmp_path / "nothing"),))
    job_id = queue.add(_job("a"))
    queue.start(job_id)
    entry = queue.entry(job_id)
    assert entry.state == "failed"
    assert "cannot be started" in entry.message


def test_the_look_at_the_data(make_queue: MakeQueue) -> None:
    queue = make_queue()
    job_id = queue.add(_job("a"))
    tail = EventTail(queue.folder / job_id / CHECKS_FILE)
    assert tail.read() == []
    queue.check(job_id)
    _wait(queue, lambda: not queue.entry(job_id).is_checking)
    assert tail.read() == [StateChanged("queued", "looked")]
    assert queue.entry(job_id).state == "ready"


def test_a_damaged_list_or_job(make_queue: MakeQueue) -> None:
    queue = make_queue()
    a, _ = queue.add(_job("a")), queue.add(_job("b"))
    (queue.folder / a / "job.json").write_text("{")
    assert _names(queue) == ["b"]
    kept = (queue.folder / QUEUE_FILE).read_text()
    (queue.folder / QUEUE_FILE).write_text("[1, 2")
    with pytest.raises(FileFormatError, match="repair"):
        queue.entries()
    (queue.folder / QUEUE_FILE).write_text(kept)
    assert _names(queue) == ["b"]


def test_events_are_read_while_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    tail = EventTail(path)
    step = Stepped(1, 9, 0.1, 8, 0.5, {}, 1e-4, 1.0, 8.0, 10)
    line = to_line(step).encode()
    path.write_bytes(line + b"\n" + line[:20])
    assert tail.read() == [step]
    with path.open("ab") as file:
        file.write(line[20:] + b"\nno event\n\n")
    assert tail.read() == [step]
    path.write_bytes(line + b"\n")  # begun anew
    assert tail.read() == [step]
    assert tail.read() == []
