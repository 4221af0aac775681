"""The image encoder of `SlideSam` against segment-anything's own, on the same weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from segment_anything import sam_model_registry

from benchmarks.measure import peak_memory, timed
from napari_slidesam.metrics import dice
from napari_slidesam.model.protocol import WindowPrompt
from napari_slidesam.model.sam.config import VIT_B
from napari_slidesam.model.sam.encoder import ImageEncoder
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.model.sam.precision import number_types

if TYPE_CHECKING:
    from collections.abc import Callable

_REPEATS = 3


@torch.inference_mode()
def bench_sam_encoder() -> dict[str, float]:
    """Time ViT-B on one window of 1024 pixels in every number type of the device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    original, ours = _encoders(device)
    image = torch.randn(1, 3, VIT_B.image_size, VIT_B.image_size, device=device)
    calls: dict[str, Callable[[], torch.Tensor]] = {"segment_anything": lambda: original(image)}
    for kind in number_types(device):
        calls[kind] = partial(ours, image, dtype=getattr(torch, kind))
    seconds = _interleaved(calls)
    expected = calls["segment_anything"]()
    figures = {"segment_anything_seconds": seconds["segment_anything"]}
    for kind in number_types(device):
        with peak_memory() as peak:
            found = calls[kind]()
        both = torch.stack([found.flatten(), expected.flatten()])
        figures |= {
            f"{kind}_seconds": seconds[kind],
            f"{kind}_times_as_fast": seconds["segment_anything"] / seconds[kind],
            f"{kind}_largest_difference": float((found - expected).abs().max()),
            f"{kind}_correlation": float(torch.corrcoef(both)[0, 1]),
            f"{kind}_mask_dice": _mask_dice(found, expected),
            f"{kind}_peak_megabytes_above_weights": peak.megabytes,
        }
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            calls[kind]()
            figures[f"{kind}_cuda_peak_megabytes"] = torch.cuda.max_memory_allocated() / 1e6
    return figures


def _mask_dice(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the Dice of the masks that one decoder with random weights makes of two embeddings.

    Random weights draw no objects: each mask is cut at its own median in ``expected``, where half
    of the pixels lie and rounding shows most.
    """
    torch.manual_seed(1)
    network = SlideSam(VIT_B).to(found.device).eval()
    boxes = ((100.0, 120.0, 300.0, 340.0), (400.0, 380.0, 460.0, 520.0), (10.0, 20.0, 900.0, 800.0))
    prompts = [WindowPrompt(box_xyxy_model=box) for box in boxes]
    logits = [
        network.predict_embedded(e.expand(len(boxes), -1, -1, -1), prompts).mask_logits.flatten(3)
        for e in (expected, found)
    ]
    cut = logits[0].median(dim=-1, keepdim=True).values
    masks = [(x > cut).cpu().numpy() for x in logits]
    return dice(*masks)


def _encoders(device: torch.device) -> tuple[torch.nn.Module, ImageEncoder]:
    """Return segment-anything's encoder and ours with the same random weights."""
    torch.manual_seed(0)
    original = sam_model_registry["vit_b"]().image_encoder
    for name, parameter in original.named_parameters():
        if "pos" in name:
            # Zero until trained: without them the bias would not be tested.
            parameter.data.normal_(0, 0.1)
    ours = ImageEncoder(VIT_B)
    ours.load_state_dict(original.state_dict())
    return (
        original.to(device).eval().requires_grad_(False),
        ours.to(device).eval().requires_grad_(False),
    )


def _interleaved(calls: dict[str, Callable[[], torch.Tensor]]) -> dict[str, float]:
    """Time the calls by turns, so that what else the machine does falls on all of them."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(_REPEATS):
        for name, call in calls.items():
            timing = timed(call, repeats=1, warm_up=1 if turn == 0 else 0)
            best[name] = min(best[name], timing.best)
    return best
