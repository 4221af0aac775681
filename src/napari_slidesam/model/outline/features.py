"""What the outline network is shown: greys, how like the inside each is, places, clicks."""

from __future__ import annotations

import torch
from torch.nn import functional as F

FEATURES_BESIDE_SLICES = 13
PERCENTILES = (0.01, 0.99)
"""Of the centre slice, which become -1 and 1."""
BINS = 32
"""Of equally many pixels each, in which the grey values of inside and outside are counted."""
INSIDE_RADII = (0.85, 0.5)
"""Of the ellipses in the box whose greys count as the object's."""
OUTSIDE = 1.05
"""What lies further out than so much of the box is not the object."""
EVEN_SHARE = 0.15
"""Weight of "any grey value" beside those counted."""
MIDDLE_RADIUS = 0.4
"""Of the ellipse whose mean each grey value is compared with."""
CLICK_REACH = 0.2
"""Distance, in half sides of the view, at which a click is felt 1 / e as much as on the spot."""


def features(
    images: torch.Tensor, inside: torch.Tensor, boxes: torch.Tensor, clicks: torch.Tensor
) -> torch.Tensor:
    """Return the channels of B views.

    Parameters
    ----------
    images : Tensor of float32, shape (B, slices, side, side)
        Neighbouring slices, of any range; the prompt is on the middle one.
    inside : Tensor of bool, shape (B, side, side)
        Which samples lie inside the plane.
    boxes : Tensor of float32, shape (B, 4)
        y0, x0, y1, x1 of each box; the view reaches from -1 to 1.
    clicks : Tensor of float32, shape (B, K, 3)
        y, x of up to K clicks, and 1 for one on the object, -1 for one beside it, 0 for none.

    Returns
    -------
    Tensor of float32, shape (B, slices + 13, side, side)
    """
    count, slices, side, _ = images.shape
    valid = inside.to(images.dtype)
    across, down, radius, edge = _around_box(boxes, side)
    middle_slice = images[:, slices // 2]
    centre = middle_slice.flatten(1)
    ordered, order = centre.sort(1)
    size = side * side
    evenly = torch.arange(size, device=images.device, dtype=images.dtype) / size
    rank = torch.empty_like(centre).scatter_(1, order, evenly.expand(count, size))
    low, high = (ordered[:, int(q * size)][:, None, None] for q in PERCENTILES)
    spread = (high - low).clamp(min=1e-6)
    shown = ((images - low[:, None]) / spread[:, None] * 2 - 1).clamp(-1.5, 1.5)
    bins = (rank * BINS).long().clamp(max=BINS - 1)
    outside = ((edge > OUTSIDE) * valid).flatten(1)
    likeness = [
        _likeness(bins, ((radius < r) * valid).flatten(1), outside).view(count, side, side)
        for r in INSIDE_RADII
    ]
    middle = (radius < MIDDLE_RADIUS) * valid
    mean = (middle_slice * middle).sum((1, 2)) / middle.sum((1, 2)).clamp(min=1)
    away = (middle_slice - mean[:, None, None]) / spread
    return torch.stack(
        [
            *likeness,
            away.clamp(-1, 1),
            (away * 4).clamp(-1, 1),
            rank.view(count, side, side) * 2 - 1,
            *shown.unbind(1),
            down.clamp(-2, 2),
            across.clamp(-2, 2),
            (radius - 1).clamp(-1, 1),
            (edge - 1).clamp(-1, 1) * 2,
            (edge < 1).to(images.dtype),
            valid,
            _nearness(clicks, 1, side),
            _nearness(clicks, -1, side),
        ],
        dim=1,
    )


def view_ticks(side: int, like: torch.Tensor) -> torch.Tensor:
    """Return where a view's samples lie along an axis, from -1 to 1; shape (side,).

    Of the device and number type of ``like``.
    """
    return (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side * 2 - 1


def _nearness(clicks: torch.Tensor, sign: int, side: int) -> torch.Tensor:
    """Return how near the nearest click of a sign is, from 0 to 1; shape (B, side, side)."""
    near = clicks.new_zeros(len(clicks), side, side)
    ticks = view_ticks(side, clicks)
    for y, x, kind in (click.unbind(1) for click in clicks.unbind(1)):
        down, across = ticks - y[:, None], ticks - x[:, None]
        distance = torch.hypot(down[:, :, None], across[:, None, :])
        felt = torch.exp(-distance / CLICK_REACH) * (kind == sign)[:, None, None]
        near = torch.maximum(near, felt)
    return near


def _around_box(
    boxes: torch.Tensor, side: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x and y over the box's half sides, and both as an ellipse's and a box's radius.

    Each of shape (B, side, side); 1 on the outline.
    """
    ticks = view_ticks(side, boxes)
    y0, x0, y1, x1 = boxes.unbind(1)
    half_y, half_x = ((y1 - y0) / 2).clamp(min=0.02), ((x1 - x0) / 2).clamp(min=0.02)
    down = (ticks - ((y0 + y1) / 2)[:, None]) / half_y[:, None]
    across = (ticks - ((x0 + x1) / 2)[:, None]) / half_x[:, None]
    down = down[:, :, None].expand(-1, side, side)
    across = across[:, None, :].expand(-1, side, side)
    return across, down, torch.hypot(across, down), torch.maximum(across.abs(), down.abs())


def _likeness(bins: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Return how much likelier each sample's grey value is inside than outside, from -1 to 1.

    Parameters
    ----------
    bins : Tensor of int64, shape (B, N)
    inside, outside : Tensors of float32, shape (B, N)
        Which samples count.
    """
    log_shares = []
    for chosen in (inside, outside):
        counts = chosen.new_zeros(len(bins), BINS).scatter_add_(1, bins, chosen)
        for _ in range(2):
            closed = F.pad(counts[:, None], (1, 1), mode="replicate")
            counts = F.avg_pool1d(closed, 3, 1)[:, 0]
        shares = counts / counts.sum(1, keepdim=True).clamp(min=1e-6)
        log_shares.append((shares + EVEN_SHARE / BINS).log())
    likeness = torch.tanh((log_shares[0] - log_shares[1]) / 2)
    return likeness.gather(1, bins)
