from __future__ import annotations

import json

import pytest

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.click.config import ClickConfig


def test_settings_survive_json():
    config = ClickConfig(rings=32, angles=48, octaves=6.0, reach=1.0, widths=(8, 16, 24, 32))
    assert ClickConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_settings_of_a_later_version_are_refused():
    with pytest.raises(CheckpointError, match="colour"):
        ClickConfig.from_dict({"rings": 32, "colour": True})
