"""Published tensors as those of `SlideSam`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.checkpoints.names import lora_part
from napari_slidesam.model.protocol import WINDOW_SLICES
from napari_slidesam.model.sam.config import SamConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

_BRANCH = "mask_decoder.branches."
_MASK_CONVOLUTION = "prompt_encoder.mask_downscaling.0.weight"


def infer_config(state: Mapping[str, torch.Tensor], decoder_num_heads: int) -> SamConfig:
    """Read a network's dimensions from its tensors' shapes, by `SlideSam`'s names.

    Parameters
    ----------
    state : mapping of str to Tensor
    decoder_num_heads : int
        Heads of the two-way transformer: no shape tells. All published networks have 8.

    Raises
    ------
    CheckpointError
        A tensor that tells a dimension is missing.
    """
    try:
        pos_embed = state["image_encoder.pos_embed"]
        patch = state["image_encoder.patch_embed.proj.weight"]
        grid = pos_embed.shape[1]
        depth = _count(state, r"image_encoder\.blocks\.(\d+)\.")
        rel_pos = [state[f"image_encoder.blocks.{i}.attn.rel_pos_h"] for i in range(depth)]
        sides = [(r.shape[0] + 1) // 2 for r in rel_pos]
        windowed = [side for side in sides if side != grid]
        tokens = state["mask_decoder.mask_tokens.weight"]
        return SamConfig(
            embed_dim=patch.shape[0],
            depth=depth,
            num_heads=patch.shape[0] // rel_pos[0].shape[1],
            global_attn_indexes=tuple(i for i, side in enumerate(sides) if side == grid),
            window_size=windowed[0] if windowed else grid,
            image_size=grid * patch.shape[-1],
            patch_size=patch.shape[-1],
            prompt_embed_dim=tokens.shape[1],
            mask_in_chans=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
            decoder_depth=_count(state, r"mask_decoder\.transformer\.layers\.(\d+)\."),
            decoder_mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            decoder_num_heads=decoder_num_heads,
            iou_head_depth=_count(state, r"mask_decoder\.iou_head\.layers\.(\d+)\."),
            iou_head_hidden_dim=state["mask_decoder.iou_head.layers.0.weight"].shape[0],
            num_candidates=tokens.shape[0] - 1,
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"The weights lack {error}, without which the network's size is not known. The file "
            "is incomplete: copy or download it again."
        ) from error


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    found = [int(m[1]) for name in state if (m := re.match(pattern, name))]
    return max(found, default=-1) + 1


def widen_sam(state: dict[str, torch.Tensor]) -> tuple[str, ...]:
    """Make of one slice's network one of three, in place; returns the names that were made.

    The upscaling branch is copied for each slice, and the mask prompt's convolution is repeated
    (paper 2.2). It is divided by the number of slices, so that three equal masks weigh what
    SAM's one does; the published code does not divide.
    """
    made = []
    for name in [n for n in state if n.startswith(f"{_BRANCH}0.")]:
        for i in range(1, WINDOW_SLICES):
            copied = f"{_BRANCH}{i}." + name.removeprefix(f"{_BRANCH}0.")
            state[copied] = state[name].clone()
            made.append(copied)
    weight = state.get(_MASK_CONVOLUTION)
    if weight is not None and weight.ndim == 4 and weight.shape[1] == 1:
        state[_MASK_CONVOLUTION] = weight.repeat(1, WINDOW_SLICES, 1, 1) / WINDOW_SLICES
        made.append(_MASK_CONVOLUTION)
    return tuple(made)


@dataclass(frozen=True, slots=True, eq=False)
class FusedLora:
    """The published adapters of q and v as one of the fused projection, exactly.

    q and v each get B A without scaling. On the fused projection that is one adapter of twice
    the rank: A = [A_q; A_v], and B block-wise, zero for k.

    Parameters
    ----------
    rank : int
        Of the fused adapter.
    state : dict of str to Tensor
        By peft's names.
    """

    rank: int
    state: dict[str, torch.Tensor]


def fuse_lora(tensors: Mapping[str, torch.Tensor], config: SamConfig) -> FusedLora | None:
    """Collect the published LoRA tensors, or return None where there are none.

    Blocks without an adapter get one that changes nothing.

    Raises
    ------
    CheckpointError
        A block has a part of its adapter only, or the shapes disagree.
    """
    blocks: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        part = lora_part(name)
        if part is not None:
            blocks.setdefault(part[0], {})[part[1]] = tensor.float()
    if not blocks:
        return None
    dim = config.embed_dim
    rank = next(t for parts in blocks.values() for p, t in parts.items() if p[0] == "a").shape[0]
    state = {}
    for i in range(config.depth):
        down, up = torch.zeros(2 * rank, dim), torch.zeros(3 * dim, 2 * rank)
        if i in blocks:
            try:
                parts = blocks[i]
                down[:rank], down[rank:] = parts["a_q"], parts["a_v"]
                up[:dim, :rank], up[-dim:, rank:] = parts["b_q"], parts["b_v"]
            except (KeyError, RuntimeError) as error:
                raise CheckpointError(
                    f"The adapter of block {i} is incomplete or does not fit ({error}): A and B "
                    "of q and of v are expected, all of one rank. Copy or download the file again."
                ) from error
        prefix = f"image_encoder.blocks.{i}.attn.qkv."
        state[f"{prefix}lora_A.weight"], state[f"{prefix}lora_B.weight"] = down, up
    return FusedLora(2 * rank, state)
