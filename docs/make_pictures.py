"""Makes the pictures of the segment dock: `images/dock.png` and `images/flow.gif`.

Usage: python tools/with_display.py python docs/make_pictures.py [FOLDER]

It opens a real window with the nuclei that napari's sample menu has, draws boxes as a mouse
would leave them, and takes pictures while the masks grow. Needs the extras ``all`` and
``samples``, and Pillow.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Nothing of this reaches the settings of the person who runs it.
os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_slidesam.gui.controller import SegmentController

SLICE = 17
BOXES_YXYX = (
    (130, 84, 185, 140),
    (44, 83, 103, 142),
    (69, 132, 125, 189),
    (111, 156, 171, 223),
    (173, 141, 232, 209),
)
"""Around nuclei on `SLICE`; a little loose, as people draw them."""

WINDOW_PX = (1440, 900)
DOCK_PX = 380
GIF_WIDTH_PX = 760
GIF_COLOURS = 128
GIF_MAX_GROWING = 8
FRAME_MS, LAST_MS = 350, 1800
GIF_SLICES = (21, 17, 13, 10, 8, 13, 17)
LIMIT_S = 300.0


class Window:
    """A napari window with the nuclei and the dock."""

    def __init__(self) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*WINDOW_PX)
        self.viewer.open_sample("napari-slidesam", "nuclei")
        _, dock = self.viewer.window.add_plugin_dock_widget(
            "napari-slidesam", "Segment with Slide-SAM"
        )
        dock.setMinimumWidth(DOCK_PX)
        self.controller: SegmentController = dock.controller
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

    def draw(self, box_yxyx: tuple[float, ...]) -> None:
        """Draw a box on the slice that is shown."""
        workspace = self.controller.workspace
        assert workspace is not None
        assert workspace.boxes is not None
        workspace.boxes.add(_corners(box_yxyx), shape_type="rectangle")

    def picture(self) -> NDArray[np.uint8]:
        """Return the whole window, shape (H, W, 3), as it is now."""
        self.wait(lambda: True, 0.25)
        shot: NDArray[Any] = self.viewer.screenshot(canvas_only=False, flash=False)
        return np.asarray(shot[..., :3], dtype=np.uint8)


def _corners(box_yxyx: tuple[float, ...]) -> NDArray[np.float64]:
    y0, x0, y1, x1 = box_yxyx
    return np.array([(SLICE, y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))], float)


def flow(window: Window) -> Iterator[NDArray[np.uint8]]:
    """Yield the window from the first box to the whole object, slice by slice."""
    controller = window.controller
    yield window.picture()
    window.draw(BOXES_YXYX[0])
    yield window.picture()
    session = controller.session
    assert session is not None
    window.wait(lambda: len(session.planes) > 0)
    yield window.picture()
    for _ in range(GIF_MAX_GROWING):  # along with the mask, upwards
        if not controller.is_busy:
            break
        window.viewer.dims.set_current_step(0, max(session.object_state(1).own_slices))
        yield window.picture()
    window.wait(lambda: not controller.is_busy)
    for slice_index in GIF_SLICES:
        window.viewer.dims.set_current_step(0, slice_index)
        yield window.picture()


def save_gif(frames: list[NDArray[np.uint8]], path: Path) -> None:
    """Write frames as one animated picture, all with the same colours."""
    small = [Image.fromarray(frame) for frame in frames]
    height = round(small[0].height * GIF_WIDTH_PX / small[0].width)
    small = [image.resize((GIF_WIDTH_PX, height), Image.Resampling.LANCZOS) for image in small]
    # All colours of the last frame, also those of few pixels.
    palette = small[-1].quantize(GIF_COLOURS, method=Image.Quantize.MAXCOVERAGE)
    frames_p = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in small]
    times = [FRAME_MS] * (len(frames_p) - 1) + [LAST_MS]
    frames_p[0].save(
        path, save_all=True, append_images=frames_p[1:], duration=times, loop=0, optimize=True
    )


def main(folder: Path) -> None:
    """Make both pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    window = Window()
    save_gif(list(flow(window)), folder / "flow.gif")
    for box in BOXES_YXYX[1:]:
        window.draw(box)
    window.wait(lambda: not window.controller.is_busy)
    window.controller.objects.select(2)
    window.viewer.dims.set_current_step(0, SLICE)
    Image.fromarray(window.picture()).save(folder / "dock.png", optimize=True)
    window.viewer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("images"))
