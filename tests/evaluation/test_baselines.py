from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_slidesam.errors import EvaluationError, PromptError
from napari_slidesam.evaluation import baselines
from napari_slidesam.evaluation.baselines import BASELINES, get_baseline
from napari_slidesam.geometry import Box
from napari_slidesam.metrics import dice
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts, PointPrompt

SPACING_ZYX = (2.0, 1.0, 1.0)

NAMES = [
    # ITK takes ten seconds to load.
    pytest.param(name, marks=[pytest.mark.slow] if name == "contour-interpolation" else [])
    for name in BASELINES
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 2])
def test_a_round_object_along_any_axis(name, axis, image, labels):
    """Slices of axis 2 are (z, y) planes; the answer must be the same kind of thing."""
    truth = labels == 3
    middle = 10 if axis == 0 else 15
    step = 4 if axis == 0 else 8
    boxes = []
    for index in (middle - step, middle, middle + step):
        ys, xs = np.nonzero(truth.take(index, axis))
        boxes.append(BoxPrompt(index, Box(ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)))
    prompts = ObjectPrompts(3, boxes=tuple(boxes), axis=axis)
    mask = get_baseline(name).segment(image, SPACING_ZYX, prompts)
    assert mask.shape == image.shape
    assert mask.dtype == bool
    least = {"box": 0.7, "random-walker": 0.8, "contour-interpolation": 0.8}.get(name, 0.9)
    assert dice(mask, truth) > least


@pytest.mark.slow
def test_contours_between_prompts_only(image):
    boxes = (BoxPrompt(7, Box(6, 3, 31, 28)), BoxPrompt(13, Box(6, 3, 31, 28)))
    mask = get_baseline("contour-interpolation").segment(
        image, SPACING_ZYX, ObjectPrompts(3, boxes=boxes)
    )
    assert np.flatnonzero(mask.any((1, 2))).tolist() == [*range(7, 14)]
    alone = get_baseline("contour-interpolation").segment(
        image, SPACING_ZYX, ObjectPrompts(3, boxes=boxes[:1])
    )
    assert np.flatnonzero(alone.any((1, 2))).tolist() == [7]


def test_a_point_is_no_box(image):
    prompts = ObjectPrompts(3, points=(PointPrompt(10, 18, 15),))
    with pytest.raises(EvaluationError, match="box"):
        get_baseline("ellipse").segment(image, SPACING_ZYX, prompts)


def test_a_box_outside(image):
    prompts = ObjectPrompts(3, boxes=(BoxPrompt(99, Box(0, 0, 4, 4)),))
    with pytest.raises(PromptError, match="99"):
        get_baseline("otsu").segment(image, SPACING_ZYX, prompts)


def test_unknown_name():
    with pytest.raises(EvaluationError, match="ellipse"):
        get_baseline("elipse")


def test_without_itk(monkeypatch):
    baselines.load_itk.cache_clear()
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(EvaluationError, match=r"napari-slidesam\[evaluation\]"):
        get_baseline("contour-interpolation").check_available()
