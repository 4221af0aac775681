"""How much each pixel looks like the inside of the prompt, from intensities alone.

An object may be brighter or darker than what surrounds it, or sit between two neighbours in grey
value: a network trained from scratch takes long to find that out for each prompt anew. Classical
interactive segmentation begins there (the colour model of Boykov and Jolly, ICCV 2001, and of
GrabCut, Rother et al., 2004): the histogram inside the prompt against the one around it gives
each grey value the probability of belonging to the object. The network gets it as channels.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

PRIOR_CHANNELS = 6
"""The prior of the three slices, from their pixels and from pixels averaged over 5 x 5."""

_BINS = 32
_CORE = 0.7
"""Share of the box's inscribed ellipse whose pixels count as inside."""


@torch.no_grad()
def intensity_prior(windows: torch.Tensor, raster: torch.Tensor) -> torch.Tensor:
    """Return the probability of each grey value to belong to the object.

    Parameters
    ----------
    windows : Tensor of float32, shape (B, 3, H, W), range [0, 1]
    raster : Tensor of float32, shape (B, 6, H, W)
        The drawn prompts; see `rasterise`.

    Returns
    -------
    Tensor of float32, shape (B, 6, H, W), range [-1, 1]
        0 where inside and outside are equally likely.
    """
    inside, outside = _samples(raster)
    smooth = F.avg_pool2d(windows, 5, 1, 2, count_include_pad=False)
    maps = [_likelihood(values, inside, outside) for values in (windows, smooth)]
    return 2 * torch.cat(maps, dim=1) - 1


def _samples(raster: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (B, 1, H, W) of the pixels taken as inside and as outside."""
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
    return inside, outside + 4 * negative


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
