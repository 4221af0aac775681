"""`SlideSamLite`: stem, trunk and decoder put together behind the window protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_slidesam.geometry import Box, Viewport
from napari_slidesam.model.click.look import ClickLook
from napari_slidesam.model.click.look import embedded_look as embedded_click
from napari_slidesam.model.coarse.look import CoarseLook
from napari_slidesam.model.coarse.look import embedded_look as embedded_coarse
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.decoder import MaskDecoder
from napari_slidesam.model.lite.encoder import ConvStem, Trunk
from napari_slidesam.model.lite.prompt_encoder import (
    BOTTOM_RIGHT,
    NEGATIVE,
    PAD,
    POSITIVE,
    TOP_LEFT,
    PromptTensors,
    PromptTokens,
    rasterise,
)
from napari_slidesam.model.outline.look import OutlineLook
from napari_slidesam.model.outline.look import embedded_look as embedded_outline
from napari_slidesam.model.protocol import WINDOW_SLICES, WindowPrediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.model.protocol import WindowPrompt

POINT_VIEWPORT_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Sides of the viewports tried for a point, as shares of the plane's longer side."""


class SlideSamLite(nn.Module):
    """A small Slide-SAM that sees a square viewport around the prompt.

    Parameters
    ----------
    config : LiteConfig, optional
    name : str
        Identifies the weights in sessions and reports.
    """

    def __init__(self, config: LiteConfig | None = None, *, name: str = "slidesam-lite") -> None:
        super().__init__()
        self.config = config or LiteConfig()
        self.name = name
        dim = self.config.embed_dim
        self.stem = ConvStem(self.config)
        self.trunk = Trunk(self.config)
        self.prompt_tokens = PromptTokens(dim)
        self.query_tokens = nn.Parameter(torch.randn(1, 1 + self.config.num_candidates, dim) * 0.02)
        self.decoder = MaskDecoder(self.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.query_tokens.device

    @property
    def coarse(self) -> CoarseLook:
        """The coarse look in 3D that goes with it; stays on the CPU."""
        return embedded_coarse()

    @property
    def click(self) -> ClickLook:
        """The look at a click that goes with it; stays on the CPU."""
        return embedded_click()

    @property
    def outline(self) -> OutlineLook:
        """The look at an outline that goes with it; stays on the CPU."""
        return embedded_outline()

    def to_device(self, device: torch.device) -> None:
        """Move the weights."""
        self.to(device)

    def forward(
        self, windows: torch.Tensor, prompts: PromptTensors
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict masks.

        Parameters
        ----------
        windows : Tensor of float32, shape (B, 3, H, W), range [0, 1]
            H and W are multiples of 16.
        prompts : PromptTensors

        Returns
        -------
        mask_logits : Tensor, shape (B, M, 3, H / 2, W / 2)
        iou_logits : Tensor, shape (B, M)
        presence_logits : Tensor, shape (B, 3)
        """
        skips, features = self.stem(windows, rasterise(prompts))
        queries = self.query_tokens.expand(windows.shape[0], -1, -1)
        tokens = torch.cat([queries, self.prompt_tokens(prompts)], dim=1)
        features, tokens = self.trunk(features, tokens)
        out: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = self.decoder(
            features, skips, tokens[:, : queries.shape[1]]
        )
        return out

    def predict_windows(
        self, windows: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        """Predict B windows; see `napari_slidesam.model.protocol.WindowModel`."""
        tensors = collate_prompts(prompts, windows.shape[-1], windows.device)
        mask_logits, iou_logits, presence_logits = self(windows, tensors)
        return WindowPrediction(
            mask_logits=mask_logits.float() + self.config.mask_logit_shift,
            predicted_iou=(iou_logits.float() + self.config.iou_logit_shift).sigmoid(),
            presence=presence_logits.float().sigmoid(),
        )

    def viewports(
        self,
        box: Box | None,
        points_yx: Sequence[tuple[float, float]],
        plane_shape_yx: tuple[int, int],
    ) -> tuple[Viewport, ...]:
        """Return a square around the box, or several around the first point."""
        size = self.config.viewport_size
        if box is not None:
            side = self.config.viewport_context * max(box.height, box.width)
            return (Viewport.around(box, max(side, self.config.min_viewport_px), size),)
        y, x = points_yx[0]
        click = Box(y, x, y + 1, x + 1)
        longest = max(plane_shape_yx)
        sides = {
            max(share * longest, self.config.min_viewport_px) for share in POINT_VIEWPORT_SHARES
        }
        return tuple(Viewport.around(click, side, size) for side in sorted(sides))


def collate_prompts(
    prompts: Sequence[WindowPrompt], size: int, device: torch.device
) -> PromptTensors:
    """Put the prompts of B windows of ``size`` pixels into padded tensors."""
    rows: list[list[tuple[float, float, int]]] = []
    masks = torch.zeros(len(prompts), WINDOW_SLICES, size, size)
    for i, prompt in enumerate(prompts):
        row: list[tuple[float, float, int]] = []
        if prompt.box_xyxy_model is not None:
            x0, y0, x1, y1 = (v / size for v in prompt.box_xyxy_model)
            row += [(x0, y0, TOP_LEFT), (x1, y1, BOTTOM_RIGHT)]
        for (x, y), label in zip(prompt.points_xy_model, prompt.point_labels, strict=True):
            row.append((x / size, y / size, POSITIVE if label else NEGATIVE))
        rows.append(row)
        if prompt.mask_logits_model is not None:
            masks[i] = torch.from_numpy(prompt.mask_logits_model).clamp(-1, 1)
    # At least the four tokens of training, so that a lone box looks as it did there.
    n = max(4, *(len(row) for row in rows))
    filled = [row + [(0.0, 0.0, PAD)] * (n - len(row)) for row in rows]
    table = torch.tensor(filled, dtype=torch.float32)
    return PromptTensors(
        points_xy=table[..., :2].to(device),
        point_types=table[..., 2].long().to(device),
        masks=masks.to(device),
    )
