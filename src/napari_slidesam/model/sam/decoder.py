"""Mask decoder: segment-anything's, with one upscaling branch per slice.

Slide-SAM 2.2: the feature map is expanded from one to three, one per slice, "followed with the
same heads": candidate j on slice i is F_i . H_sj (equation 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from segment_anything.modeling import TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import nn

from napari_slidesam.model.protocol import WINDOW_SLICES

if TYPE_CHECKING:
    from napari_slidesam.model.sam.config import SamConfig

_HYPERNETWORK_DEPTH = 3


def upscaling_branch(dim: int) -> nn.Sequential:
    """Return the layers from the embedding's grid to four times as many pixels a side."""
    return nn.Sequential(
        nn.ConvTranspose2d(dim, dim // 4, 2, 2),
        LayerNorm2d(dim // 4),
        nn.GELU(),
        nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
        nn.GELU(),
    )


class WindowMaskDecoder(nn.Module):
    """Image embedding and prompt embeddings to the masks of three slices, and their IoU."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        dim = config.prompt_embed_dim
        self.transformer = TwoWayTransformer(
            depth=config.decoder_depth,
            embedding_dim=dim,
            mlp_dim=config.decoder_mlp_dim,
            num_heads=config.decoder_num_heads,
        )
        # SAM's token for a single mask, and one a candidate.
        self.num_mask_tokens = 1 + config.num_candidates
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, dim)
        self.branches = nn.ModuleList(upscaling_branch(dim) for _ in range(WINDOW_SLICES))
        self.hypernetworks = nn.ModuleList(
            MLP(dim, dim, dim // 8, _HYPERNETWORK_DEPTH) for _ in range(self.num_mask_tokens)
        )
        self.iou_head = MLP(
            dim, config.iou_head_hidden_dim, self.num_mask_tokens, config.iou_head_depth
        )

    def forward(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        sparse: torch.Tensor,
        dense: torch.Tensor,
        *,
        multimask: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode; window i of the embeddings belongs to prompt i.

        Parameters
        ----------
        embeddings : Tensor, shape (B, C, h, w)
        positions : Tensor, shape (1, C, h, w)
            Positional encoding of the embedding's grid.
        sparse : Tensor, shape (B, N, C)
            Tokens of points and boxes.
        dense : Tensor, shape (B, C, h, w)
            Embedding of the mask prompt.
        multimask : bool
            M candidates, or the one mask that SAM predicts where a prompt leaves no doubt.

        Returns
        -------
        mask_logits : Tensor, shape (B, M or 1, 3, 4 h, 4 w)
        predicted_iou : Tensor, shape (B, M or 1)
            As the head gives it: not bounded.
        """
        b, c, h, w = embeddings.shape
        queries = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([queries.expand(b, -1, -1), sparse], dim=1)
        tokens, features = self.transformer(
            embeddings + dense, positions.expand(b, -1, -1, -1), tokens
        )
        features = features.transpose(1, 2).reshape(b, c, h, w)
        slices = torch.stack([branch(features) for branch in self.branches], dim=1)
        chosen = range(1, self.num_mask_tokens) if multimask else range(1)
        heads = torch.stack([self.hypernetworks[j](tokens[:, 1 + j]) for j in chosen], dim=1)
        mask_logits = torch.einsum("bmc,bschw->bmshw", heads, slices)
        predicted_iou = self.iou_head(tokens[:, 0])[:, chosen.start : chosen.stop]
        return mask_logits, predicted_iou
