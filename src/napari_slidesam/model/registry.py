"""Networks by name or file, on a device."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from napari_slidesam.errors import DeviceError
from napari_slidesam.model.catalogue import EMBEDDED
from napari_slidesam.model.library import ModelLibrary
from napari_slidesam.model.weights import EMBEDDED_PATH, load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from napari_slidesam.model.protocol import WindowModel

logger = logging.getLogger(__name__)


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


def load_model(
    name_or_path: str | Path = EMBEDDED,
    device: str = "auto",
    *,
    adapter: str | Path | None = None,
) -> WindowModel:
    """Return a network ready to predict.

    Parameters
    ----------
    name_or_path : str or Path
        ``embedded``, a known name (see `library.available_models`), one of the user's own names,
        or the path of a weights file. Nothing is downloaded.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    adapter : str or Path, optional
        Folder of a LoRA adapter that is put on the network.

    Raises
    ------
    CheckpointError
        There is no such network, it is not downloaded yet, or the file is corrupt or foreign.
    DeviceError
        The device is not there.
    FileFormatError
        The list of the user's own networks cannot be read.
    """
    target = resolve_device(device)
    path = ModelLibrary().resolve(name_or_path)
    model = _load(path, target, adapter)
    logger.info("network %s on %s", model.name, target)
    return model


def _load(path: Path, device: torch.device, adapter: str | Path | None) -> WindowModel:
    if path == EMBEDDED_PATH and adapter is None:
        # Not by way of peft and transformers: importing them takes longer than its first masks.
        model = load_weights(path)
        model.to_device(device)
        return model
    from napari_slidesam.model.checkpoints import load_checkpoint

    return load_checkpoint(path, device, adapter=adapter)
