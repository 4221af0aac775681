from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.held_out import drawn_volumes, held_out_names
from napari_slidesam.tuning.labelled import LabelledVolume


@pytest.fixture
def volumes():
    """Four volumes with images, and a label map."""
    labels = np.ones((6, 6, 6), np.uint8)
    return [
        LabelledVolume.from_arrays(n, None if n == "map" else labels, labels, (1.0, 1.0, 1.0))
        for n in ("a", "b", "c", "d", "map")
    ]


def test_named_volumes_are_held_out(volumes):
    assert held_out_names(volumes, ("map", "a"), 0, 0) == ("map", "a")
    with pytest.raises(TuningError, match="nowhere is not among a, b, c, d, map"):
        held_out_names(volumes, ("nowhere",), 0, 0)


def test_without_names_volumes_with_images_are_drawn(volumes):
    drawn = [held_out_names(volumes, (), 2, seed) for seed in range(20)]
    assert all(len(set(names)) == 2 and list(names) == sorted(names) for names in drawn)
    assert set().union(*drawn) == {"a", "b", "c", "d"}
    assert held_out_names(volumes, (), 2, 3) == drawn[3]


def test_two_volumes_are_left_to_train_on():
    assert drawn_volumes(["a", "b", "c"], 2, 0) == ()
    assert len(drawn_volumes(["a", "b", "c", "d"], 2, 0)) == 2
