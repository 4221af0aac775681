"""Tensors of a file, whatever wrote it, without running anything that the file holds."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from napari_slidesam.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

_ZIP, _PICKLE = b"PK", b"\x80"
"""First bytes of what ``torch.save`` writes today, and wrote before 1.6."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Entries under which training scripts keep the network beside the optimiser."""

_CODE_MARKS = ("GLOBAL", "Unsupported", "unsupported", "blocked", "weights_only")
"""In torch's message where a pickle holds more than tensors and plain containers."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensors:
    """What a file holds.

    Parameters
    ----------
    tensors : dict of str to Tensor
        On the CPU, in the stored types.
    header : dict of str to str
        A safetensors file's metadata.
    other_entries : tuple of str
        Entries that are no tensors.
    """

    tensors: dict[str, torch.Tensor]
    header: dict[str, str]
    other_entries: tuple[str, ...] = ()


def read_tensors(path: Path) -> StoredTensors:
    """Read a safetensors file or one of ``torch.save``.

    Raises
    ------
    CheckpointError
        The file is missing, empty, truncated, of another kind, or a pickle that holds more
        than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file at {path}. Check the path.")
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Check its permissions.") from error
    if not start:
        raise CheckpointError(f"{path.name} is empty. Copy or download it again.")
    if start == _ZIP or start[:1] == _PICKLE:
        return _read_torch(path)
    return _read_safetensors(path)


def _read_safetensors(path: Path) -> StoredTensors:
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} is neither a readable safetensors file nor one of torch.save ({error}). "
            "It may be truncated or of another program: copy or download it again."
        ) from error
    return StoredTensors(tensors, header)


def _read_torch(path: Path) -> StoredTensors:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(mark in str(error) for mark in _CODE_MARKS):
            raise CheckpointError(
                f"{path.name} holds Python objects besides tensors. Loading them could run any "
                "code, so the file is refused. Ask its author for a plain state dict or a "
                ".safetensors file."
            ) from error
        raise _damaged(path, error) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise _damaged(path, error) from error
    return _unwrapped(path, content)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(
        f"{path.name} cannot be read as weights ({reason}). It may be truncated or of another "
        "program: copy or download it again."
    )


def _unwrapped(path: Path, content: object) -> StoredTensors:
    """Find the state dict, which may lie beside an optimiser's."""
    others: list[str] = []
    while isinstance(content, dict):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        others += [str(k) for k, v in content.items() if not isinstance(v, torch.Tensor | dict)]
        if tensors:
            return StoredTensors(tensors, {}, tuple(others))
        inner = next((w for w in _WRAPPERS if isinstance(content.get(w), dict)), None)
        if inner is None:
            break
        others += [str(k) for k, v in content.items() if isinstance(v, dict) and k != inner]
        content = content[inner]
    raise CheckpointError(
        f"{path.name} holds no state dict: a dictionary of tensors is expected, or one under "
        f"{', '.join(_WRAPPERS)}. Save the network with torch.save(model.state_dict(), path)."
    )
