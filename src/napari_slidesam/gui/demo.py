"""The demo in a window: boxes on a real volume, and labels that grow while one watches."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from napari.qt.threading import create_worker

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.objects import PlaneKey
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels
    from napari.qt.threading import GeneratorWorker
    from numpy.typing import NDArray

    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.engine.results import SliceResult
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class DemoRun:
    """A run under way in a viewer.

    Parameters
    ----------
    session : Session
        Changed on the GUI thread only.
    labels : napari.layers.Labels
        Shows the session.
    worker : GeneratorWorker
        Yields results from its own thread.
    cancel : threading.Event
        Set it to stop between two slices.
    """

    session: Session
    labels: Labels
    worker: GeneratorWorker
    cancel: threading.Event

    def show(self, result: SliceResult) -> None:
        """Merge a result and draw its plane; called on the GUI thread."""
        if not self.session.apply(result):
            return
        plane = PlaneKey(result.object_id, result.axis, result.slice_index)
        self.session.paint_into(self.labels.data, [plane])
        self.labels.refresh()


def run_demo(
    predictor: Predictor,
    volume: Volume,
    true_labels: NDArray[Any],
    prompts: Sequence[ObjectPrompts],
) -> None:
    """Open a window, segment the prompted objects in it, and return when it is closed."""
    viewer = napari.Viewer(title="Slide-SAM demo")
    run = start_demo(viewer, predictor, volume, true_labels, prompts)
    try:
        napari.run()
    finally:
        run.cancel.set()


def start_demo(
    viewer: napari.Viewer,
    predictor: Predictor,
    volume: Volume,
    true_labels: NDArray[Any],
    prompts: Sequence[ObjectPrompts],
) -> DemoRun:
    """Show volume, known labels and boxes, and start to grow the objects.

    Parameters
    ----------
    viewer : napari.Viewer
    predictor : Predictor
    volume : Volume
    true_labels : ndarray of int, shape (Z, Y, X)
        Shown hidden, to compare with.
    prompts : sequence of ObjectPrompts
        Boxes along z, one object each.

    Returns
    -------
    DemoRun
        Already started.
    """
    scale = volume.spacing_zyx
    viewer.add_image(volume.data, name="nuclei", scale=scale)
    viewer.add_labels(true_labels, name="known labels", scale=scale, visible=False)
    labels = viewer.add_labels(
        np.zeros(volume.shape_zyx, dtype=np.uint16), name="Slide-SAM", scale=scale
    )
    _add_boxes(viewer, prompts, scale)
    first = prompts[0].anchor_slices[0]
    viewer.dims.set_point(0, first * scale[0])
    session = Session.for_volume(volume, model_name=predictor.model.name, source="demo")
    for one in prompts:
        session.add_object(one)
    run = session.begin_run([p.object_id for p in prompts], config=PropagationConfig())
    cancel = threading.Event()
    worker = create_worker(
        propagate, predictor, volume, run.prompts, run.config, cancel=cancel, _start_thread=False
    )
    shown = DemoRun(session, labels, worker, cancel)
    # Not the bound method itself: PyQt would only keep a weak reference to what it belongs to.
    worker.yielded.connect(lambda result: shown.show(result))
    worker.start()
    return shown


def _add_boxes(
    viewer: napari.Viewer, prompts: Sequence[ObjectPrompts], scale: tuple[float, float, float]
) -> None:
    """Draw the prompts' boxes; napari's pixels have their centres at whole numbers."""
    rectangles = [
        [(z, y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))]
        for prompt in prompts
        for b in prompt.boxes
        for z, (y0, x0, y1, x1) in [(b.slice_index, np.subtract(b.box.yxyx, 0.5))]
    ]
    layer = viewer.add_shapes(
        rectangles,
        shape_type="rectangle",
        name="boxes",
        scale=scale,
        edge_color="yellow",
        face_color="transparent",
        edge_width=1,
    )
    layer.editable = False
