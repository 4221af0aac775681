"""The processes of a run: one, or several that average their gradients.

The trainer's loop asks an ``accelerate.Accelerator`` for what `Processes` lists, and for no more:
placement is the task's, precision is torch's own autocast. So `OneProcess` does instead where
accelerate is not installed.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from typing import TYPE_CHECKING, Protocol, cast

import torch

from napari_slidesam.errors import DeviceError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn

logger = logging.getLogger(__name__)

PATIENCE = datetime.timedelta(hours=6)
"""How long a process waits for the others; only the main one validates and writes."""


class Processes(Protocol):
    """What the trainer needs of an ``accelerate.Accelerator``."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    @property
    def num_processes(self) -> int:
        """How many train together."""

    @property
    def process_index(self) -> int:
        """Rank of this one, from 0."""

    @property
    def is_main_process(self) -> bool:
        """Whether this one writes files."""

    def prepare_model(self, model: nn.Module) -> nn.Module:
        """Return the module whose backward pass averages gradients over the processes."""

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Keep gradients apart for a backward pass, where more are to come."""

    def reduce(self, tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        """Return a tensor added up over the processes, the same for all."""

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""


class OneProcess:
    """A run in one process, without accelerate.

    Parameters
    ----------
    device : str or torch.device
    """

    num_processes = 1
    process_index = 0
    is_main_process = True

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def prepare_model(self, model: nn.Module) -> nn.Module:
        """Return the module as it is."""
        return model

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Do nothing: there is nobody to average with."""
        return contextlib.nullcontext()

    def reduce(self, tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        """Return the tensor."""
        return tensor

    def wait_for_everyone(self) -> None:
        """Return at once."""


def processes_here() -> Processes:
    """Return the processes that ``accelerate launch`` or ``torchrun`` started, or this one alone.

    Where there are several, the task's network must lie on `Processes.device` before it is
    handed to the trainer. Without a GPU they train on the CPU.

    Raises
    ------
    DeviceError
        Several were started, and cannot find each other: accelerate is not installed.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        if launched > 1:
            # Each would train alone, and write over what the others write.
            raise DeviceError(
                f"{launched} processes were started, but accelerate, which brings them together, "
                "is not installed: pip install accelerate, or start one."
            ) from error
        logger.info("accelerate is not installed: one process trains alone")
        return OneProcess()
    # A batch of boxes leaves the weights of points without a gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    patient = InitProcessGroupKwargs(timeout=PATIENCE)
    # Without a GPU they find each other only where the CPU is asked for.
    is_cpu = launched > 1 and not (torch.cuda.is_available() or torch.xpu.is_available())
    accelerator = Accelerator(cpu=is_cpu, device_placement=False, kwargs_handlers=[unused, patient])
    return cast("Processes", accelerator)


def added_up(processes: Processes, *values: float) -> tuple[float, ...]:
    """Return numbers added up over the processes, so that all decide the same."""
    if processes.num_processes == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=processes.device)
    return tuple(processes.reduce(tensor, "sum").tolist())


def training_device(name: str, processes: Processes) -> torch.device:
    """Return the device to train on.

    Parameters
    ----------
    name : str
        Such as ``cpu``, ``cuda``, ``cuda:1``. Of several processes each takes its own instead.
    processes : Processes

    Raises
    ------
    DeviceError
        There is no such device.
    """
    if processes.num_processes > 1:
        return processes.device
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"A device is cpu, cuda, cuda:N or mps; {name!r} is not there ({error}). Take cpu, or "
            "install a torch that knows it."
        ) from error
    return device
