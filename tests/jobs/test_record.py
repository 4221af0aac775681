from __future__ import annotations

import pytest

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.jobs.events import StateChanged, Validated, from_line
from napari_slidesam.jobs.record import append_event, recorded
from napari_slidesam.jobs.spec import EVENTS_FILE
from napari_slidesam.jobs.status import read_status

EVENTS = [
    StateChanged("running"),
    Validated(0, 0.5, {"a/1": 0.5}, 1.0),
    StateChanged("done", "all is well"),
]


def lines(folder):
    return (folder / EVENTS_FILE).read_text().splitlines()


def test_each_event_is_on_disk_before_it_is_yielded(tmp_path):
    for n, event in enumerate(recorded(tmp_path, EVENTS), start=1):
        assert from_line(lines(tmp_path)[-1]) == event
        assert len(lines(tmp_path)) == n
        if isinstance(event, StateChanged):
            assert read_status(tmp_path).state == event.state
    assert read_status(tmp_path).message == "all is well"
    # a later run goes on in the same file
    assert len(list(recorded(tmp_path, EVENTS))) == 3
    assert len(lines(tmp_path)) == 6


def test_half_a_line_spoils_no_other(tmp_path):
    (tmp_path / EVENTS_FILE).write_bytes(b'{"kind": "sta')
    append_event(tmp_path, EVENTS[0])
    append_event(tmp_path, EVENTS[1])
    half, *whole = lines(tmp_path)
    assert half == '{"kind": "sta'
    assert [from_line(line) for line in whole] == EVENTS[:2]


def test_one_process_at_a_time(tmp_path):
    first = recorded(tmp_path, EVENTS)
    next(first)
    with pytest.raises(TuningError, match="another process"):
        next(recorded(tmp_path, EVENTS))
    first.close()
    assert len(list(recorded(tmp_path, EVENTS))) == 3


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(FileFormatError, match="cannot be written"):
        list(recorded(tmp_path / "file.txt" / "job", EVENTS))
