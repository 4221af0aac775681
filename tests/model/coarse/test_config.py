from __future__ import annotations

import json

import pytest

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.coarse.config import CoarseConfig


def test_settings_survive_json():
    config = CoarseConfig(side=16, context=3.0, samples=1, widths=(8, 16, 24))
    assert CoarseConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_left_out_is_the_default():
    assert CoarseConfig.from_dict({"side": 16}) == CoarseConfig(side=16)


def test_settings_of_a_later_version_are_refused():
    with pytest.raises(CheckpointError, match="colour"):
        CoarseConfig.from_dict({"side": 16, "colour": True})
