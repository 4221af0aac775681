from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.engine.results import StopReason, TrackStop
from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.evaluation.scores import ObjectScore, ScoreFile, agreement, stops_text

SCORE = ObjectScore(
    volume="v",
    object=3,
    protocol="1-box",
    method="ellipse",
    seed=0,
    modality="MR, T1",
    dice=0.5,
    surface_dice=0.25,
    dice_2d=0.75,
    predicted_slices=6,
    true_slices=8,
    seconds=0.125,
    predicted_quality=0.9,
    stop_reasons="-1:empty +1:drift",
)


def test_agreement_by_hand():
    truth, found = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    truth[2:6, 2:6, 2:6] = True
    found[3:7, 2:6, 2:6] = True
    result = agreement(
        PlacedMask.from_array(found),
        PlacedMask.from_array(truth),
        spacing_syx=(2.0, 1.0, 1.0),
        middle_slice=4,
    )
    assert result.dice == 0.75
    assert result.dice_2d == 1.0
    assert result.surface_dice == 1.0, "the default tolerance is the largest spacing"
    assert (result.predicted_slices, result.true_slices) == (4, 4)


def test_agreement_with_nothing():
    truth = PlacedMask.from_array(np.ones((2, 2, 2), bool))
    nothing = PlacedMask.from_planes({})
    result = agreement(nothing, truth, spacing_syx=(1.0, 1.0, 1.0), middle_slice=1)
    assert (result.dice, result.surface_dice, result.dice_2d) == (0.0, 0.0, 0.0)
    assert result.predicted_slices == 0


def test_stops_as_text():
    stops = [
        TrackStop(1, StopReason.DRIFT),
        TrackStop(-1, StopReason.EMPTY),
        TrackStop(1, StopReason.DRIFT),
        TrackStop(1, StopReason.MET_PROMPT),
    ]
    assert stops_text(stops) == "+1:drift +1:met-prompt -1:empty"


def test_rows_come_back(tmp_path):
    rows = [
        SCORE,
        replace(SCORE, object=4, predicted_quality=float("nan")),
        replace(SCORE, object=5, dice=0.0, stop_reasons='error: A, "b"\nc'),
    ]
    file = ScoreFile(tmp_path / "new" / "scores.csv")
    for row in rows:
        file.append(row)
    again = ScoreFile(file.path).scores
    assert again[0] == SCORE
    assert np.isnan(again[1].predicted_quality)
    assert again[2].stop_reasons == 'error: A, "b" c'
    assert again[2].is_error
    assert again[2].is_missed
    assert not SCORE.is_missed
    assert SCORE.extent_ratio == 0.75


def test_half_a_row_is_dropped(tmp_path):
    file = ScoreFile(tmp_path / "scores.csv")
    file.append(SCORE)
    whole = file.path.read_text()
    file.path.write_text(whole + "v,4,1-box,elli")
    again = ScoreFile(file.path)
    assert again.scores == [SCORE]
    assert file.path.read_text() == whole


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(EvaluationError, match="columns"):
        ScoreFile(path)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_damaged_row(tmp_path):
    file = ScoreFile(tmp_path / "scores.csv")
    file.append(SCORE)
    file.path.write_text(file.path.read_text().replace("0.125", "soon"))
    with pytest.raises(EvaluationError, match="line 2"):
        ScoreFile(file.path)


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(EvaluationError, match="cannot be used"):
        ScoreFile(tmp_path / "scores.csv")
