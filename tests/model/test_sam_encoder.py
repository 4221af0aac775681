"""The image encoder against segment-anything's own, on the same weights."""

from __future__ import annotations

import pytest
import torch

from napari_slidesam.errors import ConfigError
from napari_slidesam.model.sam.attention import attend
from napari_slidesam.model.sam.config import ENCODERS, SamConfig
from napari_slidesam.model.sam.encoder import ImageEncoder
from napari_slidesam.model.sam.precision import (
    Precision,
    check_mode,
    number_types,
    probe_precision,
)


def encoder_like(original, config):
    encoder = ImageEncoder(config).eval().requires_grad_(False)
    encoder.load_state_dict(original.state_dict())
    return encoder


@pytest.mark.parametrize("batch", [1, 3])
def test_same_embedding_from_the_same_weights(sam, sam_config, batch):
    images = torch.randn(batch, 3, 64, 64)
    ours = encoder_like(sam.image_encoder, sam_config)
    torch.testing.assert_close(ours(images), sam.image_encoder(images), atol=1e-5, rtol=1e-5)


def test_windows_that_fit_need_no_filling(sam, sam_config):
    config = SamConfig.from_dict({**sam_config.to_dict(), "window_size": 2})
    torch.manual_seed(0)
    encoder = ImageEncoder(config).eval()
    assert encoder(torch.randn(1, 3, 64, 64)).shape == (1, 32, 4, 4)


@pytest.mark.parametrize("bias_values", [1, 40, 36 * 36, 10**6])
def test_attention_in_any_number_of_parts_is_plain_attention(bias_values):
    torch.manual_seed(1)
    height, width = 4, 9
    q, k, v = torch.randn(3, 5, height * width, 8)
    rel_h, rel_w = torch.randn(5, height * width, height), torch.randn(5, height * width, width)
    bias = (rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)).flatten(2)
    expected = (q @ k.transpose(1, 2) * 8**-0.5 + bias).softmax(-1) @ v
    found = attend(q, k, v, rel_h, rel_w, bias_values=bias_values)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_original(sam, sam_config):
    ours = encoder_like(sam.image_encoder, sam_config).requires_grad_(True)
    original = sam.image_encoder.requires_grad_(True)
    images, weights = torch.randn(1, 3, 64, 64), torch.randn(1, 32, 4, 4)
    for encoder in (ours, original):
        (encoder(images) * weights).sum().backward()
    for name, parameter in original.named_parameters():
        found = ours.get_parameter(name).grad
        torch.testing.assert_close(found, parameter.grad, atol=1e-3, rtol=1e-3)


def test_bfloat16_keeps_the_sums_in_float32(sam, sam_config):
    images = torch.randn(1, 3, 64, 64)
    ours = encoder_like(sam.image_encoder, sam_config)
    reduced = ours(images, dtype=torch.bfloat16)
    assert reduced.dtype == torch.float32
    both = torch.stack([reduced.flatten(), ours(images).flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.999
    assert not torch.equal(*both)


def test_probe_chooses_what_the_device_has(slidesam, sam_config):
    found = probe_precision(slidesam.image_encoder, sam_config)
    assert found.number_type in number_types(torch.device("cpu"))
    assert found.batch == 1
    assert probe_precision(slidesam.image_encoder, sam_config) is found


def test_precision_by_name():
    assert Precision("bfloat16").dtype == torch.bfloat16
    assert Precision(channels_last=True).memory_format == torch.channels_last
    with pytest.raises(ConfigError, match="float16; got 'half'"):
        check_mode("half")


@pytest.mark.parametrize("name", list(ENCODERS))
def test_published_sizes_have_segment_anythings_names_and_shapes(name):
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        encoder = ImageEncoder(ENCODERS[name])
        original = sam_model_registry[name]().image_encoder
    shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (encoder, original)]
    assert shapes[0] == shapes[1]
    assert ENCODERS[name].encoder_name == name
