"""The coarse network's weights as safetensors, with its dimensions in the header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.network import CoarseNetwork, with_last_feature
from napari_slidesam.model.small_weights import WeightsFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

COARSE_PATH = Path(__file__).parents[1] / "weights" / "coarse.safetensors"
"""The weights that ship."""

_WEIGHTS = WeightsFormat(
    "coarse", lambda values: CoarseNetwork(CoarseConfig.from_dict(values)), with_last_feature
)
FORMAT = _WEIGHTS.name
"""Stands in the file's header."""


def save_coarse(
    network: CoarseNetwork,
    path: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the weights, atomically.

    Parameters
    ----------
    network : CoarseNetwork
    path : Path
        Ends in ``.safetensors``.
    metadata : mapping of str to str
        Facts about the training, kept in the file's header.
    dtype : torch.dtype
        Type of the stored tensors.
    """
    _WEIGHTS.save(network, network.config, path, metadata, dtype)


def load_coarse(path: Path = COARSE_PATH) -> CoarseNetwork:
    """Return the network of a file of `save_coarse`, in evaluation mode, on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, corrupt or foreign.
    """
    return _WEIGHTS.load(path)
