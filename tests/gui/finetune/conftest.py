"""Fine-tune docks in real viewers, with a queue of this test alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_slidesam.gui import finetune_widget
from napari_slidesam.gui.finetune_widget import FinetuneWidget
from napari_slidesam.jobs.queue import JobQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import napari
    from pytestqt.qtbot import QtBot

    from napari_slidesam.gui.finetune.controller import FinetuneController
    from napari_slidesam.gui.finetune.views.panel import FinetunePanel
    from napari_slidesam.jobs.entries import JobEntry

LIMIT_MS = 120_000
SHAPE_ZYX = (14, 48, 48)

JOB = """
import json, os, sys, time
from pathlib import Path
import numpy as np

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())

def status(state, message=""):
    values = {"state": state, "pid": os.getpid(), "message": message}
    (folder / "status.partial").write_text(json.dumps(values))
    os.replace(folder / "status.partial", folder / "status.json")
    tell(kind="state", state=state, message=message)

def tell(**values):
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(values) + "\\n")

def validated(step, dice):
    tell(kind="validated", step=step, dice=dice, dice_by_label={"a/1": dice}, seconds=0.1)
    masks = np.zeros((3, 20, 30), bool)
    masks[:, 5:15, 5:15] = True
    with (folder / "preview.partial").open("wb") as file:
        np.savez(file, image=np.random.rand(20, 30).astype(np.float32),
                 truth=masks[0], before=masks[1], after=masks[2], title="slice 3")
    os.replace(folder / "preview.partial", folder / "preview.npz")

def is_held():
    return job["name"].startswith("held") and not (folder / "go").exists()

(folder / "run").mkdir(exist_ok=True)
status("running")
if job["name"].startswith("crash"):
    print("the graphics card is gone", flush=True)
    os._exit(3)
tell(kind="checked", volumes=1, windows=40, objects=2, validation=["the end"],
     labels={"1": 40}, dropped={"unlabelled": 3}, warnings=["Few windows."])
validated(0, 0.5)
step, total = 0, job["epochs"]
while step < total or is_held():
    time.sleep(0.02)
    step = min(step + 1, total)
    tell(kind="step", step=step, total_steps=total, epoch=step / 10, windows=step, loss=1 / step,
         parts={}, learning_rate=1e-4, seconds=step / 50, seconds_left=(total - step) / 50,
         peak_memory_bytes=2**20)
    control = folder / "control.json"
    ask = json.loads(control.read_text())["ask"] if control.exists() else "run"
    if ask != "run":
        status("paused" if ask == "pause" else "stopped")
        sys.exit()
validated(step, 0.8)
tell(kind="finished", adapter=str(folder / "adapter"), before={"a/1": 0.5}, after={"a/1": 0.8},
     kept_step=step)
status("done")
"""

CHECK = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
line = {"kind": "checked", "volumes": 1, "windows": 40, "objects": 2, "validation": [],
        "labels": {"1": 40}, "dropped": {}, "warnings": ["Few windows."]}
if json.loads((folder / "job.json").read_text())["name"].startswith("bad"):
    line = {"kind": "state", "state": "failed", "message": "There is no label in it."}
(folder / "checks.jsonl").write_text(json.dumps(line) + "\\n")
"""


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Two bright columns in noise, and their labels."""
    image = np.random.default_rng(0).normal(40, 4, SHAPE_ZYX)
    labels = np.zeros(SHAPE_ZYX, dtype=np.uint8)
    labels[1:-1, 8:20, 8:20] = 1
    labels[1:-1, 26:38, 28:40] = 2
    image[labels > 0] += 120
    return image.clip(0, 255).astype(np.uint8), labels


@dataclass(eq=False)
class OpenFinetune:
    """A fine-tune dock in a viewer, and what tests do with it."""

    viewer: napari.Viewer
    widget: FinetuneWidget
    qtbot: QtBot

    phantom = staticmethod(phantom)

    @property
    def controller(self) -> FinetuneController:
        return self.widget.controller

    @property
    def panel(self) -> FinetunePanel:
        return self.widget.panel

    def wait(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=LIMIT_MS)

    def wait_for(self, name: str, *states: str) -> JobEntry:
        """Wait until a job is shown in one of these states."""

        def found() -> bool:
            entry = self.entry(name)
            return entry is not None and entry.state in states

        self.wait(found)
        entry = self.entry(name)
        assert entry is not None
        return entry

    def entry(self, name: str) -> JobEntry | None:
        return next((e for e in self.controller.entries if e.job.name == name), None)

    def add(self, name: str, *, starts: bool, epochs: int = 3) -> None:
        """Add a job as a person does, and wait until it is in the queue."""
        self.panel.settings.name_edit.setText(name)
        self.panel.settings.duration_box.setValue(epochs)
        (self.panel.start_button if starts else self.panel.add_button).click()
        self.wait(lambda: self.entry(name) is not None)

    def messages(self) -> str:
        return str(self.panel.message.label.text())


@pytest.fixture
def queue_commands(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """Small scripts that behave as a job's processes do."""
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "check.py").write_text(CHECK)
    return {
        "command": (sys.executable, str(tmp_path / "job.py")),
        "check_command": (sys.executable, str(tmp_path / "check.py")),
    }


@pytest.fixture
def make_queue(
    user_folders: Path, queue_commands: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., JobQueue]]:
    """Make queues of one folder; whatever still runs at the end is ended."""
    monkeypatch.setenv("NAPARI_SLIDESAM_MODELS", str(user_folders / "models"))
    folder = user_folders / "queue"

    def make(*, is_real: bool = False) -> JobQueue:
        options: dict[str, Any] = {} if is_real else queue_commands
        return JobQueue(folder, niceness=0, **options)

    monkeypatch.setattr(finetune_widget, "job_queue", make)
    yield make
    for entry in make().entries():
        entry.end_process()
        entry.end_check()


@pytest.fixture
def open_finetune(
    make_viewer: Callable[[], napari.Viewer], make_queue: Callable[..., JobQueue], qtbot: QtBot
) -> Callable[..., OpenFinetune]:
    """Return a function that opens a dock on the phantom, in a viewer of its own or another."""

    def make(viewer: napari.Viewer | None = None, *, is_empty: bool = False) -> OpenFinetune:
        if viewer is None:
            viewer = make_viewer()
            if not is_empty:
                image, labels = phantom()
                viewer.add_image(image, name="a", scale=(2, 1, 1))
                viewer.add_labels(labels, name="a labels", scale=(2, 1, 1))
        widget = FinetuneWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Fine-tune Slide-SAM")
        dock = OpenFinetune(viewer, widget, qtbot)
        dock.wait(lambda: not dock.controller.is_busy)
        return dock

    return make
