from __future__ import annotations

import math
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.plots import write_plots
from napari_slidesam.evaluation.report import summarise, to_markdown
from napari_slidesam.evaluation.scores import ObjectScore

BASE = ObjectScore(
    volume="big",
    object=1,
    protocol="1-box",
    method="model",
    seed=0,
    modality="CT|x",
    dice=0.0,
    surface_dice=0.0,
    dice_2d=0.5,
    predicted_slices=10,
    true_slices=10,
    seconds=1.0,
    predicted_quality=0.5,
    stop_reasons="",
)


@pytest.fixture
def scores():
    """A volume of 100 objects at 0.2 and one of a single object at 0.8, and a baseline."""
    rows = [replace(BASE, object=i, dice=0.2, dice_2d=0.4) for i in range(1, 101)]
    rows.append(replace(BASE, volume="small", modality="", dice=0.8, predicted_slices=30))
    rows.append(replace(BASE, method="ellipse", dice=0.6, predicted_quality=math.nan))
    error = replace(BASE, protocol="n-box", dice=0.05, stop_reasons="error: E: out of memory")
    return [*rows, error]


def test_a_volume_counts_once(scores):
    summary = summarise(scores)
    model = summary.of("1-box", "model")
    assert model.dice == pytest.approx(0.5)
    assert model.dice_2d == pytest.approx((0.4 + 0.5) / 2)
    assert (model.n_volumes, model.n_objects) == (2, 101)
    assert summary.of_volume("big", "1-box", "model").dice == pytest.approx(0.2)
    assert summary.of("n-box", "ellipse") is None
    assert summary.protocol_names == ("1-box", "n-box")
    assert summary.method_names == ("model", "ellipse")


def test_failures_and_extent(scores):
    summary = summarise(scores)
    failed = summary.of("n-box", "model")
    assert (failed.n_missed, failed.n_errors) == (1, 1)
    assert summary.of("1-box", "model").extent_ratio == (1.0, 1.0, 1.0)
    rows = [replace(BASE, object=i, predicted_slices=i) for i in range(1, 12)]
    assert summarise(rows).of("1-box", "model").extent_ratio == pytest.approx((0.2, 0.6, 1.0))
    assert summarise(rows).of("1-box", "model").n_missed == 11


def test_quality_against_truth():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=50)
    rows = [
        replace(BASE, object=i, dice_2d=t, predicted_quality=t / 2) for i, t in enumerate(truth)
    ]
    rows.append(replace(BASE, object=99, predicted_quality=math.nan))
    assert summarise(rows).of("1-box", "model").quality_correlation == pytest.approx(1.0)
    constant = [replace(row, predicted_quality=0.9) for row in rows]
    assert summarise(constant).of("1-box", "model").quality_correlation is None


def test_markdown(scores):
    lines = to_markdown(summarise(scores)).splitlines()
    assert "| method | 1-box | n-box |" in lines
    assert "| model | 0.500 | 0.050 |" in lines
    assert "| ellipse | 0.600 |  |" in lines
    assert "| big | CT\\|x | 100 | 0.200 | 0.600 |" in lines
    assert "| small |  | 1 | 0.800 |  |" in lines
    assert "| **mean** |  | 101 | **0.500** | **0.600** |" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_nothing_to_report():
    with pytest.raises(EvaluationError, match="no score"):
        summarise([])


def test_plots_are_pictures(scores, tmp_path):
    written = write_plots(scores, summarise(scores), tmp_path)
    assert [p.name for p in written] == [
        "dice_by_protocol.png",
        "dice_by_volume_1-box.png",
        "dice_by_volume_n-box.png",
    ]
    for path in written:
        picture = matplotlib.image.imread(path)
        assert min(picture.shape[:2]) > 300
        assert np.ptp(picture[..., :3]) > 0.5
