"""What can go wrong while training, in words that say what to do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CPU_MEMORY = ("DefaultCPUAllocator", "out of memory", "not enough memory")


class NotFiniteError(TuningError):
    """The loss or its gradient is not finite: the weights of this step are not to be kept."""


@contextlib.contextmanager
def out_of_memory_explained(batch_size: int) -> Iterator[None]:
    """Say what helps where memory is full; let all other errors pass.

    Raises
    ------
    TuningError
        Instead of ``torch.OutOfMemoryError``, of the CPU allocator's error and of MemoryError.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TuningError(
            f"Memory is full with a batch of {batch_size} ({_first_line(error)}). What was trained "
            "is kept. Lower batch_size (raise accumulate by as much, and the result is the same), "
            "or turn on gradient checkpointing, and resume."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of a device or of the machine is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MEMORY)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
