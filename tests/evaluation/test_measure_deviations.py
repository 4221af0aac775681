"""The script behind the table of deviations."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from napari_slidesam.engine.compat import PUBLISHED
from napari_slidesam.engine.config import PropagationConfig

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "measure_deviations.py"))


def test_the_configs_are_what_their_names_say():
    configs = SCRIPT["CONFIGS"]
    assert configs["default"] == PropagationConfig()
    assert configs["published"].compat == PUBLISHED
    assert len(set(configs.values())) == len(configs)


@pytest.mark.weights
def test_every_volume_counts_once(tmp_path, write_case):
    write_case(tmp_path / "volumes" / "phantom", meta={"objects": [3], "slice_axis_xyz": 2})
    configs = {name: SCRIPT["CONFIGS"][name] for name in ("default", "published")}
    found = SCRIPT["measure"](tmp_path / "volumes", ["1-box"], configs, 1)
    default, published = sorted(found, key=lambda score: score.method)
    assert default.dice != published.dice
    scores = [
        replace(default, volume="a", dice=0.2),
        replace(default, volume="a", dice=0.4),
        replace(default, volume="b", dice=0.9),
        replace(published, volume="a", dice=0.5),
    ]
    lines = SCRIPT["table"](scores).splitlines()
    assert lines == ["| | 1-box |", "|---|---|", "| default | 0.600 |", "| published | 0.500 |"]
