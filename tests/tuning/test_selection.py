from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.tuning.selection import contrast, easy_indices, ending_indices


def stack(inside, outside, present=(1, 1, 1, 1, 1), noise=4.0, seed=0):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:64, :64]
    mask = (yy - 32) ** 2 + (xx - 32) ** 2 < 14**2
    raw = np.zeros((6, 64, 64), dtype=np.uint8)
    for k in range(5):
        here = mask & bool(present[k])
        values = np.where(here, inside, outside) + rng.normal(0, noise, mask.shape)
        raw[k] = np.clip(values, 0, 255)
        raw[5] |= here.astype(np.uint8) << k
    return raw


class Stacks:
    def __init__(self, raw):
        self.raw = np.stack(raw)

    @property
    def available(self):
        return len(self.raw)

    def read(self, indices):
        return self.raw[np.asarray(indices)]


@pytest.mark.parametrize(("inside", "outside"), [(200, 50), (50, 200)])
def test_contrast_of_either_sign(inside, outside):
    assert contrast(stack(inside, outside)) > 0.99


def test_no_contrast():
    assert contrast(stack(100, 100)) < 0.3


def test_empty_centre_has_none():
    assert contrast(stack(200, 50, present=(1, 1, 0, 0, 0))) == 0.0


def test_easiest_share_is_chosen():
    pool = Stacks([stack(100, 100), stack(200, 50), stack(102, 100), stack(50, 200)])
    assert easy_indices(pool, 0.5).tolist() == [1, 3]
    assert easy_indices(pool, 0.01).size == 1


def test_stacks_in_which_the_object_ends():
    pool = Stacks(
        [stack(200, 50), stack(200, 50, (1, 1, 1, 1, 0)), stack(200, 50, (0, 0, 1, 1, 1))]
    )
    assert ending_indices(pool).tolist() == [1, 2]
