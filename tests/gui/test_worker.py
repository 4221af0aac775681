from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from torch import OutOfMemoryError

from napari_slidesam.errors import InferenceError, PromptError, SlideSamError
from napari_slidesam.gui.worker import BUDGET_S, Job, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot


@pytest.fixture
def worker() -> Iterator[Worker]:
    before = set(threading.enumerate())
    made = Worker("slide-sam test")
    yield made
    made.close()
    assert set(threading.enumerate()) <= before


class Record:
    """What a job told the GUI thread."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[SlideSamError | None] = []
        self.threads: set[threading.Thread] = set()

    def take(self, result: Any) -> None:
        self.threads.add(threading.current_thread())
        self.results.append(result)

    def submit(self, worker: Worker, work: Any) -> Job:
        return worker.submit(work, self.take, self.errors.append)


def _counting(n: int, pause: float = 0.0) -> Any:
    def work(cancelled: threading.Event) -> Iterator[int]:
        for i in range(n):
            if cancelled.is_set():
                return
            time.sleep(pause)
            yield i

    return work


def test_results_come_in_order_on_the_calling_thread(qtbot: QtBot, worker: Worker) -> None:
    first, second = Record(), Record()
    first.submit(worker, _counting(50))
    second.submit(worker, _counting(3))
    assert worker.is_busy
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert first.results == list(range(50))
    assert second.results == [0, 1, 2]
    assert first.errors == second.errors == [None]
    assert first.threads == {threading.current_thread()}


@pytest.mark.parametrize(
    "error", [RuntimeError("boom"), OutOfMemoryError("no memory"), ValueError("odd")]
)
def test_every_error_arrives_after_the_results_before_it(
    qtbot: QtBot, worker: Worker, error: Exception
) -> None:
    def work(cancelled: threading.Event) -> Iterator[int]:
        yield 1
        raise error

    record, after = Record(), Record()
    record.submit(worker, work)
    after.submit(worker, _counting(2))
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert record.results == [1]
    (raised,) = record.errors
    assert isinstance(raised, InferenceError)
    assert str(error) in str(raised)
    assert after.results == [0, 1]


def test_our_own_errors_come_as_they_are(qtbot: QtBot, worker: Worker) -> None:
    def work(cancelled: threading.Event) -> Iterator[int]:
        raise PromptError("no box")
        yield

    record = Record()
    record.submit(worker, work)
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert isinstance(record.errors[0], PromptError)


def test_cancel_stops_between_two_steps(qtbot: QtBot, worker: Worker) -> None:
    record = Record()
    job = record.submit(worker, _counting(10_000, pause=0.005))
    qtbot.waitUntil(lambda: len(record.results) > 2)
    job.cancel()
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert len(record.results) < 1000
    assert record.errors == [None]


def test_a_flood_of_results_leaves_the_window_time(qtbot: QtBot, worker: Worker) -> None:
    class Slow(Record):
        def take(self, result: Any) -> None:
            time.sleep(0.004)
            super().take(result)

    record, beats = Slow(), Record()
    record.submit(worker, _counting(40))
    turns = 0
    while worker.is_busy:
        before = len(record.results)
        qtbot.wait(1)
        turns += len(record.results) > before
    assert len(record.results) == 40
    assert turns >= 40 * 0.004 / BUDGET_S / 3
    assert beats.results == []


def test_closing_ends_the_thread_and_delivers_nothing_more(qtbot: QtBot, worker: Worker) -> None:
    record = Record()
    record.submit(worker, _counting(10_000, pause=0.002))
    qtbot.waitUntil(lambda: bool(record.results))
    worker.close()
    n_results = len(record.results)
    qtbot.wait(30)
    assert len(record.results) == n_results
    assert not [t for t in threading.enumerate() if t.name == "slide-sam test"]
    assert Record().submit(worker, _counting(1)).is_done


def test_full_collections_are_rare_while_it_is_busy(qtbot: QtBot, worker: Worker) -> None:
    usual, record = gc.get_threshold(), Record()
    assert record.submit(worker, _counting(3, pause=0.01)) is not None
    assert gc.get_threshold()[2] > usual[2]
    qtbot.waitUntil(lambda: not worker.is_busy)
    assert gc.get_threshold() == usual
    record.submit(worker, _counting(3, pause=0.01))
    worker.close()
    assert gc.get_threshold() == usual
