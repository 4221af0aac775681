from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import Box
from napari_slidesam.gui.decisions import (
    REPAIR_REACH,
    Target,
    check_z_range,
    counted,
    listed,
    object_prompts,
    owner_of_box,
    run_config,
    same_prompts,
)
from napari_slidesam.gui.drawing import DrawnBox
from napari_slidesam.gui.layers import Plane
from napari_slidesam.gui.state import SegmentSettings
from napari_slidesam.intensity import Intensity
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, PointPrompt

BOX = Box(10, 10, 20, 20)


def _drawn(index: int, box: Box = BOX, axis: int = 0) -> DrawnBox:
    return DrawnBox(Plane(axis, index), BoxPrompt(index, box))


def _target(**options: object) -> Target:
    boxes = dict.fromkeys(range(4, 9), BOX)
    return replace(Target(3, 0, frozenset({6}), boxes), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drawn", "target", "owner"),
    [
        (_drawn(8), None, None),
        (_drawn(8), _target(), 3),
        (_drawn(6), _target(), None),
        (_drawn(8, axis=1), _target(), None),
        (_drawn(8, Box(30, 30, 40, 40)), _target(), None),
        (_drawn(8, Box(12, 12, 40, 40)), _target(), 3),
        (_drawn(8 + REPAIR_REACH), _target(), 3),
        (_drawn(9 + REPAIR_REACH), _target(), None),
        (_drawn(90, Box(30, 30, 40, 40)), _target(is_editing=True), 3),
        (_drawn(6), _target(is_editing=True), None),
        (_drawn(8), _target(is_accepted=True, is_editing=True), None),
        (_drawn(8), _target(boxes={}), None),
    ],
)
def test_whose_a_box_is(drawn: DrawnBox, target: Target | None, owner: int | None) -> None:
    assert owner_of_box(drawn, target) == owner


def test_prompts_of_what_is_drawn() -> None:
    mask = MaskPrompt(5, np.ones((30, 30), dtype=bool))
    boxes = [_drawn(4), DrawnBox(Plane(0, 5), BoxPrompt(5, BOX), mask)]
    negative = PointPrompt(4, 1.0, 1.0, positive=False)
    prompts = object_prompts(2, 0, boxes, [negative])
    assert prompts is not None
    assert prompts.anchor_slices == (4, 5)
    assert prompts.masks == (mask,)
    assert object_prompts(2, 0, [], [negative]) is None
    again = object_prompts(2, 0, boxes[::-1], [negative])
    assert same_prompts(prompts, again)
    assert not same_prompts(prompts, object_prompts(2, 0, boxes, []))
    assert not same_prompts(prompts, None)
    with pytest.raises(PromptError, match="widen the range"):
        check_z_range(prompts, (5, 9))
    check_z_range(prompts, (4, 9))


def test_options_of_a_run() -> None:
    settings = SegmentSettings(
        intensity=Intensity("ct"), z_range=(2, 9), max_extent_slices=4, use_contrast_limits=True
    )
    config = run_config(settings, (3.0, 90.0))
    assert (config.z_range, config.max_extent_slices) == ((2, 9), 4)
    assert config.intensity == Intensity("limits", 3.0, 90.0)
    assert run_config(settings, (3.0, 3.0)).intensity == Intensity("ct")
    assert run_config(replace(settings, only_this_slice=True), None).max_extent_slices == 0


def test_names_of_objects() -> None:
    assert listed([4, 3]) == "objects 3, 4"
    assert listed([7]) == "object 7"
    assert counted(1) == "1 object"
    assert counted(3) == "3 objects"
