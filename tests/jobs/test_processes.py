from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil

from napari_slidesam.jobs.processes import ProcessMark

if TYPE_CHECKING:
    import pytest


def test_a_process_that_ends_by_itself_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    seen = psutil.Process(started.pid)
    mark = ProcessMark(started.pid, seen.create_time())
    assert mark.is_running

    def gone(self: ProcessMark) -> Any:
        started.kill()
        started.wait()
        return seen

    monkeypatch.setattr(ProcessMark, "_process", gone)
    mark.end()
    monkeypatch.undo()
    assert not mark.is_running
