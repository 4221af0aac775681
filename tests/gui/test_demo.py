from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.geometry import Box
from napari_slidesam.gui.demo import DemoRun, start_demo
from napari_slidesam.gui.samples import mni152_head, nuclei
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from pytestqt.qtbot import QtBot

    MakeViewer = Callable[[], napari.Viewer]


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    config = LiteConfig(
        stem_channels=(8, 8, 16), embed_dim=32, depth=1, num_heads=2, viewport_size=64
    )
    return Predictor(SlideSamLite(config, name="tiny").eval())


def _phantom(n_slices: int) -> tuple[Volume, np.ndarray, tuple[ObjectPrompts, ...]]:
    labels = np.zeros((n_slices, 40, 48), dtype=np.uint8)
    labels[:, 10:20, 10:24] = 1
    labels[:, 24:36, 28:40] = 2
    volume = Volume(labels * np.uint8(100), (2.0, 0.5, 0.5), "um")
    boxes = {1: Box(10, 10, 20, 24), 2: Box(24, 28, 36, 40)}
    middle = n_slices // 2
    prompts = tuple(ObjectPrompts(i, (BoxPrompt(middle, b),)) for i, b in boxes.items())
    return volume, labels, prompts


def _ends(run: DemoRun) -> dict[int, int]:
    """How many ends are known of each object that was begun."""
    return {r.object_id: len(r.stops) for r in run.session.object_table() if r.n_slices}


def test_labels_grow_on_the_grid_of_the_image(
    make_napari_viewer: MakeViewer, qtbot: QtBot, predictor: Predictor
) -> None:
    viewer = make_napari_viewer()
    volume, labels, prompts = _phantom(8)
    run = start_demo(viewer, predictor, volume, labels, prompts)
    qtbot.waitUntil(lambda: _ends(run) == {1: 2, 2: 2}, timeout=60_000)
    assert [layer.name for layer in viewer.layers] == [
        "nuclei",
        "known labels",
        "Slide-SAM",
        "boxes",
    ]
    for layer in viewer.layers:
        np.testing.assert_allclose(layer.scale, volume.spacing_zyx)
    np.testing.assert_array_equal(run.labels.data, run.session.labels())
    assert viewer.dims.current_step[0] == 4
    corners = viewer.layers["boxes"].data[0]
    np.testing.assert_allclose(corners.min(axis=0), [4, 9.5, 9.5])
    np.testing.assert_allclose(corners.max(axis=0), [4, 19.5, 23.5])


def test_cancelling_leaves_a_consistent_layer(
    make_napari_viewer: MakeViewer, qtbot: QtBot, predictor: Predictor
) -> None:
    viewer = make_napari_viewer()
    volume, labels, prompts = _phantom(300)
    run = start_demo(viewer, predictor, volume, labels, prompts)
    qtbot.waitUntil(lambda: len(run.session.planes) > 0, timeout=60_000)
    run.cancel.set()  # the second object may not have been begun
    qtbot.waitUntil(lambda: not run.worker.is_running, timeout=60_000)
    qtbot.waitUntil(lambda: set(_ends(run).values()) == {2}, timeout=60_000)
    reached = max(row.n_slices for row in run.session.object_table())
    assert reached < 300
    np.testing.assert_array_equal(run.labels.data, run.session.labels())


@pytest.mark.parametrize("sample", [nuclei, mni152_head])
def test_samples_open_as_layers(
    make_napari_viewer: MakeViewer, sample: Callable[[], list[tuple[Any, ...]]]
) -> None:
    viewer = make_napari_viewer()
    image, labels = (viewer._add_layer_from_data(*data)[0] for data in sample())
    assert image.data.shape == labels.data.shape
    np.testing.assert_allclose(image.scale, labels.scale)
    assert labels.data.max() >= 1


def test_samples_are_in_the_menu(make_napari_viewer: MakeViewer) -> None:
    viewer = make_napari_viewer()
    (layer, _) = viewer.open_sample("napari-slidesam", "nuclei")
    assert layer.name == "nuclei"
