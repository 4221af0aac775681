"""The dimensions of `SlideSam`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_slidesam.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class SamConfig:
    """Dimensions of the network; the defaults are segment-anything's ViT-B.

    Parameters
    ----------
    embed_dim, depth, num_heads : int
        Width, blocks and heads of the image encoder.
    global_attn_indexes : tuple of int
        Blocks that attend over the whole plane; the others within windows.
    window_size : int
        Side of an attention window, in patches.
    image_size : int
        Side of the image that the network sees, in model pixels.
    patch_size : int
        Side of a patch, in model pixels.
    prompt_embed_dim : int
        Channels of the image embedding and of the prompt tokens.
    mask_in_chans : int
        Channels in the mask prompt's convolutions.
    decoder_depth, decoder_mlp_dim, decoder_num_heads : int
        Blocks, hidden width and heads of the two-way transformer.
    iou_head_depth, iou_head_hidden_dim : int
        Layers and hidden width of the IoU head.
    num_candidates : int
        Candidate masks M (paper 2.2: 3).
    """

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)
    window_size: int = 14
    image_size: int = 1024
    patch_size: int = 16
    prompt_embed_dim: int = 256
    mask_in_chans: int = 16
    decoder_depth: int = 2
    decoder_mlp_dim: int = 2048
    decoder_num_heads: int = 8
    iou_head_depth: int = 3
    iou_head_hidden_dim: int = 256
    num_candidates: int = 3

    @property
    def grid_size(self) -> int:
        """Side of the image embedding, in patches."""
        return self.image_size // self.patch_size

    @property
    def encoder_name(self) -> str:
        """``vit_b``, ``vit_l``, ``vit_h``, or ``vit`` for other dimensions."""
        for name, config in ENCODERS.items():
            if (config.embed_dim, config.depth) == (self.embed_dim, self.depth):
                return name
        return "vit"

    def to_dict(self) -> dict[str, Any]:
        """Return the dimensions as JSON-ready values."""
        return {**asdict(self), "global_attn_indexes": list(self.global_attn_indexes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SamConfig:
        """Return the config that `to_dict` wrote.

        Raises
        ------
        CheckpointError
            A name is unknown or missing: the weights belong to another version.
        """
        try:
            given = dict(values)
            given["global_attn_indexes"] = tuple(given["global_attn_indexes"])
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"The network's dimensions in this weights file are not understood ({error}). "
                "It was written by another version of napari-slidesam."
            ) from error


VIT_B = SamConfig()
VIT_L = SamConfig(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23))
VIT_H = SamConfig(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31))
ENCODERS = {"vit_b": VIT_B, "vit_l": VIT_L, "vit_h": VIT_H}
"""The three published sizes."""
