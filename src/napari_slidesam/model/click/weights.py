"""The click network's weights as safetensors, with its dimensions in the header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.network import ClickNetwork
from napari_slidesam.model.small_weights import WeightsFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

CLICK_PATH = Path(__file__).parents[1] / "weights" / "click.safetensors"
"""The weights that ship."""

_WEIGHTS = WeightsFormat("click", lambda values: ClickNetwork(ClickConfig.from_dict(values)))
FORMAT = _WEIGHTS.name
"""Stands in the file's header."""


def save_click(
    network: ClickNetwork,
    path: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the weights, atomically.

    Parameters
    ----------
    network : ClickNetwork
    path : Path
        Ends in ``.safetensors``.
    metadata : mapping of str to str
        Facts about the training, kept in the file's header.
    dtype : torch.dtype
        Type of the stored tensors.
    """
    _WEIGHTS.save(network, network.config, path, metadata, dtype)


def load_click(path: Path = CLICK_PATH) -> ClickNetwork:
    """Return the network of a file of `save_click`, in evaluation mode, on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, corrupt or foreign.
    """
    return _WEIGHTS.load(path)
