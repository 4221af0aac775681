from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.jobs.spec import CONTROL_FILE, STATUS_FILE
from napari_slidesam.jobs.status import (
    INTERRUPTED,
    read_ask,
    read_status,
    write_ask,
    write_status,
)


def test_without_a_file_a_job_is_ready(tmp_path):
    assert read_status(tmp_path).state == "ready"


def test_own_status(tmp_path):
    write_status(tmp_path, "running", "on its way")
    found = read_status(tmp_path)
    assert (found.state, found.pid, found.message) == ("running", os.getpid(), "on its way")
    write_status(tmp_path, "done")
    assert read_status(tmp_path).is_over
    assert [p.name for p in tmp_path.iterdir()] == [STATUS_FILE]


def test_a_dead_process_was_interrupted(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = {"state": "running", "pid": child.pid, "message": "step 12"}
    (tmp_path / STATUS_FILE).write_text(json.dumps(dead))
    found = read_status(tmp_path)
    assert (found.state, found.pid, found.message) == ("interrupted", None, INTERRUPTED)
    # a state that is no longer running needs no process
    (tmp_path / STATUS_FILE).write_text(json.dumps({**dead, "state": "paused"}))
    assert read_status(tmp_path).state == "paused"


def test_a_process_number_that_is_used_again(tmp_path):
    old = {"state": "running", "pid": os.getpid(), "message": "", "process_started": 1000.0}
    (tmp_path / STATUS_FILE).write_text(json.dumps(old))
    assert read_status(tmp_path).state == "interrupted"
    (tmp_path / STATUS_FILE).write_text(json.dumps({**old, "pid": None}))
    assert read_status(tmp_path).state == "interrupted"


def test_a_zombie_is_gone(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import os; os._exit(0)"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    state = {"state": "running", "pid": child.pid, "message": ""}
    (tmp_path / STATUS_FILE).write_text(json.dumps(state))
    assert read_status(tmp_path).state == "interrupted"
    child.wait()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"state": "dreaming"}', '{"state": "done", "pid": "one"}']
)
def test_what_is_no_status(tmp_path, text):
    (tmp_path / STATUS_FILE).write_text(text)
    with pytest.raises(TuningError, match="Remove the file"):
        read_status(tmp_path)


def test_asking(tmp_path):
    assert read_ask(tmp_path) == "run"
    for ask in ("pause", "stop", "run"):
        write_ask(tmp_path, ask)
        assert read_ask(tmp_path) == ask


@pytest.mark.parametrize("text", ["{", "[]", '{"ask": "dance"}', "{}"])
def test_a_garbled_question_asks_for_nothing(tmp_path, text):
    (tmp_path / CONTROL_FILE).write_text(text)
    assert read_ask(tmp_path) == "run"
