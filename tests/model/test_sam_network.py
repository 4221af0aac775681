"""`SlideSam` behind the seam: frames, prompts in company, embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_slidesam.errors import CheckpointError, ConfigError, InferenceError, PromptError
from napari_slidesam.geometry import Box, Viewport
from napari_slidesam.metrics import dice
from napari_slidesam.model.protocol import EmbeddingModel, WindowModel, WindowPrompt
from napari_slidesam.model.sam.config import SamConfig
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.model.sam.prompts import (
    MASK_LOGIT_LIMIT,
    SamPrompts,
    grouped_prompts,
    mask_prompt_logits,
)

CPU = torch.device("cpu")


def mask_prompt():
    mask = np.zeros((3, 64, 64), np.float32)
    mask[0] = -0.9
    mask[0, 10:30, 20:40] = 0.9
    return mask


def prompts_of_every_kind():
    return [
        WindowPrompt(box_xyxy_model=(8.0, 9.0, 40.0, 44.0)),
        WindowPrompt(points_xy_model=((10.0, 12.0),), point_labels=(1,)),
        WindowPrompt(box_xyxy_model=(1.0, 2.0, 30.0, 40.0), mask_logits_model=mask_prompt()),
        WindowPrompt(
            box_xyxy_model=(1.0, 2.0, 30.0, 40.0),
            points_xy_model=((5.0, 5.0), (20.0, 9.0)),
            point_labels=(1, 0),
        ),
        WindowPrompt(box_xyxy_model=(20.0, 9.0, 60.0, 64.0)),
        WindowPrompt(mask_logits_model=mask_prompt()),
    ]


def test_it_stands_behind_both_protocols(slidesam):
    assert isinstance(slidesam, WindowModel)
    assert isinstance(slidesam, EmbeddingModel)


def test_shapes_and_ranges(slidesam):
    prompts = prompts_of_every_kind()
    windows = torch.rand(len(prompts), 3, 64, 64)
    out = slidesam.predict_windows(windows, prompts)
    assert out.mask_logits.shape == (6, 3, 3, 16, 16)
    assert out.mask_logits.dtype == torch.float32
    assert out.predicted_iou.shape == (6, 3)
    assert 0 <= out.predicted_iou.min() <= out.predicted_iou.max() <= 1
    assert out.presence is None


def test_a_window_does_not_see_its_neighbours_in_the_batch(slidesam):
    prompts = prompts_of_every_kind()
    windows = torch.rand(len(prompts), 3, 64, 64)
    together = slidesam.predict_windows(windows, prompts)
    for i, prompt in enumerate(prompts):
        alone = slidesam.predict_windows(windows[i : i + 1], [prompt])
        torch.testing.assert_close(together.mask_logits[i], alone.mask_logits[0])
        torch.testing.assert_close(together.predicted_iou[i], alone.predicted_iou[0])


def test_kept_embeddings_give_the_same_masks(slidesam):
    prompts = prompts_of_every_kind()
    window = torch.rand(1, 3, 64, 64)
    embedding = slidesam.embed_windows(window)
    assert embedding.shape == (1, 32, 4, 4)
    shared = slidesam.predict_embedded(embedding.expand(len(prompts), -1, -1, -1), prompts)
    direct = slidesam.predict_windows(window.expand(len(prompts), -1, -1, -1), prompts)
    torch.testing.assert_close(shared.mask_logits, direct.mask_logits)


def test_one_mask_where_no_doubt_is_left(slidesam):
    embedding = slidesam.embed_windows(torch.rand(6, 3, 64, 64))
    masks, ious = slidesam.decode_windows(embedding, prompts_of_every_kind(), multimask=False)
    assert masks.shape == (6, 1, 3, 16, 16)
    assert ious.shape == (6, 1)


def test_windows_of_another_size(slidesam):
    with pytest.raises(InferenceError, match=r"\(B, 3, 64, 64\)"):
        slidesam.embed_windows(torch.rand(1, 3, 96, 96))


def test_a_window_without_prompts(slidesam):
    with pytest.raises(PromptError, match="none of them"):
        slidesam.predict_windows(torch.rand(1, 3, 64, 64), [WindowPrompt()])


@pytest.mark.parametrize("box", [None, Box(10, 20, 30, 40)])
def test_the_viewport_holds_the_whole_plane_whatever_the_prompt(slidesam, box):
    assert slidesam.viewports(box, [(4.0, 5.0)], (300, 512)) == (Viewport(0, 0, 512, 64),)


def test_edge_coordinates_become_segment_anythings():
    prompts = [
        WindowPrompt(
            box_xyxy_model=(2.0, 3.0, 10.0, 12.0),
            points_xy_model=((4.5, 6.5),),
            point_labels=(1,),
        )
    ]
    ((indices, found),) = grouped_prompts(prompts, 16, CPU)
    assert indices == [0]
    assert found.boxes_xyxy.tolist() == [[1.5, 2.5, 9.5, 11.5]]
    # The centre of pixel (4, 6).
    assert found.points_xy.tolist() == [[[4.0, 6.0]]]
    assert found.point_labels.tolist() == [[1.0]]
    assert found.mask_logits is None


def test_mask_prompts_become_logits_of_a_quarter_of_the_size():
    logits = torch.tensor([-5.0, -1.0, 0.0, 2.0]).repeat_interleave(4)
    masks = torch.tanh(logits / 2).expand(1, 3, 16, 16)
    found = mask_prompt_logits(masks, 16)
    torch.testing.assert_close(found[0, 1, 7], logits, atol=1e-3, rtol=0)
    small = mask_prompt_logits(masks, 4)
    assert small.shape == (1, 3, 4, 4)
    assert (small[..., 0] < small[..., 1]).all()
    assert (small[..., 2] < small[..., 3]).all()
    certain = mask_prompt_logits(torch.tensor([-1.0, 0.0, 1.0]).expand(1, 3, 3, 3), 3)
    assert certain[0, 0, 0].tolist() == [-MASK_LOGIT_LIMIT, 0.0, MASK_LOGIT_LIMIT]


def test_a_cell_half_inside_keeps_an_even_chance():
    masks = torch.ones(1, 3, 8, 8)
    masks[..., :4] = -1
    assert mask_prompt_logits(masks, 1).abs().max() < 1e-3


def test_mask_prompt_of_each_slice_counts(slidesam):
    embedding = slidesam.embed_windows(torch.rand(1, 3, 64, 64))
    box = torch.tensor([[8.0, 9.0, 40.0, 44.0]])
    found = []
    for i in range(3):
        logits = torch.zeros(1, 3, 16, 16)
        logits[:, i, 4:9, 4:9] = 8
        found.append(slidesam.decode(embedding, SamPrompts(box, mask_logits=logits))[0])
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not torch.allclose(found[1], found[2], atol=1e-3)


def test_fingerprint_tells_weights_and_precision(slidesam, sam_config):
    first = slidesam.fingerprint
    assert first == slidesam.fingerprint
    twin = SlideSam(sam_config)
    twin.load_state_dict(slidesam.state_dict())
    assert twin.fingerprint == first
    twin.precision_mode = "bfloat16"
    assert twin.fingerprint != first
    with torch.no_grad():
        slidesam.image_encoder.pos_embed.add_(1e-3)
    assert slidesam.fingerprint != first


def test_reduced_precision_gives_almost_the_same_masks(slidesam):
    # Random weights draw no objects: their logits' sign is noise. So each mask is cut at its
    # own median, where half of the pixels lie and rounding shows most.
    prompts = prompts_of_every_kind()[:2]
    windows = torch.rand(2, 3, 64, 64)
    exact = slidesam.predict_windows(windows, prompts).mask_logits.flatten(3)
    slidesam.precision_mode = "bfloat16"
    rounded = slidesam.predict_windows(windows, prompts).mask_logits.flatten(3)
    cut = exact.median(dim=-1, keepdim=True).values
    assert not torch.equal(exact, rounded)
    assert dice((exact > cut).numpy(), (rounded > cut).numpy()) > 0.99


def test_windows_are_encoded_in_batches_of_the_precision(slidesam, monkeypatch):
    windows = torch.rand(3, 3, 64, 64)
    seen = []
    handle = slidesam.image_encoder.register_forward_pre_hook(
        lambda _, images: seen.append(len(images[0]))
    )
    slidesam.embed_windows(windows)
    handle.remove()
    assert seen == [1, 1, 1]


def test_auto_precision_predicts(slidesam):
    slidesam.precision_mode = "auto"
    out = slidesam.predict_windows(torch.rand(1, 3, 64, 64), prompts_of_every_kind()[:1])
    assert torch.isfinite(out.mask_logits).all()


def test_unknown_precision(sam_config):
    with pytest.raises(ConfigError, match="auto, float32"):
        SlideSam(sam_config, precision="int4")


def test_compiled_encoder_gives_the_same_embedding(slidesam):
    window = torch.rand(1, 3, 64, 64)
    expected = slidesam.embed_windows(window)
    slidesam.compile_encoder(backend="eager")
    torch.testing.assert_close(slidesam.embed_windows(window), expected)


def test_gradients_reach_encoder_and_decoder(slidesam):
    slidesam.requires_grad_(True)
    masks, ious = slidesam(torch.rand(1, 3, 64, 64), prompts_of_every_kind()[:1])
    (masks.sum() + ious.sum()).backward()
    for name in ("image_encoder.patch_embed.proj.weight", "mask_decoder.branches.2.0.weight"):
        assert slidesam.get_parameter(name).grad.abs().max() > 0


def test_config_round_trip(sam_config):
    assert SamConfig.from_dict(sam_config.to_dict()) == sam_config
    assert sam_config.encoder_name == "vit"
    with pytest.raises(CheckpointError, match="another version"):
        SamConfig.from_dict({**sam_config.to_dict(), "wings": 2})
