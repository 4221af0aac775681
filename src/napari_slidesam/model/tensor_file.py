"""Writing tensors as safetensors."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


def write_tensors(
    tensors: dict[str, torch.Tensor], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a file that others may read where the user's new files may be.

    ``save_file`` alone leaves one that only its owner can read, so that nobody else of a group
    could use the weights in a shared folder.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Contiguous, on the CPU.
    path : Path
    metadata : mapping of str to str
        For the file's header.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(tensors, path, metadata=dict(metadata))
    path.chmod(mode)
