from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.engine.fusion import Vote, fuse
from napari_slidesam.geometry import Region
from napari_slidesam.model.patches import BACKGROUND_LOGIT, LOGIT_LIMIT, LogitPatch


def patch(y0, x0, values):
    logits = np.asarray(values, dtype=np.float32)
    return LogitPatch(Region(y0, x0, y0 + logits.shape[0], x0 + logits.shape[1]), logits)


def test_one_vote_is_the_result():
    fused = fuse([Vote(patch(2, 3, [[1, -1]]), 0.5, 0.8)])
    assert fused.patch.region == Region(2, 3, 3, 5)
    np.testing.assert_allclose(fused.patch.logits, [[1, -1]])
    assert fused.predicted_iou == pytest.approx(0.8)
    assert fused.agreement == 1.0


def test_weights_decide():
    votes = [Vote(patch(0, 0, [[2.0]]), 1.0, 1.0), Vote(patch(0, 0, [[-1.0]]), 3.0, 0.5)]
    fused = fuse(votes)
    np.testing.assert_allclose(fused.patch.logits, [[(2 - 3) / 4]])
    assert fused.predicted_iou == pytest.approx((1 + 1.5) / 4)


def test_one_loud_vote_cannot_outvote_two():
    votes = [Vote(patch(0, 0, [[1e6]]), 1.0, 1.0)]
    votes += [Vote(patch(0, 0, [[-LOGIT_LIMIT]]), 1.0, 1.0) for _ in range(2)]
    assert fuse(votes).patch.logits[0, 0] < 0


def test_regions_are_united_and_the_unseen_is_background():
    fused = fuse([Vote(patch(0, 0, [[4.0]]), 1.0, 1.0), Vote(patch(0, 2, [[6.0]]), 1.0, 1.0)])
    assert fused.patch.region == Region(0, 0, 1, 3)
    np.testing.assert_allclose(
        fused.patch.logits,
        [[(4 + BACKGROUND_LOGIT) / 2, BACKGROUND_LOGIT, (6 + BACKGROUND_LOGIT) / 2]],
    )


def test_agreement_is_the_mean_dice_with_the_result():
    same = [Vote(patch(0, 0, [[1, 1, -1]]), 1.0, 1.0) for _ in range(2)]
    assert fuse(same).agreement == 1.0
    other = Vote(patch(0, 0, [[-1, -1, 1]]), 1.0, 1.0)
    assert fuse([*same, other]).agreement == pytest.approx(2 / 3)


def test_patch_on_another_region():
    p = patch(1, 1, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(p.on(Region(2, 0, 4, 2), fill=-9), [[-9, 3], [-9, -9]])
    np.testing.assert_array_equal(p.on(Region(7, 7, 8, 8), fill=-9), [[-9]])


def test_patch_from_mask_round_trip():
    mask = np.zeros((9, 12), dtype=bool)
    mask[3:6, 4:9] = True
    p = LogitPatch.from_mask(mask)
    out = np.zeros_like(mask)
    out[p.region.slices] = p.mask
    np.testing.assert_array_equal(out, mask)
