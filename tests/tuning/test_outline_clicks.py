"""Clicks that are placed on discs, by a network whose errors are known."""

from __future__ import annotations

import pytest
import torch

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.outline_augment import OutlineBatch
from napari_slidesam.tuning.outline_clicks import (
    APART,
    OutlineClicker,
    OutlineClicks,
    no_clicks,
)

SIDE, COUNT = 32, 40
TICKS = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
DISC = torch.hypot(TICKS[:, None], TICKS) < 0.6
ALWAYS = OutlineClicks(share=1.0, corrective_share=1.0)


@pytest.fixture
def views():
    return OutlineBatch(
        images=torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),
        truths=DISC.float().expand(COUNT, -1, -1),
        inside=torch.ones(COUNT, SIDE, SIDE, dtype=torch.bool),
        boxes=torch.tensor([[-0.6, -0.6, 0.6, 0.6]]).expand(COUNT, -1),
    )


def answer(mask):
    """Return a network that always finds a mask."""

    def network(images, inside, boxes, clicks):
        assert clicks.shape == (len(images), 0, 3)
        return (mask.float() * 2 - 1).expand(len(images), -1, -1), torch.zeros(len(images))

    return network


def placed(views, network, config=ALWAYS, seed=1):
    return OutlineClicker(config, torch.Generator().manual_seed(seed))(views, network)


def at(clicks):
    """Return view, row, column and sign of each click."""
    view, k = clicks[..., 2].nonzero(as_tuple=True)
    row, column = (((clicks[view, k, axis] + 1) / 2 * SIDE).long() for axis in (0, 1))
    return view, row, column, clicks[view, k, 2]


def test_errors_are_corrected(views):
    found = torch.hypot(TICKS[:, None], TICKS - 0.4) < 0.6
    _, row, column, sign = at(placed(views, answer(found)))
    assert len(row) >= COUNT
    assert (found != DISC)[row, column].all()
    assert torch.equal(sign > 0, DISC[row, column])
    assert {-1.0, 1.0} == set(sign.tolist())


def test_each_view_has_as_many_as_wanted_apart_from_each_other(views):
    nothing = answer(torch.zeros(SIDE, SIDE))
    clicks = placed(views, nothing, OutlineClicks(share=1.0, most=3, corrective_share=1.0))
    numbers = (clicks[..., 2] != 0).sum(1)
    assert set(numbers.tolist()) == {1, 2, 3}
    several = clicks[numbers == 3]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (torch.hypot(*(several[:, one] - several[:, other]).T[:2]) > APART).all()


def test_without_errors_to_correct_there_is_none(views):
    assert not placed(views, answer(DISC)).any()


def test_others_lie_anywhere_on_the_object(views):
    config = OutlineClicks(share=1.0, corrective_share=0.0)
    _, row, column, sign = at(placed(views, None, config))
    assert DISC[row, column].all()
    assert (sign == 1).all()
    assert row.float().std() > 3


def test_the_share_without_any(views):
    clicks = placed(views, None, OutlineClicks(share=0.3, corrective_share=0.0))
    assert 0.1 < (clicks[..., 2] != 0).any(1).float().mean() < 0.5
    assert not placed(views, None, OutlineClicks(share=0.0)).any()
    assert no_clicks(views).shape == (COUNT, 0, 3)


def test_none_lies_outside_the_plane(views):
    inside = views.inside.clone()
    inside[:, :, : SIDE // 2] = False
    half = OutlineBatch(views.images, views.truths, inside, views.boxes)
    _, _, column, _ = at(placed(half, answer(torch.zeros(SIDE, SIDE))))
    assert len(column)
    assert (column >= SIDE // 2).all()


def test_the_seed_decides(views):
    network = answer(torch.zeros(SIDE, SIDE))
    assert torch.equal(placed(views, network), placed(views, network))
    assert not torch.equal(placed(views, network), placed(views, network, seed=2))


def test_at_least_one_is_the_most():
    with pytest.raises(TuningError, match="most is at least 1; got 0"):
        OutlineClicks(most=0)
