"""What the coarse network is shown: grey values, and where they and the prompt point to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

N_FEATURES = 9
BINS = 24
"""Of the histograms of grey values inside and outside the mask."""

_SMOOTHING = (0.06, 0.24, 0.4, 0.24, 0.06)


@dataclass(frozen=True, slots=True, eq=False)
class KnownSlices:
    """The object on the slices that are known in B cubes: K of them, or fewer.

    Parameters
    ----------
    masks : Tensor of float32, shape (B, K, N, N), range [0, 1]
        The first is the prompted slice that the cube is centred on.
    places : Tensor of float32, shape (B, K)
        Where they lie along the cube's first axis, in its voxels; infinite where there is none.
    """

    masks: torch.Tensor
    places: torch.Tensor

    @classmethod
    def middle(cls, masks: torch.Tensor) -> KnownSlices:
        """Return the centre slices' masks (B, N, N) alone."""
        count, n = masks.shape[:2]
        return cls(masks.unsqueeze(1), masks.new_full((count, 1), (n - 1) / 2))


def features(images: torch.Tensor, known: KnownSlices, inside: torch.Tensor) -> torch.Tensor:
    """Return the channels of B cubes.

    Parameters
    ----------
    images : Tensor of float32, shape (B, N, N, N), range [0, 1]
        The centre slice lies between the two middle planes.
    known : KnownSlices
    inside : Tensor of bool, shape (B, 3, N)
        Which planes along each axis lie inside the volume.

    Returns
    -------
    Tensor of float32, shape (B, 9, N, N, N)
        Grey values; how much more likely each is inside the centre slice's mask than outside; its
        difference from that mask's mean; the masks of the known slices on either side, mixed, and
        the same near known slices; the distance from the nearest known slice, in cubes and in radii
        of the centre slice's mask; what lies inside the volume; what lies between known slices.
    """
    n = images.shape[1]
    shape = images.shape
    masks = known.masks[:, 0]
    middle = images[:, n // 2 - 1 : n // 2 + 1].mean(1)
    within = masks * masks
    mean = (middle * within).sum((1, 2)) / within.sum((1, 2)).clamp(min=1e-3)
    shares, offsets, is_between = _neighbours(known.places, n)
    column = torch.einsum("bnk,bkhw->bnhw", shares, known.masks) * 2 - 1
    distance = (offsets * 2 / n).view(-1, n, 1, 1).expand(shape)
    near = torch.exp(-((distance * n / 3) ** 2))
    radius = (masks.sum((1, 2)) / math.pi).sqrt() / n * 2
    in_radii = distance / radius.view(-1, 1, 1, 1).clamp(min=0.02)
    planes, rows, columns = (inside[:, i] for i in range(3))
    in_volume = planes[:, :, None, None] & rows[:, None, :, None] & columns[:, None, None, :]
    channels = [
        images * 2 - 1,
        _likelihood(images, middle, masks),
        (images - mean.view(-1, 1, 1, 1)) * 2,
        column,
        column * near,
        distance * 2 - 1,
        torch.tanh(in_radii - 1),
        in_volume.to(images.dtype),
        is_between.to(images.dtype).view(-1, n, 1, 1).expand(shape),
    ]
    return torch.stack(channels, dim=1)


def _neighbours(places: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find the known slices on either side of each plane.

    Parameters
    ----------
    places : Tensor, shape (B, K)
    n : int

    Returns
    -------
    shares : Tensor, shape (B, N, K)
        Linear between the two, all of the nearest where there is one side only.
    offsets : Tensor, shape (B, N)
        Distance from the nearest, in voxels.
    is_between : Tensor of bool, shape (B, N)
        Not on a known slice itself.
    """
    planes = torch.arange(n, device=places.device, dtype=places.dtype)
    ahead = places.unsqueeze(1) - planes.view(1, n, 1)
    above, above_index = ahead.masked_fill(ahead < 0, torch.inf).min(-1)
    below, below_index = (-ahead).masked_fill(ahead >= 0, torch.inf).min(-1)
    is_between = torch.isfinite(above) & torch.isfinite(below) & (above > 0)
    mixed = below / (above + below).clamp(min=1e-6)
    share_above = torch.where(is_between, mixed, torch.isfinite(above).to(places.dtype))
    shares = torch.zeros_like(ahead)
    shares.scatter_(-1, above_index.unsqueeze(-1), share_above.unsqueeze(-1))
    shares.scatter_add_(-1, below_index.unsqueeze(-1), 1 - share_above.unsqueeze(-1))
    return shares, torch.minimum(above, below), is_between


def _likelihood(images: torch.Tensor, middle: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return tanh of half the log ratio of both histograms, at each grey value."""
    places = (images * (BINS - 1)).round().long().clamp(0, BINS - 1)
    known = (middle * (BINS - 1)).round().long().clamp(0, BINS - 1).flatten(1)
    kernel = images.new_tensor(_SMOOTHING).view(1, 1, -1)
    shares = []
    for weights in (masks * masks, (1 - masks) ** 2):
        counts = images.new_zeros(len(images), BINS).scatter_add_(1, known, weights.flatten(1))
        padded = F.pad(counts.unsqueeze(1), (2, 2), mode="replicate")
        smooth = F.conv1d(padded, kernel)[:, 0]
        shares.append(smooth / smooth.sum(1, keepdim=True).clamp(min=1e-3))
    ratio = torch.tanh(0.5 * torch.log((shares[0] + 0.01) / (shares[1] + 0.01)))
    return ratio.gather(1, places.flatten(1)).view_as(images)
