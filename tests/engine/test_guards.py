from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.engine.config import MAX_REQUIRED_PRESENCE, PropagationConfig
from napari_slidesam.engine.guards import distrust, next_box, required_presence
from napari_slidesam.engine.predictor import PlanePrediction
from napari_slidesam.engine.results import StopReason
from napari_slidesam.geometry import Box, Region
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.morphology import opened


def patch(mask, y0=0, x0=0, level=5.0):
    logits = np.where(mask, level, -level).astype(np.float32)
    return LogitPatch(Region(y0, x0, y0 + mask.shape[0], x0 + mask.shape[1]), logits)


def square(size=20, start=5, stop=12):
    mask = np.zeros((size, size), dtype=bool)
    mask[start:stop, start:stop] = True
    return mask


def prediction(centre, predicted_iou=0.9, presence=1.0):
    values = np.zeros(centre.region.shape_yx, np.float32)
    return PlanePrediction((centre, centre, centre), predicted_iou, (1.0, presence, 1.0), values)


def test_opening_removes_a_thread_and_keeps_the_body():
    mask = square()
    mask[8, 12:19] = True
    np.testing.assert_array_equal(opened(mask, 1)[:, 13:], False)
    assert opened(mask, 1)[8, 8]


def test_opening_does_not_make_a_thin_object_vanish():
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 2:7] = True
    np.testing.assert_array_equal(opened(mask, 3), mask)


def test_opening_keeps_an_object_at_the_border():
    mask = np.ones((6, 6), dtype=bool)
    assert opened(mask, 2)[3, 3]


def test_next_box_is_enlarged_on_all_four_sides():
    config = PropagationConfig(box_margin=0.1, opening_radius_px=0)
    box = next_box(patch(square(), y0=100, x0=50), config, growth=1.0)
    assert box.yxyx == pytest.approx((104.3, 54.3, 112.7, 62.7))
    wider = next_box(patch(square(), y0=100, x0=50), config, growth=2.0)
    assert wider.yxyx == pytest.approx((103.6, 53.6, 113.4, 63.4))


def test_next_box_of_nothing():
    assert next_box(patch(np.zeros((5, 5), bool)), PropagationConfig(), 1.0) is None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (prediction(patch(square())), None),
        (prediction(patch(np.zeros((20, 20), bool))), StopReason.EMPTY),
        (prediction(patch(square()), presence=0.2), StopReason.EMPTY),
        (prediction(patch(square()), predicted_iou=0.39), StopReason.PREDICTED_IOU),
        (prediction(patch(square(), level=0.05)), StopReason.STABILITY),
        (prediction(patch(square(start=5, stop=18))), StopReason.DRIFT),
        (prediction(patch(square(start=12, stop=19))), StopReason.DRIFT),
    ],
)
def test_reasons(found, reason):
    assert distrust(found, patch(square()), PropagationConfig()) is reason


def test_drift_compares_places_in_the_plane_not_in_the_patch():
    shifted = patch(square(), y0=0, x0=14)
    assert distrust(prediction(shifted), patch(square()), PropagationConfig()) is StopReason.DRIFT


def test_a_few_pixels_may_vanish_without_drift():
    small, tiny = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    small[4, 3:6] = True
    tiny[4, 4] = True
    assert distrust(prediction(patch(tiny)), patch(small), PropagationConfig()) is None


def test_box_is_a_box():
    assert isinstance(next_box(patch(square()), PropagationConfig(), 1.0), Box)


def test_the_deeper_the_surer_a_network_must_be():
    config = PropagationConfig(min_presence=0.5, depth_doubt=0.2)
    assert required_presence(0.3, config) == 0.5
    assert required_presence(2.0, config) == pytest.approx(0.7)
    assert required_presence(50.0, config) == MAX_REQUIRED_PRESENCE
    found = prediction(patch(square()), presence=0.6)
    assert required_presence(1.2, config, doubt=1.0) == pytest.approx(0.7)
    assert distrust(found, patch(square()), config, depth=1.0) is None
    assert distrust(found, patch(square()), config, depth=2.0) is StopReason.EMPTY
