"""Weights files of any kind that this package can use, recognised by what they hold."""

from __future__ import annotations

from napari_slidesam.model.checkpoints.loading import inspect_checkpoint, load_checkpoint
from napari_slidesam.model.checkpoints.report import CheckpointKind, CheckpointReport
from napari_slidesam.model.checkpoints.saving import save_checkpoint

__all__ = [
    "CheckpointKind",
    "CheckpointReport",
    "inspect_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
]
