from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.tuning.selection import (
    StackChoice,
    best_contrasted,
    contrast,
    contrasts,
    has_end,
    is_real,
)


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
    def __init__(self, raw, names=None):
        self.raw = np.stack(raw)
        self.names = names or ["real/a"] * len(raw)

    @property
    def available(self):
        return len(self.raw)

    def read(self, indices):
        return self.raw[np.asarray(indices)]

    def source_names(self, indices):
        return [self.names[i] for i in indices]


@pytest.mark.parametrize(("inside", "outside"), [(200, 50), (50, 200)])
def test_contrast_of_either_sign(inside, outside):
    assert contrast(stack(inside, outside)) > 0.99


def test_no_contrast():
    assert contrast(stack(100, 100)) < 0.3


def test_empty_centre_has_none():
    assert contrast(stack(200, 50, present=(1, 1, 0, 0, 0))) == 0.0


FLAT, CLEAR, ENDING = stack(100, 100), stack(200, 50), stack(200, 50, (1, 1, 1, 1, 0))


def test_best_contrasted_share():
    pool = Stacks([FLAT, CLEAR, stack(102, 100), stack(50, 200)])
    assert best_contrasted(contrasts(pool), 0.5).tolist() == [False, True, False, True]
    assert best_contrasted(contrasts(pool), 0.01).sum() == 1


def test_stacks_in_which_the_object_ends():
    pool = Stacks([CLEAR, ENDING, stack(200, 50, (0, 0, 1, 1, 1))])
    assert has_end(pool).tolist() == [False, True, True]


def test_stacks_of_real_images():
    pool = Stacks([CLEAR, CLEAR], ["painted/a", "real/a"])
    assert is_real(pool).tolist() == [False, True]


def chosen(pool, n=400, easy=False, **changes):
    options = {"easy_part": 0.5, "end_share": 0.0, "real_share": None, "made_up_part": 1.0}
    choice = StackChoice(pool, **(options | changes))
    return np.bincount(choice.draw(n, np.random.default_rng(0), easy=easy), minlength=4) / n


MIXED = Stacks([FLAT, CLEAR, ENDING, FLAT], ["painted/a", "painted/a", "real/b", "real/b"])


def test_all_stacks_are_drawn_alike_without_shares():
    np.testing.assert_allclose(chosen(MIXED), 0.25, atol=0.08)


def test_shares_of_a_batch():
    np.testing.assert_allclose(chosen(MIXED, real_share=0.9)[2:].sum(), 0.9, atol=0.05)
    assert chosen(MIXED, end_share=1.0, real_share=1.0).tolist() == [0, 0, 1, 0]


def test_made_up_stacks_without_contrast_are_left_out_real_ones_are_not():
    drawn = chosen(MIXED, made_up_part=0.5)
    assert drawn[0] == 0
    assert drawn[3] > 0


def test_the_easy_part_comes_first():
    assert chosen(MIXED, easy=True)[[0, 3]].sum() == 0


def test_a_kind_that_is_not_there_is_replaced():
    pool = Stacks([CLEAR, FLAT], ["real/a", "real/a"])
    assert chosen(pool, end_share=0.5, real_share=0.3)[:2].sum() == 1
