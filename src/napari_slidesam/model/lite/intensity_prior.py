"""How much each pixel looks like the inside of the prompt, from intensities alone.

An object may be brighter or darker than what surrounds it, or sit between two neighbours in grey
value: a network trained from scratch takes long to find that out for each prompt anew. Classical
interactive segmentation begins there (the colour model of Boykov and Jolly, ICCV 2001, and of
GrabCut, Rother et al., 2004): the histogram inside the prompt against the one around it gives
each grey value the probability of belonging to the object. The network gets it as channels.

Grey values are equalised first, by their ranks around the prompt: in CT, air and bone leave soft
tissue a few percent of the range, and there the organs' borders are.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

PRIOR_CHANNELS = 9
"""The prior of the three slices, from pixels and from 5 x 5 means; the three equalised slices."""

_BINS = 32
_CORE = 0.7
"""Share of the box's inscribed ellipse whose pixels count as inside."""
_NEAR = 1.4
"""The box enlarged by this factor is where grey values are ranked."""
_LEVELS = 256


@torch.no_grad()
def intensity_prior(windows: torch.Tensor, raster: torch.Tensor) -> torch.Tensor:
    """Return the probability of each grey value to belong to the object, and equalised slices.

    Parameters
    ----------
    windows : Tensor of float32, shape (B, 3, H, W), range [0, 1]
    raster : Tensor of float32, shape (B, 6, H, W)
        The drawn prompts; see `rasterise`.

    Returns
    -------
    Tensor of float32, shape (B, 9, H, W), range [-1, 1]
        The prior, 0 where inside and outside are equally likely; last the three equalised slices.
    """
    inside, outside, near = _samples(raster)
    ranks = _equalised(windows, near)
    maps = [_likelihood(values, inside, outside) for values in (ranks, _smoothed(ranks))]
    return 2 * torch.cat([*maps, ranks], dim=1) - 1


def _samples(raster: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights (B, 1, H, W) of the pixels taken as inside, as outside, and as near the prompt."""
    b, _, height, width = raster.shape
    box, positive, negative, mask = raster[:, :1], raster[:, 1:2], raster[:, 2:3], raster[:, 4:5]
    ys = torch.linspace(-1, 1, height, device=raster.device).view(1, 1, height, 1)
    xs = torch.linspace(-1, 1, width, device=raster.device).view(1, 1, 1, width)
    weight = box.sum((-2, -1), keepdim=True).clamp(min=1e-3)
    cy = (box * ys).sum((-2, -1), keepdim=True) / weight
    cx = (box * xs).sum((-2, -1), keepdim=True) / weight
    # The variance of a uniform side of half length a is a^2 / 3.
    ay = (3 * (box * (ys - cy) ** 2).sum((-2, -1), keepdim=True) / weight).sqrt() + 1e-3
    ax = (3 * (box * (xs - cx) ** 2).sum((-2, -1), keepdim=True) / weight).sqrt() + 1e-3
    core = (((ys - cy) / ay) ** 2 + ((xs - cx) / ax) ** 2 < _CORE**2).float() * (box > 0.5)
    has_box = (box.flatten(1).amax(1) > 0.5).view(b, 1, 1, 1).float()
    # Two passes of a line are a square's maximum, several times cheaper.
    near_click = F.max_pool2d(F.max_pool2d(positive, (9, 1), 1, (4, 0)), (1, 9), 1, (0, 4))
    inside = core + positive + (mask > 0).float()
    far = has_box * (1 - box) + (1 - has_box) * (1 - near_click)
    outside = torch.where((mask != 0).flatten(1).any(1).view(b, 1, 1, 1), (mask < 0).float(), far)
    is_near = ((ys - cy).abs() < _NEAR * ay) & ((xs - cx).abs() < _NEAR * ax)
    near = torch.where(has_box > 0, is_near.float(), torch.ones_like(box))
    return inside, outside + 4 * negative, near


def _equalised(windows: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Replace grey values by their rank, range [0, 1], among the pixels ``near`` the prompt."""
    b = windows.shape[0]
    levels = windows.clamp(0, 1) * (_LEVELS - 1)
    below = levels.floor().clamp(max=_LEVELS - 2)
    index = below.long().flatten(1)
    counts = torch.zeros(b, _LEVELS, device=windows.device)
    counts.scatter_add_(1, index, near.expand_as(windows).flatten(1))
    total = counts.sum(1, keepdim=True).clamp(min=1e-6)
    start = (counts.cumsum(1) - counts) / total
    rank = start.gather(1, index) + (counts / total).gather(1, index) * (levels - below).flatten(1)
    return rank.view_as(windows)


def _smoothed(values: torch.Tensor) -> torch.Tensor:
    """Return the means (B, 3, H, W) of 5 x 5 pixels, at the rim of those inside.

    Shifted sums along one axis and then the other: four times cheaper than pooling.
    """
    height, width = values.shape[-2:]
    rows = F.pad(values, (0, 0, 2, 2))
    rows = sum((rows[..., i : i + height, :] for i in range(1, 5)), start=rows[..., :height, :])
    both = F.pad(rows, (2, 2))
    both = sum((both[..., i : i + width] for i in range(1, 5)), start=both[..., :width])
    counts = [_neighbours(side, values.device) for side in (height, width)]
    return both / (counts[0].view(-1, 1) * counts[1])


def _neighbours(side: int, device: torch.device) -> torch.Tensor:
    """Return how many of five adjacent places along an axis lie inside, at each place."""
    places = torch.arange(side, device=device)
    return 1 + places.clamp(max=2) + (side - 1 - places).clamp(max=2)


def _likelihood(values: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Probability (B, 3, H, W) by the histograms of the weighted pixels of all slices."""
    b = values.shape[0]
    bins = (values.clamp(0, 1) * (_BINS - 1e-3)).long().flatten(1)
    densities = []
    for weights in (inside, outside):
        counts = torch.zeros(b, _BINS, device=values.device)
        counts.scatter_add_(1, bins, weights.expand_as(values).flatten(1))
        smooth = F.avg_pool1d(F.pad(counts[:, None], (2, 2), mode="replicate"), 5, 1)[:, 0]
        densities.append(smooth / smooth.sum(1, keepdim=True).clamp(min=1e-6))
    ratio = (densities[0] + 1e-3) / (densities[0] + densities[1] + 2e-3)
    return ratio.gather(1, bins).view_as(values)
