"""The outline network's weights as safetensors, with its dimensions in the header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.network import OutlineNetwork
from napari_slidesam.model.small_weights import WeightsFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTLINE_PATH = Path(__file__).parents[1] / "weights" / "outline.safetensors"
"""The weights that ship."""

_WEIGHTS = WeightsFormat("outline", lambda values: OutlineNetwork(OutlineConfig.from_dict(values)))
FORMAT = _WEIGHTS.name
"""Stands in the file's header."""


def save_outline(
    network: OutlineNetwork,
    path: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the weights, atomically.

    Parameters
    ----------
    network : OutlineNetwork
    path : Path
        Ends in ``.safetensors``.
    metadata : mapping of str to str
        Facts about the training, kept in the file's header.
    dtype : torch.dtype
        Type of the stored tensors.
    """
    _WEIGHTS.save(network, network.config, path, metadata, dtype)


def load_outline(path: Path = OUTLINE_PATH) -> OutlineNetwork:
    """Return the network of a file of `save_outline`, in evaluation mode, on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, corrupt or foreign.
    """
    return _WEIGHTS.load(path)
