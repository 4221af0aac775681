from __future__ import annotations

import json

import pytest

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.errors import ConfigError
from napari_slidesam.intensity import Intensity


def test_defaults_are_the_papers():
    config = PropagationConfig()
    assert config.min_predicted_iou == 0.4
    assert config.min_stability == 0.6
    assert config.stability_offset == 0.1


def test_round_trip_through_json():
    config = PropagationConfig(
        z_range=(2, 9), max_extent_slices=4, intensity=Intensity("limits", 1, 5)
    )
    assert PropagationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_partial_dict_takes_the_defaults():
    assert PropagationConfig.from_dict({"box_margin": 0.2}) == PropagationConfig(box_margin=0.2)


@pytest.mark.parametrize(
    "bad",
    [
        {"min_predicted_iou": 1.5},
        {"min_stability": -0.1},
        {"min_presence": 2},
        {"stability_offset": -1},
        {"opening_radius_px": -1},
        {"box_margin": -0.1},
        {"max_area_ratio": 1.0},
        {"max_centroid_shift": 0},
        {"z_range": (5, 5)},
        {"max_extent_slices": -1},
        {"side_weight": 0},
        {"far_weight": 0},
        {"cache_bytes": 0},
        {"max_step_ratio": 0},
        {"prompt_interpolation": 1.1},
        {"consistency_weight": -1},
        {"depth_doubt": -1},
        {"gap_doubt": -1},
        {"embedding_cache_bytes": 0},
        {"compat": "as-it-was"},
    ],
)
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        PropagationConfig(**bad)


def test_unknown_option_is_named():
    with pytest.raises(ConfigError, match="min_iou"):
        PropagationConfig.from_dict({"min_iou": 0.3})
