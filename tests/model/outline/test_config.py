from __future__ import annotations

import json

import pytest

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.outline.config import OutlineConfig


def test_settings_survive_json():
    config = OutlineConfig(slices=5, side=32, context=2.0, least_side=0.5, widths=(16, 16, 32, 48))
    assert OutlineConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_settings_of_a_later_version_are_refused():
    with pytest.raises(CheckpointError, match="colour"):
        OutlineConfig.from_dict({"side": 32, "colour": True})
