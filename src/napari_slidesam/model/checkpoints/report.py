"""What a weights file was found to hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_SHOWN_NAMES = 5


class CheckpointKind(StrEnum):
    """Who wrote a weights file; recognised from the tensors' names, not from the file's."""

    LITE = "slidesam-lite"
    """This package's embedded network."""
    SLIDESAM = "slidesam"
    """This package's `SlideSam`, with or without an adapter."""
    PUBLISHED = "slide-sam"
    """The published Slide-SAM."""
    SAM = "sam"
    """segment-anything; MedSAM's tensors have the same names and shapes as its ViT-B."""


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """What was found in a weights file; tensors by the names that the file uses.

    Parameters
    ----------
    file_name : str
    kind : CheckpointKind
    encoder : str
        ``vit_b``, ``vit_l``, ``vit_h``, ``vit`` for another size, or ``lite``.
    found : tuple of str
        Tensors that are used.
    missing : tuple of str
        Tensors that the network needs and the file lacks; such a file is not loaded.
    unexpected : tuple of str
        Tensors and other entries that are not used.
    made : tuple of str
        Parts of the network that SAM lacks, made from its own as the paper does (2.2).
    adapter_rank : int, optional
        Rank of the LoRA adapter in the file.
    """

    file_name: str
    kind: CheckpointKind
    encoder: str
    found: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    adapter_rank: int | None = None

    @property
    def summary(self) -> str:
        """One sentence for people."""
        parts = [f"{self.file_name}: {self.kind} ({self.encoder}), {len(self.found)} tensors found"]
        if self.adapter_rank is not None:
            parts.append(f"LoRA of rank {self.adapter_rank}")
        for label, names in (
            ("made", self.made),
            ("missing", self.missing),
            ("unexpected", self.unexpected),
        ):
            if names:
                parts.append(f"{len(names)} {label} ({shown(names)})")
        return ", ".join(parts) + "."


def shown(names: tuple[str, ...]) -> str:
    """Return the first few names, for a message."""
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
