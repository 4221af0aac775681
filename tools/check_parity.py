"""Compare `SlideSam` with outputs of the published network: ``check_parity.py FOLDER``.

The folder holds ``config.json``, ``golden.npz`` and the weights (``*.safetensors`` or ``*.pth``),
as ``tests/model/data/parity`` does; its README describes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_slidesam.model.checkpoints import load_checkpoint
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.model.sam.prompts import SamPrompts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

TOLERANCE = 1e-4

PROMPTS = {
    "box": ("box_xyxy",),
    "points": ("points_xy",),
    "box_mask": ("box_xyxy", "mask_logits_in"),
    "points_box": ("points_xy", "box_xyxy"),
}


def parity_report(folder: Path, *, keep_adapter: bool) -> dict[str, float]:
    """Return the largest difference of each output, with LoRA merged or kept apart."""
    golden = np.load(folder / "golden.npz")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (weights,) = [p for p in sorted(folder.iterdir()) if p.suffix in {".safetensors", ".pth"}]
    model = load_checkpoint(
        weights,
        keep_adapter=keep_adapter,
        precision="float32",
        decoder_num_heads=config["decoder_num_heads"],
    )
    assert isinstance(model, SlideSam)
    found: dict[str, float] = {}
    with torch.inference_mode():
        embeddings = model.embed_windows(torch.from_numpy(golden["window"]) / 255)
        found["image_embedding"] = _difference(embeddings, golden["image_embedding"])
        for name, parts in PROMPTS.items():
            prompts = _prompts(golden, parts)
            for mode in ("multi", "single"):
                out = model.decode(embeddings, prompts, multimask=mode == "multi")
                for label, tensor in zip(("mask_logits", "predicted_iou"), out, strict=True):
                    key = f"{name}_{mode}_{label}"
                    found[key] = _difference(tensor, golden[key])
    return found


def _prompts(golden: Mapping[str, NDArray[np.float32]], parts: tuple[str, ...]) -> SamPrompts:
    given = {part: torch.from_numpy(golden[part]).float() for part in parts}
    labels = torch.from_numpy(golden["point_labels"]).float() if "points_xy" in parts else None
    return SamPrompts(
        boxes_xyxy=given.get("box_xyxy"),
        points_xy=given.get("points_xy"),
        point_labels=labels,
        mask_logits=given.get("mask_logits_in"),
    )


def _difference(tensor: torch.Tensor, expected: NDArray[np.float32]) -> float:
    if tuple(tensor.shape) != expected.shape:
        return float("inf")
    return float((tensor - torch.from_numpy(expected)).abs().max())


def main() -> int:
    """Print every difference; the exit code says whether all are within the tolerance."""
    if len(sys.argv) != 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    worst = 0.0
    for keep_adapter in (True, False):
        sys.stdout.write(f"LoRA {'kept apart' if keep_adapter else 'merged'}\n")
        for name, value in parity_report(Path(sys.argv[1]), keep_adapter=keep_adapter).items():
            sys.stdout.write(f"  {name:32} {value:.2e}\n")
            worst = max(worst, value)
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
