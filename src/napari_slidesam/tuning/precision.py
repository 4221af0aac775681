"""The type of numbers that a network trains in."""

from __future__ import annotations

import torch

from napari_slidesam.errors import TuningError

PRECISIONS = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the reduced type to train in, or None for float32.

    Parameters
    ----------
    precision : str
        One of `PRECISIONS`, or ``auto``: bfloat16 where the hardware multiplies it natively.
    device : torch.device

    Raises
    ------
    TuningError
        There is no such precision.
    """
    if precision in PRECISIONS:
        return PRECISIONS[precision]
    if precision != "auto":
        raise TuningError(
            f"precision is auto, float32, bfloat16 or float16; got {precision!r}. Choose auto "
            "where in doubt."
        )
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    if device.type == "cpu":
        return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None
    return None
