"""Memory of `SlideSam`'s image encoder on the CPU, each number type in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import torch

from napari_slidesam.model.sam.config import VIT_B
from napari_slidesam.model.sam.encoder import ImageEncoder
from napari_slidesam.model.sam.precision import number_types


def bench_sam_encoder_memory() -> dict[str, float]:
    """Take the largest resident memory of a process that embeds one window of 1024 pixels.

    ViT-B with random weights; a fresh process for each number type, as its peak cannot be reset.
    """
    figures = {}
    for kind in number_types(torch.device("cpu")):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_sam_memory", kind],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        figures |= {f"{kind}_{name}": value for name, value in json.loads(done.stdout).items()}
    return figures


def encoder_memory(kind: str) -> dict[str, float]:
    """Embed one window; return this process's peaks before and after, in megabytes.

    Both hold Python, PyTorch and the weights (0.36 GB in float32). A process inherits the peak of
    the one that started it, so the peak after the imports alone would say nothing.
    """
    encoder = ImageEncoder(VIT_B).eval().requires_grad_(False)
    loaded = _peak_megabytes()
    image = torch.randn(1, 3, VIT_B.image_size, VIT_B.image_size)
    with torch.inference_mode():
        encoder(image, dtype=getattr(torch, kind))
    peak = _peak_megabytes()
    return {
        "loaded_megabytes": loaded,
        "peak_megabytes": peak,
        "peak_megabytes_above_weights": peak - loaded,
    }


def _peak_megabytes() -> float:
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    sys.stdout.write(json.dumps(encoder_memory(sys.argv[1])))
