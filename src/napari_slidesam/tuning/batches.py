"""From stacks in a pool to augmented training batches, on any device.

A stored stack holds five slices. A batch takes four of them, t0 to t3, so that both windows of
one propagation step are there::

    t0  t1  t2  t3
    [ window 1 ]        centre t1: the prompted slice
        [ window 2 ]    centre t2: where sliding arrives
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

STACK_SLICES = 5
SEQUENCE_SLICES = 4


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Ranges of the random views.

    ``context`` is the viewport's side over the reference box's longer side; the embedded
    network is used at `LiteConfig.viewport_context`. Shares are probabilities.
    ``end_preference`` is how much more often four slices are taken that go past the object's
    end, where a stack has any.
    """

    size: int = 128
    context: tuple[float, float] = (1.4, 2.9)
    offset_share: float = 0.6
    rotate_share: float = 0.5
    rotate_std_rad: float = 0.35
    aspect_std: float = 0.1
    border_share: float = 0.25
    end_of_volume_share: float = 0.06
    end_preference: float = 4.0
    gamma_share: float = 0.4
    invert_share: float = 0.2
    noise_share: float = 0.4
    low_resolution_share: float = 0.3


@dataclass(frozen=True, slots=True)
class Sequence4:
    """Four adjacent slices in the model frame.

    Parameters
    ----------
    images : Tensor of float32, shape (B, 4, H, W), range about [0, 1]
    masks : Tensor of float32, shape (B, 4, H, W), 0 or 1
    """

    images: torch.Tensor
    masks: torch.Tensor


def bounding_boxes(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes (B, 4) xyxy in pixels, half-open, and whether each mask (B, H, W) has any.

    The box of an empty mask is the whole image.
    """
    masks = masks > 0
    height, width = masks.shape[-2:]
    rows, cols = masks.any(dim=2), masks.any(dim=1)
    y0, x0 = rows.float().argmax(dim=1), cols.float().argmax(dim=1)
    y1 = height - rows.flip(1).float().argmax(dim=1)
    x1 = width - cols.flip(1).float().argmax(dim=1)
    return torch.stack([x0, y0, x1, y1], dim=1).float(), rows.any(dim=1)


class BatchMaker:
    """Turns raw stacks into augmented sequences; every draw comes from one generator."""

    def __init__(self, config: AugmentConfig, generator: torch.Generator) -> None:
        self.config = config
        self.generator = generator

    def __call__(self, raw: torch.Tensor, size: int | None = None) -> Sequence4:
        """Return one augmented view of each stack.

        Parameters
        ----------
        raw : Tensor of uint8, shape (B, 6, P, P)
            Five image planes and the bit field of their masks.
        size : int, optional
            Side of the views in pixels, instead of the configured one.
        """
        images, masks = self._sequences(raw)
        images, masks = self._views(images, masks, size or self.config.size)
        return Sequence4(self._intensities(images), masks)

    def _rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def _randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)

    def _chance(self, share: float, batch: int, ndim: int = 4) -> torch.Tensor:
        return (self._rand(batch) < share).view(batch, *([1] * (ndim - 1)))

    def _sequences(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pick four of the five slices, in either order."""
        b = raw.shape[0]
        order = self._orders(raw)
        rows = torch.arange(b, device=raw.device).view(b, 1)
        images = raw[rows, order].float() / 255
        masks = ((raw[:, STACK_SLICES:] >> order.view(b, -1, 1, 1).to(raw.dtype)) & 1).float()
        # Past the end of a volume the last slice stands in for the missing one.
        at_end = self._chance(self.config.end_of_volume_share, b, 3)
        images[:, 3] = torch.where(at_end, images[:, 2], images[:, 3])
        masks[:, 3] = torch.where(at_end, masks[:, 2], masks[:, 3])
        return images, masks

    def _orders(self, raw: torch.Tensor) -> torch.Tensor:
        """Pick one of the four runs of four slices, preferring those past the object's end."""
        found = raw[:, STACK_SLICES].flatten(1)
        bits = torch.arange(STACK_SLICES, device=raw.device, dtype=torch.uint8)
        present = ((found.unsqueeze(-1) >> bits) & 1).amax(dim=1) > 0
        forwards = torch.arange(SEQUENCE_SLICES, device=raw.device)
        runs = torch.stack([forwards, forwards + 1, 4 - forwards, 3 - forwards])
        seen = present[:, runs]
        ends_now = seen[..., 1] & ~seen[..., 2]
        ends_next = seen[..., 2] & ~seen[..., 3]
        weights = 1 + self.config.end_preference * (2 * ends_now.float() + ends_next.float())
        return runs[torch.multinomial(weights, 1, generator=self.generator)[:, 0]]

    def _views(
        self, images: torch.Tensor, masks: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Crop a rotated, flipped, scaled square around the object."""
        c, b, pixels = self.config, images.shape[0], images.shape[-1]
        reference = torch.where(
            masks[:, 2].flatten(1).any(1).view(b, 1, 1), masks[:, 2], masks[:, 1]
        )
        box, _ = bounding_boxes(reference)
        side = (box[:, 2:] - box[:, :2]).amax(dim=1).clamp(min=6)
        context = c.context[0] + self._rand(b) * (c.context[1] - c.context[0])
        reach = (context - 1) * 0.275 * side * (self._rand(b) < c.offset_share)
        centre = (box[:, :2] + box[:, 2:]) / 2 + reach.view(b, 1) * (2 * self._rand(b, 2) - 1)
        scale = context * side / pixels
        angle = (self._rand(b) < c.rotate_share) * self._randn(b) * c.rotate_std_rad
        angle = angle + torch.floor(self._rand(b) * 4) * (math.pi / 2)
        flip = torch.where(self._rand(b) < 0.5, -1.0, 1.0)
        aspect = torch.exp(self._randn(b) * c.aspect_std)
        cos, sin = angle.cos(), angle.sin()
        matrix = torch.zeros(b, 2, 3, device=images.device)
        matrix[:, 0, 0], matrix[:, 0, 1] = scale * cos * flip * aspect, -scale * sin
        matrix[:, 1, 0], matrix[:, 1, 1] = scale * sin * flip * aspect, scale * cos
        matrix[:, :, 2] = 2 * centre / pixels - 1
        shape = [b, 2 * SEQUENCE_SLICES, size, size]
        grid = F.affine_grid(matrix, shape, align_corners=False)
        inside = grid
        low, high = self._borders(box, pixels, b)
        grid = torch.maximum(torch.minimum(grid, high), low)
        outside = (grid != inside).any(dim=-1).unsqueeze(1)
        both = F.grid_sample(
            torch.cat([images, masks], dim=1), grid, padding_mode="border", align_corners=False
        )
        seen = (both[:, SEQUENCE_SLICES:] > 0.5) & ~outside
        return both[:, :SEQUENCE_SLICES], seen.float()

    def _borders(self, box: torch.Tensor, pixels: int, b: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random edges of a plane near the object: beyond them pixels are replicated."""
        share = self._rand(b, 2, 2)
        on = (self._rand(b, 2, 2) < self.config.border_share).float()
        low = (2 * box[:, :2] / pixels - 1) * share[:, 0] - (1 - share[:, 0])
        high = (2 * box[:, 2:] / pixels - 1) * share[:, 1] + (1 - share[:, 1])
        low = torch.where(on[:, 0] > 0, low, torch.full_like(low, -1e3))
        high = torch.where(on[:, 1] > 0, high, torch.full_like(high, 1e3))
        return low.view(b, 1, 1, 2), high.view(b, 1, 1, 2)

    def _intensities(self, images: torch.Tensor) -> torch.Tensor:
        c, b = self.config, images.shape[0]
        images = self._low_resolution(images)
        values = images[:, :, ::4, ::4].flatten(1).sort(dim=1).values
        n = values.shape[1]
        low = values[:, int(n * 0.01)].view(b, 1, 1, 1)
        high = values[:, int(n * 0.99)].view(b, 1, 1, 1)
        x = ((images - low) / (high - low + 1e-3)).clamp(0, 1)
        gamma = torch.exp(self._randn(b, 1, 1, 1) * 0.3)
        x = torch.where(self._chance(c.gamma_share, b), (x + 1e-4) ** gamma, x)
        x = torch.where(self._chance(c.invert_share, b), 1 - x, x)
        x = x * (1 + self._randn(b, 1, 1, 1) * 0.1) + self._randn(b, 1, 1, 1) * 0.05
        x = x + self._randn(b, images.shape[1], 1, 1) * 0.015
        noise = torch.randn(x.shape, generator=self.generator, device=x.device)
        level = self._rand(b, 1, 1, 1) * 0.08 * self._chance(c.noise_share, b)
        return (x + noise * level).clamp(0, 1)

    def _low_resolution(self, images: torch.Tensor) -> torch.Tensor:
        """Blur a share of the batch as an enlarged small object would be."""
        b, size = images.shape[0], images.shape[-1]
        chosen = torch.nonzero(self._rand(b) < self.config.low_resolution_share).flatten()
        if chosen.numel() == 0:
            return images
        factor = 1.5 + 3 * float(self._rand(1))
        small = F.interpolate(images[chosen], size=max(16, int(size / factor)), mode="area")
        out = images.clone()
        out[chosen] = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
        return out
