"""A small volume, labels, and files of every format."""

from __future__ import annotations

import numpy as np
import pytest

SHAPE_ZYX = (5, 6, 7)


@pytest.fixture
def image_zyx():
    return np.random.default_rng(0).integers(-500, 1500, SHAPE_ZYX).astype(np.int16)


@pytest.fixture
def labels_zyx():
    labels = np.zeros(SHAPE_ZYX, np.int64)
    labels[1:4, 2:5, 3] = 2
    labels[4, 0, 5:] = 7
    return labels


@pytest.fixture
def folder_content():
    """Return a function that lists a folder: to see that nothing is left behind."""
    return lambda folder: sorted(path.name for path in folder.iterdir())
