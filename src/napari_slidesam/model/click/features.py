"""What the click network is shown: grey values in three windows, beside the click's own."""

from __future__ import annotations

import torch

N_FEATURES = 9
INNER_SHARE = 0.25
"""Of the rings, whose mean is the grey value of the click."""
WINDOW_SHARES = (1.0, 0.8, 0.6)
"""Of the rings, whose percentiles become 0 and 1 in each window."""
PERCENTILES = (0.02, 0.98)


def features(images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the channels of B log-polar images.

    Parameters
    ----------
    images : Tensor of float32, shape (B, rings, angles)
        Stored values, of any range.
    inside : Tensor of bool, shape (B, rings, angles)
        Which samples lie inside the plane.

    Returns
    -------
    Tensor of float32, shape (B, 9, rings, angles)
        Grey values between the percentiles of all rings, of the inner 80 % and 60 %; how far each
        is from the click's; the mean of each ring and all within; what lies inside the plane; the
        ring's number.
    """
    count, rings, angles = images.shape
    click = images[:, : round(INNER_SHARE * rings)].mean((1, 2))[:, None, None]
    channels = []
    for share in WINDOW_SHARES:
        shown = images[:, : round(share * rings)].flatten(1)
        low, high = (
            torch.quantile(shown, q, dim=1)[:, None, None].minimum(click)
            if k == 0
            else torch.quantile(shown, q, dim=1)[:, None, None].maximum(click)
            for k, q in enumerate(PERCENTILES)
        )
        spread = (high - low).clamp(min=1e-6)
        channels.append(((images - low) / spread).clamp(0, 1) * 2 - 1)
        channels.append(((images - click) / spread).clamp(-1, 1))
    numbers = torch.arange(1, rings + 1, device=images.device, dtype=images.dtype)
    disc = channels[1].mean(2).cumsum(1) / numbers
    channels.append(disc[:, :, None].expand(count, rings, angles))
    channels.append(inside.to(images.dtype))
    channels.append((numbers / rings * 2 - 1)[None, :, None].expand(count, rings, angles))
    return torch.stack(channels, dim=1)
