"""The fine-tune dock in a real window while a real job trains in its process: does it stall."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import napari
import numpy as np
from qtpy.QtCore import QTimer

from benchmarks.window import WINDOW_PX, Heartbeat, live_until
from napari_slidesam.gui.dock_widget import DockWidget
from napari_slidesam.gui.finetune.controller import FinetuneController
from napari_slidesam.gui.finetune.views.panel import FinetunePanel
from napari_slidesam.jobs.queue import JobQueue
from napari_slidesam.jobs.spec import FinetuneJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_slidesam.jobs.entries import JobEntry

SHAPE_ZYX = (60, 192, 192)
IDLE_S = 3.0
AT_REST_S = 20.0
"""With the slider moved and no job, and of training with the window left alone; then the slider is
moved until the job is done."""
SLIDE_MS = 100
MINUTES = 1.0


def bench_finetune_stalls() -> dict[str, float]:
    """Measure the event loop's gaps while a job trains, is validated and shown live.

    ``idle`` is the window with nothing to do, ``idle_sliding`` with the slider moved ten times a
    second: what napari itself takes for it. ``starting`` begins with the click that saves the
    layers and ends with the first step, ``training`` and ``training_sliding`` follow. Gaps are
    wall times between two beats of a 2 ms timer; ``own`` is the processor time of the GUI thread
    in them, which a job that takes all cores does not lengthen. ``collection`` is the longest of
    Python's garbage collections, in whatever thread: each holds the interpreter's lock.
    """
    with _window() as (viewer, controller, panel):
        figures = _felt("idle", lambda: True, IDLE_S)
        slider = _slider(viewer)
        slider.start(SLIDE_MS)
        figures |= _felt("idle_sliding", lambda: True, AT_REST_S)
        slider.stop()
        start = time.perf_counter()
        controller.add_job(starts=True)
        figures |= _felt("starting", lambda: bool(panel.live.facts.facts))
        figures |= _felt("training", lambda: True, AT_REST_S)
        slider.start(SLIDE_MS)
        figures |= _felt("training_sliding", lambda: _job(controller).state != "running")
        slider.stop()
        figures["job_seconds"] = time.perf_counter() - start
        job = _job(controller)
        assert job.state == "done", job.message
        live_until(lambda: panel.live.dice.rowCount() > 0)
    return figures


def _felt(name: str, is_over: Callable[[], bool], at_least_s: float = 0.0) -> dict[str, float]:
    with Heartbeat() as pulse:
        live_until(is_over, at_least_s)
    return pulse.figures(name)


def _job(controller: FinetuneController) -> JobEntry:
    (entry,) = controller.entries
    return entry


def _slider(viewer: napari.Viewer) -> QTimer:
    timer = QTimer()
    places = iter(list(range(SHAPE_ZYX[0])) * 1000)
    timer.timeout.connect(lambda: viewer.dims.set_current_step(0, next(places)))
    return timer


@contextmanager
def _window() -> Iterator[tuple[napari.Viewer, FinetuneController, FinetunePanel]]:
    """Open a window on a phantom with its labels, with the dock and a queue of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("NAPARI_SLIDESAM_MODELS", str(Path(folder) / "models"))
        viewer = napari.Viewer()
        viewer.window.resize(*WINDOW_PX)
        image, labels = _phantom()
        viewer.add_image(image, name="phantom")
        viewer.add_labels(labels, name="phantom labels")
        panel = FinetunePanel()
        queue = JobQueue(Path(folder) / "queue")
        controller = FinetuneController(viewer, panel, queue=queue)
        widget = DockWidget("finetune", panel, controller)
        viewer.window.add_dock_widget(widget, name="Fine-tune Slide-SAM")
        panel.set_job(FinetuneJob("phantom", minutes=MINUTES, axes=(0,), device="cpu"))
        live_until(lambda: not controller.is_busy, 1.0)
        try:
            yield viewer, controller, panel
        finally:
            for entry in queue.entries():
                entry.end_process()
            controller.close()
            viewer.close()


def _phantom() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Columns that lean, bright in noise, each with a label of its own."""
    image = np.random.default_rng(0).normal(60, 12, SHAPE_ZYX)
    labels = np.zeros(SHAPE_ZYX, dtype=np.uint8)
    y, x = np.indices(SHAPE_ZYX[1:])
    for label, (cy, cx) in enumerate(((40, 50), (60, 140), (130, 60), (140, 140)), 1):
        for z in range(2, SHAPE_ZYX[0] - 2):
            labels[z][np.hypot(y - cy - z / 4, x - cx + z / 5) < 14 + 6 * np.sin(z / 9)] = label
    image[labels > 0] += 60
    return image.clip(0, 255).astype(np.uint8), labels
