"""Simulated prompts: what a user draws, and what sliding hands on.

Slide-SAM, appendix C: a point or a box with equal probability; boxes with noise of 10 % of the
side's length, at most 20 pixels. Added here, so that training sees what inference makes: boxes
and masks handed on from the neighbouring slice, also past the object's end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from napari_slidesam.model.lite.prompt_encoder import (
    BOTTOM_RIGHT,
    NEGATIVE,
    PAD,
    POSITIVE,
    TOP_LEFT,
    PromptTensors,
)
from napari_slidesam.model.protocol import WINDOW_SLICES
from napari_slidesam.tuning.batches import bounding_boxes

MAX_POINTS = 2

POINT_GRID_PX = 4


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """Shares and noise of simulated prompts.

    ``box_share`` of the prompts hold a box and ``point_share`` points (some hold both).
    ``box_noise`` is relative to the side (paper: 0.1), used for half of the boxes, the other
    half is drawn carefully with ``careful_noise``; ``box_noise_px`` caps it (paper: 20).
    ``handed_mask_share`` of the prompts that sliding hands on hold its masks, with their logits
    times a factor from the range ``handed_confidence``. ``handed_bias_std`` is added to all
    logits of one such prompt, so that its mask and box are too small or too large, as those of
    a slide that drifts.
    """

    box_share: float = 0.8
    point_share: float = 0.3
    box_noise: float = 0.1
    careful_noise: float = 0.03
    box_noise_px: float = 20.0
    loose_share: float = 0.6
    loose_margin: float = 0.1
    mask_share: float = 0.15
    handed_mask_share: float = 0.5
    handed_confidence: tuple[float, float] = (1.0, 1.0)
    handed_bias_std: float = 0.0


class PromptSimulator:
    """Draws prompts for masks in the model frame; every draw comes from one generator."""

    def __init__(self, config: PromptConfig, generator: torch.Generator) -> None:
        self.config = config
        self.generator = generator

    def _rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def _randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)

    def drawn(self, centre: torch.Tensor, box_source: torch.Tensor) -> PromptTensors:
        """Return prompts a user would give.

        Parameters
        ----------
        centre : Tensor, shape (B, H, W), 0 or 1
            The mask of the centre slice; points are drawn from it.
        box_source : Tensor, shape (B, H, W)
            The mask whose bounding box is drawn: the centre's, or a neighbour's to simulate a
            box handed on by sliding.
        """
        c, b = self.config, centre.shape[0]
        boxes = self._noisy_boxes(box_source)
        draw = self._rand(b)
        points, types = self._points(centre, draw > 1 - c.point_share)
        nothing = (types == PAD).all(dim=1)
        use_box = (draw < c.box_share) | nothing
        tensors = self._assemble(boxes, use_box, points, types, centre.shape[-1])
        corrupted = self._corrupted(centre)
        with_mask = (self._rand(b) < c.mask_share) & (centre.flatten(1).any(1))
        tensors.masks[:, 1] = corrupted * with_mask.view(b, 1, 1)
        return tensors

    def drifted(self, mask_logits: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, 2, H, W) of a prediction as a drifting slide would have them."""
        bias = self._randn(mask_logits.shape[0], 1, 1, 1) * self.config.handed_bias_std
        return mask_logits + bias

    def with_own_masks(self, prompts: PromptTensors, mask_logits: torch.Tensor) -> PromptTensors:
        """Return prompts for a second look at the same window.

        Parameters
        ----------
        prompts : PromptTensors
            Those of the first look.
        mask_logits : Tensor, shape (B, 3, H, W)
            What the network answered.
        """
        return replace(prompts, masks=torch.tanh(mask_logits / 2))

    def handed_on(self, boxes_xyxy: torch.Tensor, mask_logits: torch.Tensor) -> PromptTensors:
        """Return prompts that sliding makes from its own prediction.

        Parameters
        ----------
        boxes_xyxy : Tensor, shape (B, 4), pixels of the model frame
        mask_logits : Tensor, shape (B, 2, H, W)
            The network's own logits of the two slices already known: top and centre of the
            window to come.
        """
        b, size = boxes_xyxy.shape[0], mask_logits.shape[-1]
        sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).repeat(1, 2)
        outwards = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=boxes_xyxy.device)
        boxes = boxes_xyxy + (0.05 * outwards + self._randn(b, 4) * 0.02) * sides
        points = torch.zeros(b, MAX_POINTS, 2, device=boxes.device)
        types = torch.full((b, MAX_POINTS), PAD, device=boxes.device)
        everywhere = torch.ones(b, dtype=torch.bool, device=boxes.device)
        tensors = self._assemble(boxes, everywhere, points, types, size)
        carried = self._rand(b, 1, 1, 1) < self.config.handed_mask_share
        low, high = self.config.handed_confidence
        confidence = low + (high - low) * self._rand(b, 1, 1, 1)
        tensors.masks[:, :2] = torch.tanh(confidence * mask_logits / 2) * carried
        return tensors

    def _noisy_boxes(self, masks: torch.Tensor) -> torch.Tensor:
        c, b, size = self.config, masks.shape[0], masks.shape[-1]
        boxes, _ = bounding_boxes(masks)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        std = torch.where(self._rand(b, 1) < 0.5, c.careful_noise, c.box_noise)
        outwards = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=masks.device)
        loose = self._rand(b, 1) * c.loose_margin * (self._rand(b, 1) < c.loose_share)
        noise = (self._randn(b, 4) * std * sides).clamp(-c.box_noise_px, c.box_noise_px)
        boxes = (boxes + noise + loose * outwards * sides).clamp(0, size)
        stop = torch.maximum(boxes[:, 2:], boxes[:, :2] + 2)
        return torch.cat([boxes[:, :2], stop], dim=1)

    def _points(
        self, centre: torch.Tensor, chosen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One positive point inside the mask and, often, a second of either sign.

        Drawn on a grid of every fourth pixel, then moved within it: sixteen times cheaper.
        """
        b, size = centre.shape[0], centre.shape[-1]
        coarse = F.avg_pool2d(centre.unsqueeze(1), POINT_GRID_PX)
        side = coarse.shape[-1]
        core = (coarse > 0.99).float()
        core = torch.where(core.flatten(1).any(1).view(b, 1, 1, 1), core, coarse)
        near = ((F.max_pool2d(coarse, 7, 1, 3) > 0) & (coarse == 0)).float().flatten(1) + 1e-6
        inside = torch.multinomial(core.flatten(1) + 1e-6, 2, generator=self.generator)
        beside = torch.multinomial(near, 1, generator=self.generator)[:, 0]
        negative = self._rand(b) < 0.5
        second = torch.where(negative, beside, inside[:, 1])
        cells = torch.stack([inside[:, 0], second], dim=1)
        corners = torch.stack([cells % side, cells // side], dim=-1).float()
        points = (corners + self._rand(b, MAX_POINTS, 2)) * (size / side)
        types = torch.full((b, MAX_POINTS), PAD, device=centre.device)
        usable = chosen & centre.flatten(1).any(1)
        types[:, 0] = torch.where(usable, POSITIVE, PAD)
        second_type = torch.where(negative, NEGATIVE, POSITIVE)
        types[:, 1] = torch.where(usable & (self._rand(b) < 0.5), second_type, PAD)
        return points, types

    def _assemble(
        self,
        boxes: torch.Tensor,
        use_box: torch.Tensor,
        points: torch.Tensor,
        types: torch.Tensor,
        size: int,
    ) -> PromptTensors:
        corners = boxes.view(-1, 2, 2)
        corner_types = torch.where(
            use_box.view(-1, 1),
            torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]], device=boxes.device),
            PAD,
        )
        xy = torch.cat([corners, points], dim=1) / size
        all_types = torch.cat([corner_types, types], dim=1)
        xy = xy * (all_types != PAD).unsqueeze(-1)
        masks = torch.zeros(boxes.shape[0], WINDOW_SLICES, size, size, device=boxes.device)
        return PromptTensors(points_xy=xy, point_types=all_types, masks=masks)

    def _corrupted(self, masks: torch.Tensor) -> torch.Tensor:
        """Give masks (B, H, W) a wavy, wrong outline; returns -1 and 1."""
        b, size = masks.shape[0], masks.shape[-1]
        small = F.avg_pool2d(masks.unsqueeze(1), 4)
        waves = F.interpolate(
            self._randn(b, 1, 10, 10), size=small.shape[-2:], mode="bicubic", align_corners=False
        )
        soft = F.avg_pool2d(small, 3, 1, 1) + 0.45 * waves * self._rand(b, 1, 1, 1)
        wrong = F.interpolate(soft, size=(size, size), mode="bilinear", align_corners=False) > 0.5
        return 2 * wrong[:, 0].float() - 1
