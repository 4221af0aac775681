"""Self-attention with a decomposed relative position, without the whole attention map.

segment-anything writes the N x N map of every head several times over: at 1024 pixels 0.8 GB
each time, more than half of the encoder's seconds on a CPU. Here the relative position is the
bias of ``scaled_dot_product_attention``, made for a few queries at a time.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.image_encoder import (
    get_rel_pos,
    window_partition,
    window_unpartition,
)
from torch import nn
from torch.nn import functional as F

_BIAS_VALUES = {"cpu": 2**22, "cuda": 2**27}
"""Values of the bias made at once: 16 MB stay in a CPU's cache, 256 MB keep a GPU busy."""


class RelPosAttention(nn.Module):
    """Multi-head self-attention over the patches of a plane, or of windows of it.

    Parameters and their names are those of segment-anything's ``Attention``.

    Parameters
    ----------
    dim, num_heads : int
    window_size : int
        Side of a window in patches; 0 attends over the whole plane.
    grid_size : int
        Side of the plane in patches.
    """

    def __init__(self, dim: int, num_heads: int, *, window_size: int, grid_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        side = window_size or grid_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attended patches (B, H, W, C), same shape."""
        qkv = self.qkv(x)
        if self.window_size == 0:
            attended = self._attend(qkv)
        else:
            height, width = x.shape[1:3]
            windows, padded_hw = window_partition(self._padded(qkv, x), self.window_size)
            attended = window_unpartition(
                self._attend(windows), self.window_size, padded_hw, (height, width)
            )
        out: torch.Tensor = self.proj(attended)
        return out

    def _padded(self, qkv: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Fill up to whole windows with what the projection makes of zeros, as SAM does.

        SAM pads before the projection; 64 x 64 patches in windows of 14 would cost a fifth more.
        """
        b, height, width, channels = qkv.shape
        size = self.window_size
        rows, cols = -(-height // size) * size, -(-width // size) * size
        if (rows, cols) == (height, width):
            return qkv
        of_zeros = self.qkv(x.new_zeros(1, 1, 1, x.shape[-1])).to(qkv.dtype)
        below = of_zeros.expand(b, rows - height, width, channels)
        right = of_zeros.expand(b, rows, cols - width, channels)
        return torch.cat([torch.cat([qkv, below], dim=1), right], dim=2)

    def _attend(self, qkv: torch.Tensor) -> torch.Tensor:
        """Attend within each of the B planes or windows; (B, H, W, 3 C) to (B, H, W, C)."""
        b, height, width, channels = qkv.shape
        heads, n = self.num_heads, height * width
        split = qkv.view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = split.reshape(3, b * heads, n, -1).unbind(0)
        rel_h, rel_w = self._relative_position(q, height, width)
        out = attend(q, k, v, rel_h, rel_w)
        merged = out.view(b, heads, n, -1).transpose(1, 2)
        return merged.reshape(b, height, width, channels // 3)

    def _relative_position(
        self, q: torch.Tensor, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each query's bias for the rows (G, N, H) and for the columns (G, N, W)."""
        groups, n, dim = q.shape
        grid = q.view(groups, height, width, dim)
        of_rows = get_rel_pos(height, height, self.rel_pos_h).to(q.dtype)
        of_cols = get_rel_pos(width, width, self.rel_pos_w).to(q.dtype)
        rel_h = torch.einsum("ghwc,hkc->ghwk", grid, of_rows)
        rel_w = torch.einsum("ghwc,wkc->ghwk", grid, of_cols)
        return rel_h.reshape(groups, n, height), rel_w.reshape(groups, n, width)


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rel_h: torch.Tensor,
    rel_w: torch.Tensor,
    *,
    bias_values: int | None = None,
) -> torch.Tensor:
    """Attend with the bias ``rel_h[query, key's row] + rel_w[query, key's column]``.

    Parameters
    ----------
    q, k, v : Tensor, shape (G, N, C)
        G independent heads over N = H x W patches.
    rel_h, rel_w : Tensor, shapes (G, N, H) and (G, N, W)
    bias_values : int, optional
        Values of the bias made at once; bounds the memory.

    Returns
    -------
    Tensor, shape (G, N, C)
    """
    groups, n, _ = q.shape
    most = bias_values or _BIAS_VALUES.get(q.device.type, _BIAS_VALUES["cuda"])
    groups_at_once = max(1, most // n**2)
    queries_at_once = max(1, min(n, most // n))
    parts = []
    for g in range(0, groups, groups_at_once):
        some = slice(g, g + groups_at_once)
        rows = []
        for start in range(0, n, queries_at_once):
            those = (some, slice(start, start + queries_at_once))
            bias = (rel_h[those].unsqueeze(-1) + rel_w[those].unsqueeze(-2)).flatten(2)
            rows.append(_attend_with(bias, q[those], k[some], v[some]))
        parts.append(rows[0] if len(rows) == 1 else torch.cat(rows, dim=1))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_with(
    bias: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Attend with a bias that may be overwritten."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # PyTorch's fused bfloat16 kernel for CPUs takes 1.7 times as long as these products.
        with torch.autocast("cpu", enabled=False):
            scores = bias.baddbmm_(q * q.shape[-1] ** -0.5, k.transpose(1, 2))
            return torch.bmm(scores.softmax(dim=-1), v)
    return F.scaled_dot_product_attention(q, k, v, bias)
