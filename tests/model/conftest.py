from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from napari_slidesam.model.sam.config import SamConfig
from napari_slidesam.model.sam.network import SlideSam

TINY_SAM = SamConfig(
    embed_dim=32,
    depth=3,
    num_heads=2,
    global_attn_indexes=(1,),
    window_size=3,
    image_size=64,
    prompt_embed_dim=32,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
)
"""A grid of 4 patches and windows of 3: windows are filled up, as those of the real network."""


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draw also what is zero at first, such as relative positions."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "pos_embed" in name or "rel_pos" in name:
                parameter.normal_(0, 0.3)
            elif parameter.ndim > 1:
                parameter.normal_(0, 1.5 * parameter[0].numel() ** -0.5)
    return module.eval().requires_grad_(False)


def original_encoder(config: SamConfig) -> ImageEncoderViT:
    return ImageEncoderViT(
        depth=config.depth,
        embed_dim=config.embed_dim,
        img_size=config.image_size,
        mlp_ratio=4,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=config.num_heads,
        patch_size=config.patch_size,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=config.global_attn_indexes,
        window_size=config.window_size,
        out_chans=config.prompt_embed_dim,
    )


def original_sam(config: SamConfig) -> Sam:
    """Return segment-anything's own network in these dimensions."""
    dim, grid = config.prompt_embed_dim, (config.grid_size, config.grid_size)
    return Sam(
        image_encoder=original_encoder(config),
        prompt_encoder=PromptEncoder(
            embed_dim=dim,
            image_embedding_size=grid,
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=config.mask_in_chans,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=config.num_candidates,
            transformer=TwoWayTransformer(
                depth=config.decoder_depth,
                embedding_dim=dim,
                mlp_dim=config.decoder_mlp_dim,
                num_heads=config.decoder_num_heads,
            ),
            transformer_dim=dim,
            iou_head_depth=config.iou_head_depth,
            iou_head_hidden_dim=config.iou_head_hidden_dim,
        ),
    )


@pytest.fixture
def sam_config() -> SamConfig:
    return TINY_SAM


@pytest.fixture
def slidesam(sam_config) -> SlideSam:
    return randomised(SlideSam(sam_config, name="tiny"))


@pytest.fixture
def sam(sam_config) -> Sam:
    return randomised(original_sam(sam_config))


@pytest.fixture
def parity_folder() -> Path:
    return Path(__file__).parent / "data" / "parity"
