from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.replay import replay
from napari_slidesam.engine.session import Session
from napari_slidesam.errors import SessionError
from napari_slidesam.geometry import mask_to_box
from napari_slidesam.intensity import Intensity
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from napari_slidesam.engine.predictor import Predictor

CONFIG = PropagationConfig(
    intensity=Intensity("limits", 0, 100),
    opening_radius_px=0,
    max_area_ratio=20,
    box_margin=0.3,
    min_stability=0.3,
)


def prompts_of(labels: np.ndarray, object_id: int, index: int, axis: int = 0) -> ObjectPrompts:
    box = mask_to_box(np.take(labels, index, axis=axis) == object_id)
    assert box is not None
    return ObjectPrompts(object_id, (BoxPrompt(index, box),), axis=axis)


def grow(session: Session, predictor: Predictor, volume: Volume, *object_ids: int) -> None:
    with session.operation(f"grow {object_ids}"):
        run = session.begin_run(object_ids)
        for result in propagate(predictor, volume, run.prompts, run.config):
            assert session.apply(result)


@pytest.fixture
def session(volume: Volume, balls: np.ndarray, predictor: Predictor) -> Session:
    """Two balls, grown along different axes, the first one twice."""
    session = Session.for_volume(volume, config=CONFIG, model_name=predictor.model.name)
    session.add_object(prompts_of(balls, 1, 8))
    session.add_object(prompts_of(balls, 2, 30, axis=1))
    grow(session, predictor, volume, 1, 2)
    session.set_prompts(1, prompts_of(balls, 1, 14))
    grow(session, predictor, volume, 1)
    return session


def test_a_run_is_what_the_network_saw(session: Session, balls: np.ndarray) -> None:
    labels = session.labels()
    assert set(np.unique(labels)) == {0, 1, 2}
    for object_id in (1, 2):
        found, true = labels == object_id, balls == object_id
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.9
    assert all(patch.is_final for patch in session.slices(1).values())


def test_a_saved_session_replays_to_the_same_masks(
    session: Session, predictor: Predictor, volume: Volume, tmp_path: Path
) -> None:
    drawn = np.zeros((48, 56), dtype=bool)
    drawn[:3, :3] = True
    session.edit_slice(1, 0, 12, drawn)
    session.save(tmp_path / "session")
    loaded = Session.load(tmp_path / "session")
    before = loaded.snapshot()
    with loaded.operation("replay"):
        for object_id in loaded.object_ids:
            loaded.clear_slices(object_id)
        assert loaded.labels().sum() == 9
        for result in replay(loaded, predictor, volume):
            loaded.apply(result)
    np.testing.assert_array_equal(loaded.labels(), session.labels())
    for object_id in (1, 2):
        assert loaded.quality(object_id) == session.quality(object_id)
        assert loaded.object_state(object_id).stops == session.object_state(object_id).stops
    loaded.undo()
    np.testing.assert_array_equal(loaded.labels(), before.labels())


def test_only_the_last_run_of_each_object_is_replayed(
    session: Session, predictor: Predictor, volume: Volume
) -> None:
    results = list(replay(session, predictor, volume))
    prompted = {(r.object_id, r.slice_index) for r in results if r.is_prompted}
    assert prompted == {(1, 14), (2, 30)}
    session.remove_object(2)
    assert {r.object_id for r in replay(session, predictor, volume)} == {1}
    session.undo()
    session.undo()
    first = {
        (r.object_id, r.slice_index) for r in replay(session, predictor, volume) if r.is_prompted
    }
    assert first == {(1, 8), (2, 30)}


def test_what_cannot_be_replayed_is_refused(
    session: Session, predictor: Predictor, volume: Volume
) -> None:
    other = Volume(np.zeros((30, 48, 50), dtype=np.uint8))
    with pytest.raises(SessionError, match=r"volume of shape \(30, 48, 56\).*got one of"):
        next(replay(session, predictor, other))
    empty = Session.for_volume(volume)
    with pytest.raises(SessionError, match="no recorded run"):
        next(replay(empty, predictor, volume))
    session.configure(model_name="another")
    session.begin_run([1])
    with pytest.raises(SessionError, match="recorded with the network 'another'; got 'threshold'"):
        next(replay(session, predictor, volume))
    assert next(replay(session, predictor, volume, check_model=False)).object_id in (1, 2)


def test_a_cancelled_run_is_replayed_to_its_end(
    volume: Volume, balls: np.ndarray, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session.for_volume(volume, config=CONFIG, model_name=predictor.model.name)
    session.add_object(prompts_of(balls, 1, 14))
    cancel = threading.Event()
    run = session.begin_run([1])
    for result in propagate(predictor, volume, run.prompts, run.config, cancel=cancel):
        session.apply(result)
        cancel.set()
    held = len(session.slices(1))
    with caplog.at_level(logging.WARNING):
        results = list(replay(session, predictor, volume))
    assert "Object 1 was cancelled" in caplog.text
    assert len({r.slice_index for r in results if r.mask.any()}) > held
