"""Gradient checkpointing: layers computed again in the backward pass rather than kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from torch import nn


def through(layer: nn.Module, x: torch.Tensor, *, recompute: bool) -> torch.Tensor:
    """Return ``layer(x)``; with ``recompute`` and gradients, keep nothing from inside it."""
    if recompute and torch.is_grad_enabled():
        again: torch.Tensor = checkpoint(layer, x, use_reentrant=False)
        return again
    out: torch.Tensor = layer(x)
    return out
