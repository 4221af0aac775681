"""Makes the pictures of the fine-tune dock: `images/finetune-*.png`.

Usage: python tools/with_display.py python docs/make_finetuning_pictures.py [FOLDER]

It opens a real window with the nuclei that napari's sample menu has and labels that a threshold
finds, trains a small adapter in a process of its own, and takes pictures on the way: the data
check, the training, and the result. Needs the extras ``all`` and ``samples``, and Pillow.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Nothing of this reaches the settings, the networks and the queue of the person who runs it.
os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))
os.environ.setdefault("NAPARI_SLIDESAM_MODELS", str(Path(tempfile.mkdtemp()) / "models"))

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_slidesam.gui import finetune_widget
from napari_slidesam.gui.finetune.remembered import RememberedJob
from napari_slidesam.jobs.queue import JobQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SLICES = slice(14, 34)
SLICE = 8
LEAST_VOXELS = 400
WINDOW_PX = (1440, 900)
DOCK_PX = 390
MINUTES = 1.0
LIMIT_S = 1200.0


class Window:
    """A napari window with an image, its labels and the dock."""

    def __init__(self) -> None:
        own = JobQueue(Path(tempfile.mkdtemp()) / "queue", niceness=0)
        finetune_widget.job_queue = lambda: own
        settings = RememberedJob(own.folder / "settings.json")
        finetune_widget.remembered_job = lambda: settings
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*WINDOW_PX)
        image, scale = nuclei()
        self.viewer.add_image(image, name="nuclei", scale=scale)
        labels = self.viewer.add_labels(nuclei_labels(image), name="nuclei labels", scale=scale)
        labels.opacity = 0.5
        _, self.dock = self.viewer.window.add_plugin_dock_widget(
            "napari-slidesam", "Fine-tune Slide-SAM"
        )
        self.dock.setMinimumWidth(DOCK_PX)
        self.controller, self.panel = self.dock.controller, self.dock.panel
        self.wait(lambda: not self.controller.is_busy)
        self.viewer.dims.set_current_step(0, SLICE)
        self.viewer.reset_view()
        self.wait(lambda: True, 1.0)

    def wait(self, condition: Callable[[], bool], at_least_s: float = 0.0) -> None:
        """Let the window live until a condition holds."""
        start = time.perf_counter()
        while time.perf_counter() - start < at_least_s or not condition():
            QApplication.processEvents()
            time.sleep(0.005)
            if time.perf_counter() - start > LIMIT_S:
                sys.exit("The window did not become ready.")

    def show(self, part: Any) -> None:
        """Scroll to a part of the panel."""
        self.wait(lambda: True, 0.3)
        bar = self.panel.scroll_area.verticalScrollBar()
        bar.setValue(part.mapTo(self.panel.scroll_area.widget(), part.rect().topLeft()).y() - 8)
        self.wait(lambda: True, 0.8)

    def save(self, path: Path) -> None:
        """Save the whole window as it is now."""
        shot: NDArray[Any] = self.viewer.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(np.asarray(shot[..., :3], dtype=np.uint8))
        picture.quantize(256).save(path, optimize=True)


def nuclei() -> tuple[NDArray[Any], tuple[float, ...]]:
    """Return some slices of the sample's nuclei, and the distances of its voxels."""
    from napari_slidesam.gui.samples import nuclei as sample

    data, options, _ = sample()[0]
    return np.asarray(data[SLICES]), tuple(options.get("scale", (1.0, 1.0, 1.0)))


def nuclei_labels(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what is bright as objects; nuclei that touch are one, which no network expects."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (0.7, 1.5, 1.5))
    bright = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    found, _ = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    sizes = np.bincount(found.ravel())
    kept = [i for i in range(1, len(sizes)) if sizes[i] >= LEAST_VOXELS]
    labels = np.zeros(found.shape, dtype=np.uint8)
    for number, i in enumerate(kept, 1):
        labels[found == i] = number
    return labels


def main(folder: Path) -> None:
    """Make the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    window = Window()
    panel, jobs = window.panel, window.controller
    panel.settings.name_edit.setText("my nuclei")
    panel.settings.unit_box.setCurrentIndex(1)
    panel.settings.duration_box.setValue(MINUTES)
    panel.settings.axis_checks[1].setChecked(False)
    panel.settings.axis_checks[2].setChecked(False)
    panel.add_button.click()
    window.wait(lambda: len(panel.live.check.facts.facts) > 4)
    window.wait(lambda: not jobs.entries[0].is_checking)
    window.save(folder / "finetune-check.png")
    panel.queue.buttons[next(iter(panel.queue.buttons))].click()
    window.wait(lambda: len(panel.live.facts.facts) > 0 and (panel.live.line.share or 0) > 0.6)
    window.show(panel.queue)
    window.save(folder / "finetune-training.png")
    window.wait(lambda: jobs.entries[0].state in ("done", "failed"))
    window.wait(lambda: panel.adapters.chosen is not None)
    panel.adapters_section.set_open(True)
    window.show(panel.live)
    window.save(folder / "finetune-result.png")
    window.viewer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("images"))
