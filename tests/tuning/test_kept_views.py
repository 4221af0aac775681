from __future__ import annotations

from napari_slidesam.tuning.kept_views import KeptViews


def test_views_are_drawn_once_while_they_are_kept():
    drawn = []

    def draw(number):
        drawn.append(number)
        return f"view {number}"

    kept = KeptViews(draw, 4)
    assert kept.take([0, 1, 1, 0]) == ["view 0", "view 1", "view 1", "view 0"]
    assert drawn == [0, 1]
    kept.take(range(2, 6))
    assert drawn == [0, 1, 2, 3, 4, 5]
    assert len(kept) == 4
    assert kept.take([2, 3, 4, 5]) == ["view 2", "view 3", "view 4", "view 5"]
    assert kept.take([1]) == ["view 1"], "it was left behind, and is drawn again"
    assert drawn[6:] == [1]
