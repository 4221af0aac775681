"""What the coarse network is shown: grey values, and where they and the prompt point to."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

N_FEATURES = 8
BINS = 24
"""Of the histograms of grey values inside and outside the mask."""

_SMOOTHING = (0.06, 0.24, 0.4, 0.24, 0.06)


def features(images: torch.Tensor, masks: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the channels of B cubes.

    Parameters
    ----------
    images : Tensor of float32, shape (B, N, N, N), range [0, 1]
        The prompted slice lies between the two middle planes.
    masks : Tensor of float32, shape (B, N, N), range [0, 1]
        The object on the prompted slice.
    inside : Tensor of bool, shape (B, 3, N)
        Which planes along each axis lie inside the volume.

    Returns
    -------
    Tensor of float32, shape (B, 8, N, N, N)
        Grey values; how much more likely each is inside the mask than outside; its difference
        from the mask's mean; the mask on every plane, and near the prompted one; the distance
        from the prompted plane, in cubes and in radii of the mask; what lies inside the volume.
    """
    n = images.shape[1]
    shape = images.shape
    middle = images[:, n // 2 - 1 : n // 2 + 1].mean(1)
    within = masks * masks
    mean = (middle * within).sum((1, 2)) / within.sum((1, 2)).clamp(min=1e-3)
    z = (torch.arange(n, device=images.device) + 0.5) / n * 2 - 1
    distance = z.abs().view(1, n, 1, 1).expand(shape)
    near = torch.exp(-((z * n / 3) ** 2)).view(1, n, 1, 1)
    radius = (masks.sum((1, 2)) / math.pi).sqrt() / n * 2
    in_radii = distance / radius.view(-1, 1, 1, 1).clamp(min=0.02)
    column = (masks * 2 - 1).unsqueeze(1).expand(shape)
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
    ]
    return torch.stack(channels, dim=1)


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
