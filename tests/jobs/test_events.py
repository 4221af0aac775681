from __future__ import annotations

import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.jobs.events import (
    DataChecked,
    Finished,
    Probed,
    StateChanged,
    Stepped,
    Validated,
    from_line,
    to_line,
)
from napari_slidesam.tuning.task import StepReport

REPORT = StepReport(
    step=3,
    total_steps=10,
    epoch=0.5,
    windows=24,
    loss=1.5,
    parts={"segmentation": 1.0},
    learning_rate=1e-4,
    seconds=7.0,
    seconds_left=16.0,
    peak_memory_bytes=2**30,
)


@pytest.mark.parametrize(
    "event",
    [
        DataChecked(1, 20, 3, ("a, slices 1 to 5 along z",), {"1": 20}, {"too small": 2}, ("w",)),
        Probed(60.0, 2**30, 0.5, 120),
        Stepped.of(REPORT),
        Validated(0, 0.5, {"a/1": 0.5}, 2.0),
        Finished("/x/adapter", {"a/1": 0.5}, {"a/1": 0.75}, 40),
        StateChanged("failed", "Two\nlines with | and é"),
    ],
)
def test_there_and_back(event):
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event
    assert type(from_line(line)) is type(event)


def test_a_report_becomes_an_event():
    event = Stepped.of(REPORT)
    assert (event.step, event.loss, event.parts) == (3, 1.5, {"segmentation": 1.0})
    assert event.seconds_left == 16.0


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "3", '{"kind": "dance"}', '{"kind": "probed"}', '{"kind": "sta']
)
def test_what_is_no_event(line):
    with pytest.raises(TuningError, match="no event"):
        from_line(line)
