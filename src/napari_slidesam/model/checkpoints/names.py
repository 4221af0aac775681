"""Names of tensors: how each kind of file calls what `SlideSam` has."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.checkpoints.report import CheckpointKind, shown
from napari_slidesam.model.weights import FORMAT as LITE_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

FORMAT = "napari-slidesam/slidesam"
"""Marks a safetensors file of `SlideSam`."""

ADAPTER_PREFIX = "adapter."
"""Before the names of an adapter's tensors in a file of `SlideSam`."""

_PUBLISHED_TO_OURS = (
    ("mask_decoder.output_upscaling2.", "mask_decoder.branches.1."),
    ("mask_decoder.output_upscaling3.", "mask_decoder.branches.2."),
    ("mask_decoder.output_upscaling.", "mask_decoder.branches.0."),
    ("mask_decoder.output_hypernetworks_mlps.", "mask_decoder.hypernetworks."),
    ("mask_decoder.iou_prediction_head.", "mask_decoder.iou_head."),
)

_WRAPPED_QKV = re.compile(r"(.*\.attn\.qkv)\.qkv\.(weight|bias)")
_LORA = re.compile(r"image_encoder\.blocks\.(\d+)\.attn\.qkv\.linear_([ab]_[qv])\.weight")

_KNOWN_EXTRAS = ("pixel_mean", "pixel_std")
"""Constants that some files carry along; they are the same everywhere."""


def without_prefix(names: Iterable[str]) -> dict[str, str]:
    """Map each name to itself without what wrappers such as ``module.`` put before all of them."""
    names = list(names)
    before = Counter(
        name[: name.index("image_encoder.")] for name in names if "image_encoder." in name
    )
    prefix = before.most_common(1)[0][0] if before else ""
    return {name: name.removeprefix(prefix) for name in names}


def recognise(names: Iterable[str], header: Mapping[str, str], file_name: str) -> CheckpointKind:
    """Tell who wrote a file from its tensors' names, freed of prefixes.

    Raises
    ------
    CheckpointError
        It is none of the known kinds.
    """
    names = tuple(names)
    if header.get("format") == LITE_FORMAT:
        return CheckpointKind.LITE
    if header.get("format") == FORMAT:
        return CheckpointKind.SLIDESAM
    if any(name.startswith("image_encoder.") for name in names):
        if any(name.startswith("mask_decoder.branches.") for name in names):
            return CheckpointKind.SLIDESAM
        if any(name.startswith("mask_decoder.output_upscaling2.") for name in names):
            return CheckpointKind.PUBLISHED
        if any(name.startswith("mask_decoder.output_upscaling.") for name in names):
            return CheckpointKind.SAM
    if any(".lora_A." in name for name in names):
        raise CheckpointError(
            f"{file_name} is a LoRA adapter, not a network. Load the network that it was trained "
            "on and give the adapter's folder beside it."
        )
    raise CheckpointError(
        f"{file_name} holds none of the networks that this package knows (its own, Slide-SAM, "
        f"segment-anything, MedSAM): {len(names)} tensors, such as {shown(names[:3])}."
    )


def our_name(published: str) -> str:
    """Return what `SlideSam` calls a tensor of Slide-SAM or SAM."""
    wrapped = _WRAPPED_QKV.fullmatch(published)
    if wrapped:
        return f"{wrapped[1]}.{wrapped[2]}"
    for theirs, ours in _PUBLISHED_TO_OURS:
        if published.startswith(theirs):
            return ours + published.removeprefix(theirs)
    return published


def published_name(ours: str, kind: CheckpointKind) -> str:
    """Return what a file of this kind calls a tensor of `SlideSam`."""
    if kind in (CheckpointKind.SLIDESAM, CheckpointKind.LITE):
        return ours
    for theirs, name in _PUBLISHED_TO_OURS:
        if ours.startswith(name):
            head = "mask_decoder.output_upscaling." if _is_branch_of_sam(name, kind) else theirs
            return head + ours.removeprefix(name)
    return ours


def _is_branch_of_sam(name: str, kind: CheckpointKind) -> bool:
    return kind == CheckpointKind.SAM and ".branches." in name


def lora_part(name: str) -> tuple[int, str] | None:
    """Return (block, ``a_q``, ``b_q``, ``a_v`` or ``b_v``) of a published LoRA tensor, or None."""
    found = _LORA.fullmatch(name)
    return (int(found[1]), found[2]) if found else None


def is_known_extra(name: str) -> bool:
    """Whether a tensor that no network needs is harmless enough not to be mentioned."""
    return name in _KNOWN_EXTRAS


def state_shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the tensors' shapes by name."""
    return {name: tuple(t.shape) for name, t in state.items()}
