"""`SlideSam` as one safetensors file, with its dimensions and its adapter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.model.adapters import (
    adapter_settings,
    adapter_state,
    base_state,
    has_adapter,
)
from napari_slidesam.model.checkpoints.names import ADAPTER_PREFIX, FORMAT
from napari_slidesam.model.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_slidesam.model.sam.network import SlideSam


def save_checkpoint(
    model: SlideSam,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write the network, atomically; an adapter that is not merged is kept apart in the file.

    Parameters
    ----------
    model : SlideSam
    path : Path
        Ends in ``.safetensors``.
    metadata : mapping of str to str, optional
        Facts about the training, kept in the file's header.
    dtype : torch.dtype
        Type of the stored tensors.
    overwrite : bool
        Replace the file where it exists.

    Raises
    ------
    FileFormatError
        The file exists and ``overwrite`` is false, or it cannot be written.
    """
    tensors = base_state(model)
    header = {
        **(metadata or {}),
        "format": FORMAT,
        "name": model.name,
        "config": json.dumps(model.config.to_dict()),
    }
    if has_adapter(model):
        header["adapter"] = json.dumps(adapter_settings(model).to_dict())
        tensors |= {ADAPTER_PREFIX + name: t for name, t in adapter_state(model).items()}
    stored = {name: t.detach().to("cpu", dtype).contiguous() for name, t in tensors.items()}
    with replacing_file(path, overwrite=overwrite) as partial:
        write_tensors(stored, partial, header)
