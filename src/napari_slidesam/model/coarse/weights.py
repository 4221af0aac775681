"""The coarse network's weights as safetensors, with its dimensions in the header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.network import CoarseNetwork
from napari_slidesam.model.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "napari-slidesam/coarse"
COARSE_PATH = Path(__file__).parents[1] / "weights" / "coarse.safetensors"
"""The weights that ship."""

_LAST_FEATURE = 8
"""Channels of one feature in the stem: each 2x2x2 voxels are put together there."""


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
    tensors = {k: t.to(dtype).contiguous().cpu() for k, t in network.state_dict().items()}
    config = json.dumps(network.config.to_dict())
    header = {**metadata, "format": FORMAT, "config": config}
    partial = path.with_name(path.name + ".partial")
    write_tensors(tensors, partial, header)
    os.replace(partial, path)


def load_coarse(path: Path = COARSE_PATH) -> CoarseNetwork:
    """Return the network of a file of `save_coarse`, in evaluation mode, on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, corrupt or foreign.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} does not hold a coarse network of napari-slidesam; give a file that "
                    "`napari-slidesam train coarse` wrote."
                )
            tensors = {k: file.get_tensor(k).float() for k in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"The coarse network's weights cannot be read: {path} ({error}). Install the package "
            "again."
        ) from error
    try:
        network = CoarseNetwork(CoarseConfig.from_dict(json.loads(header["config"])))
        network.load_state_dict(_with_new_features(tensors, network))
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is damaged: its settings and tensors do not fit ({error}). Copy it again."
        ) from error
    return network.eval().requires_grad_(False)


def _with_new_features(
    tensors: dict[str, torch.Tensor], network: CoarseNetwork
) -> dict[str, torch.Tensor]:
    """Give weights from before the last channel was there zeros for it: it changes nothing."""
    stem = tensors["stem.weight"]
    missing = network.stem.in_channels - stem.shape[1]
    if missing != _LAST_FEATURE:
        return tensors
    zeros = stem.new_zeros(stem.shape[0], missing, *stem.shape[2:])
    return {**tensors, "stem.weight": torch.cat([stem, zeros], dim=1)}
