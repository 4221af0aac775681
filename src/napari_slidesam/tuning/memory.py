"""How much memory training has taken at its peak."""

from __future__ import annotations

import sys

import torch

if sys.platform != "win32":
    import resource


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of the CUDA allocator, or of this process; 0 where it cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024
