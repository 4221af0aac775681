"""The segment dock in a real window: does it stall, and how soon is the first mask there."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer

from benchmarks.window import DockWindow, FirstSight, Heartbeat, dock_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE_ZYX = (220, 256, 256)
OBJECT_SLICES = (10, 210)
"""The tall object's first slice, and the one after its last."""
SLICE = 110
BOX_YXYX = (96.0, 96.0, 160.0, 160.0)
OTHER_BOXES_YXYX = (
    (16.0, 16.0, 60.0, 60.0),
    (16.0, 190.0, 60.0, 234.0),
    (190.0, 16.0, 234.0, 60.0),
    (190.0, 190.0, 234.0, 234.0),
)
"""Around small objects, of 9 slices each."""
IDLE_S = 3.0
SLIDE_MS = 100


def bench_window_stalls() -> dict[str, float]:
    """Measure the event loop's gaps while a 200-slice object streams into the labels.

    ``idle`` is the same window with nothing to do, ``streaming`` with the slider at rest from the
    first mask on, ``streaming_release`` from the mouse's release to the first mask, ``sliding`` and
    ``sliding_release`` with the slider moved ten times a second to where the object has grown to,
    ``napari_sliding`` with the slider moved as often when the dock is closed, and
    ``napari_drawing`` a rectangle drawn and coloured without the dock: what napari itself takes
    for it. Gaps are wall times between two beats of a 2 ms timer; ``own`` is the processor
    time of the GUI thread in them.
    """
    with dock_window(_image(), SLICE) as window:
        with Heartbeat() as idle:
            window.wait(lambda: True, at_least_s=IDLE_S)
        figures = idle.figures("idle")
        figures |= _grow(window, "streaming")
        window.controller.objects.delete(1)
        window.settle()
        slider = QTimer()
        slider.timeout.connect(lambda: _follow(window))
        slider.start(SLIDE_MS)
        figures |= _grow(window, "sliding")
        slider.stop()
        window.controller.close()
        figures |= _slide(window, "napari_sliding")
        figures |= _draw(window, "napari_drawing")
    return figures


def bench_first_mask_on_screen() -> dict[str, float]:
    """Time from the release of the mouse until the mask of that slice is on the screen.

    The embedded network, loaded and warm; five boxes by the mouse, one after the other.
    """
    seconds, processor_seconds = [], []
    with dock_window(_image(), SLICE) as window:
        for box in (*OTHER_BOXES_YXYX, BOX_YXYX):
            sight = FirstSight(window, SLICE)
            release = window.drag(box)
            known = set(window.session.object_ids)
            _forget_masks(window)
            start, processor_start = time.perf_counter(), time.process_time()
            release()
            window.wait(lambda sight=sight: sight.seen_at is not None)
            processor_seconds.append(time.process_time() - processor_start)
            assert sight.seen_at is not None
            seconds.append(sight.seen_at - start)
            sight.end()
            window.controller.runs.cancel()
            window.settle()
            for object_id in set(window.session.object_ids) - known:
                window.controller.objects.delete(object_id)
            window.settle()
    return {
        "seconds": statistics.median(seconds),
        "longest_seconds": max(seconds),
        "processor_seconds_of_all_threads": statistics.median(processor_seconds),
    }


def _forget_masks(window: DockWindow) -> None:
    assert not np.asarray(window.labels.data[SLICE]).any(), "the slice begins without a mask"


def _grow(window: DockWindow, name: str) -> dict[str, float]:
    """Draw the tall object's box, and return what the window felt until it was grown."""
    release = window.drag(BOX_YXYX)
    start = time.perf_counter()
    with Heartbeat() as first:
        release()
        window.wait(lambda: bool(window.session.planes))
    with Heartbeat() as pulse:
        window.settle()
    seconds = time.perf_counter() - start
    (object_id,) = window.session.object_ids
    slices = len(window.session.slices(object_id))
    figures = {f"{name}_seconds": seconds, f"{name}_slices": slices}
    return figures | first.figures(f"{name}_release") | pulse.figures(name)


def _slide(window: DockWindow, name: str) -> dict[str, float]:
    """Move the slider through the object, and return what the window felt."""
    slices = iter(range(*OBJECT_SLICES))
    slider = QTimer()
    slider.timeout.connect(lambda: window.viewer.dims.set_current_step(0, next(slices)))
    with Heartbeat() as pulse:
        slider.start(SLIDE_MS)
        window.wait(lambda: True, at_least_s=IDLE_S)
    slider.stop()
    return pulse.figures(name)


def _draw(window: DockWindow, name: str) -> dict[str, float]:
    """Draw the box into a layer of its own, and return what the window felt."""
    layer = window.viewer.add_shapes(name="rectangles", face_color="transparent")
    layer.mode = "add_rectangle"
    window.wait(lambda: True, at_least_s=1.0)
    release = window.drag(BOX_YXYX)
    with Heartbeat() as pulse:
        release()
        window.wait(lambda: len(layer.data) == 1, at_least_s=0.2)
        layer.edge_color = "red"
        window.wait(lambda: True, at_least_s=IDLE_S)
    return pulse.figures(name)


def _follow(window: DockWindow) -> None:
    """Show the slice that the object has grown to."""
    slices = [key.slice_index for key in window.session.planes]
    if slices:
        window.viewer.dims.set_current_step(0, max(slices))


def _image() -> NDArray[np.uint8]:
    """Return a tall tube, and small blobs around it, in noise."""
    rng = np.random.default_rng(0)
    image = rng.normal(40, 8, SHAPE_ZYX)
    z, y, x = np.ogrid[: SHAPE_ZYX[0], : SHAPE_ZYX[1], : SHAPE_ZYX[2]]
    is_tall = (z >= OBJECT_SLICES[0]) & (z < OBJECT_SLICES[1])
    image[is_tall & ((y - 128) ** 2 + (x - 128) ** 2 < 28**2)] += 120
    for y0, x0, y1, x1 in OTHER_BOXES_YXYX:
        radius = (y1 - y0) / 2 - 3
        centre_y, centre_x = (y0 + y1) / 2, (x0 + x1) / 2
        is_near = abs(z - SLICE) < 5
        image[is_near & ((y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2)] += 110
    return image.clip(0, 255).astype(np.uint8)
