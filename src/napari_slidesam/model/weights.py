"""The embedded network's weights as safetensors, with its dimensions in the header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "napari-slidesam/slidesam-lite"
EMBEDDED_PATH = Path(__file__).parent / "weights" / "slidesam_lite.safetensors"


def save_weights(
    model: SlideSamLite,
    path: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the weights, atomically.

    Parameters
    ----------
    model : SlideSamLite
    path : Path
        Ends in ``.safetensors``.
    metadata : mapping of str to str
        Facts about the training, kept in the file's header.
    dtype : torch.dtype
        Type of the stored floating-point tensors.
    """
    tensors = {
        name: (t.to(dtype) if t.is_floating_point() else t).contiguous().cpu()
        for name, t in model.state_dict().items()
    }
    header = {
        **metadata,
        "format": FORMAT,
        "name": model.name,
        "config": json.dumps(model.config.to_dict()),
    }
    partial = path.with_name(path.name + ".partial")
    write_tensors(tensors, partial, header)
    os.replace(partial, path)


def read_header(path: Path) -> dict[str, str]:
    """Return the metadata of a weights file of this package.

    Raises
    ------
    CheckpointError
        The file is missing, unreadable, or of another program.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file at {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path.name} is not a readable safetensors file ({error}). It may be truncated: "
            "copy or download it again."
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name} holds no weights of this package's embedded network (format "
            f"{header.get('format')!r}, expected {FORMAT!r})."
        )
    return header


def load_weights(path: Path) -> SlideSamLite:
    """Return the network stored in ``path``, on the CPU, in float32, in evaluation mode.

    Raises
    ------
    CheckpointError
        The file is missing, corrupt, of another program, or its tensors do not fit.
    """
    header = read_header(path)
    try:
        config = LiteConfig.from_dict(json.loads(header["config"]))
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (KeyError, ValueError, SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is damaged ({error}). Copy it again.") from error
    model = SlideSamLite(config, name=header.get("name", path.stem))
    state = {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path.name} does not fit its own dimensions: {error}") from error
    return model.eval().requires_grad_(False)
