"""Window prompts as segment-anything's prompt encoder takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from segment_anything.modeling import PromptEncoder
from torch import nn
from torch.nn import functional as F

from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import INDEX_TO_EDGE
from napari_slidesam.model.protocol import WINDOW_SLICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_slidesam.model.protocol import WindowPrompt
    from napari_slidesam.model.sam.config import SamConfig

MASK_LOGIT_LIMIT = 8.0
"""Largest size of a mask prompt's logits; ``tanh`` is flat beyond it."""


@dataclass(frozen=True, slots=True)
class SamPrompts:
    """The prompts of B windows that have the same parts.

    Parameters
    ----------
    boxes_xyxy : Tensor of float32, shape (B, 4), optional
        segment-anything's convention: the centre of a pixel is its integer index.
    points_xy : Tensor of float32, shape (B, N, 2), optional
        Likewise.
    point_labels : Tensor of float32, shape (B, N), optional
        1 for positive, 0 for negative.
    mask_logits : Tensor of float32, shape (B, 3, H / 4, W / 4), optional
        Mask prompt of the three slices.
    """

    boxes_xyxy: torch.Tensor | None = None
    points_xy: torch.Tensor | None = None
    point_labels: torch.Tensor | None = None
    mask_logits: torch.Tensor | None = None

    @property
    def points(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Points with their labels, or None."""
        if self.points_xy is None or self.point_labels is None:
            return None
        return self.points_xy, self.point_labels


def prompt_encoder(config: SamConfig) -> PromptEncoder:
    """Return segment-anything's prompt encoder with a mask prompt of three channels (2.2)."""
    grid = (config.grid_size, config.grid_size)
    encoder = PromptEncoder(
        embed_dim=config.prompt_embed_dim,
        image_embedding_size=grid,
        input_image_size=(config.image_size, config.image_size),
        mask_in_chans=config.mask_in_chans,
    )
    encoder.mask_downscaling[0] = nn.Conv2d(
        WINDOW_SLICES, config.mask_in_chans // 4, kernel_size=2, stride=2
    )
    return encoder


def grouped_prompts(
    prompts: Sequence[WindowPrompt], mask_size: int, device: torch.device
) -> Iterator[tuple[list[int], SamPrompts]]:
    """Yield (indices, prompts) of the windows that have the same parts.

    The decoder attends to every token it is given, so filling a window's prompts up to its
    neighbours' number would change its masks.

    Parameters
    ----------
    prompts : sequence of WindowPrompt
    mask_size : int
        Side of the mask prompt that the network takes, a quarter of the window's.
    device : torch.device
    """
    groups: dict[tuple[bool, int, bool], list[int]] = {}
    for i, prompt in enumerate(prompts):
        parts = (
            prompt.box_xyxy_model is not None,
            len(prompt.points_xy_model),
            prompt.mask_logits_model is not None,
        )
        groups.setdefault(parts, []).append(i)
    for indices in groups.values():
        yield indices, _collated([prompts[i] for i in indices], mask_size, device)


def _collated(prompts: list[WindowPrompt], mask_size: int, device: torch.device) -> SamPrompts:
    """Stack prompts that have the same parts.

    segment-anything adds half a pixel to every coordinate; the model frame's edge coordinates
    have it already.

    Raises
    ------
    PromptError
        They have no part at all.
    """
    boxes = [p.box_xyxy_model for p in prompts if p.box_xyxy_model is not None]
    points = [p.points_xy_model for p in prompts if p.points_xy_model]
    labels = [p.point_labels for p in prompts if p.points_xy_model]
    masks = [p.mask_logits_model for p in prompts if p.mask_logits_model is not None]
    if not (boxes or points or masks):
        raise PromptError("A window needs a box, a point or a mask prompt; got none of them.")
    return SamPrompts(
        boxes_xyxy=_tensor(boxes, device) - INDEX_TO_EDGE if boxes else None,
        points_xy=_tensor(points, device) - INDEX_TO_EDGE if points else None,
        point_labels=_tensor(labels, device) if points else None,
        mask_logits=(
            mask_prompt_logits(torch.from_numpy(np.stack(masks)).to(device), mask_size)
            if masks
            else None
        ),
    )


def _tensor(values: object, device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def mask_prompt_logits(masks: torch.Tensor, mask_size: int) -> torch.Tensor:
    """Return the low-resolution logits that the prompt encoder takes.

    The window's mask prompt is ``tanh(logits / 2)``, twice the probability minus one. It is
    averaged down to the network's size, where a cell half inside keeps an even chance, and only
    then turned back into logits, cut at `MASK_LOGIT_LIMIT`. Zero, the unknown, stays zero.

    Parameters
    ----------
    masks : Tensor of float32, shape (B, 3, H, W), range [-1, 1]
    mask_size : int

    Returns
    -------
    Tensor of float32, shape (B, 3, mask_size, mask_size)
    """
    if masks.shape[-1] != mask_size:
        masks = F.interpolate(
            masks,
            size=(mask_size, mask_size),
            mode="bilinear",
            align_corners=False,
            antialias=masks.shape[-1] > mask_size,
        )
    logits = 2 * torch.atanh(masks.float().clamp(-1 + 1e-6, 1 - 1e-6))
    return logits.clamp(-MASK_LOGIT_LIMIT, MASK_LOGIT_LIMIT)
