"""Networks by name or file, on a device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_slidesam.errors import CheckpointError, DeviceError
from napari_slidesam.model.weights import EMBEDDED_PATH, load_weights

if TYPE_CHECKING:
    from napari_slidesam.model.protocol import WindowModel

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"
"""The name of the network that ships with the package."""


def resolve_device(device: str) -> torch.device:
    """Return the device of this name; ``auto`` is CUDA where there is one, else the CPU.

    Raises
    ------
    DeviceError
        The name means nothing, or there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"A device is auto, cpu, cuda or cuda:N; got {device!r}.") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(
                f"Device {device!r} was asked for, but PyTorch finds no CUDA device here. Use "
                "the device 'cpu' or 'auto', or install a CUDA build of PyTorch and its driver."
            )
        if chosen.index is not None and chosen.index >= torch.cuda.device_count():
            raise DeviceError(
                f"Device {device!r} was asked for; there are {torch.cuda.device_count()}."
            )
    elif chosen.type != "cpu":
        raise DeviceError(f"A device is auto, cpu, cuda or cuda:N; got {device!r}.")
    return chosen


def load_model(name_or_path: str | Path = EMBEDDED, device: str = "auto") -> WindowModel:
    """Return a network ready to predict.

    Parameters
    ----------
    name_or_path : str or Path
        ``embedded``, or the path of a weights file.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    CheckpointError
        There is no such network, or the file is corrupt or foreign.
    DeviceError
        The device is not there.
    """
    target = resolve_device(device)
    if str(name_or_path) == EMBEDDED:
        path = EMBEDDED_PATH
    else:
        path = Path(name_or_path)
        if not path.exists():
            raise CheckpointError(
                f"There is no network named {str(name_or_path)!r} and no file of that path. "
                f"Use {EMBEDDED!r} or the path of a .safetensors file."
            )
    model = load_weights(path)
    model.to_device(target)
    logger.info("network %s on %s", model.name, target)
    return model
