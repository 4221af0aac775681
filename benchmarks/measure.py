"""Timing and peak memory of a call, and what machine it ran on."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SAMPLE_SECONDS = 0.005
_PACKAGES = ("napari-slidesam", "torch", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall times of repeated calls, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The shortest one, least disturbed by other programs."""
        return min(self.seconds)


def timed(call: Callable[[], Any], *, repeats: int = 5, warm_up: int = 1) -> Timing:
    """Return the wall times of a call; CUDA's work is waited for."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        _wait_for_device()
        start = time.perf_counter()
        call()
        _wait_for_device()
        seconds.append(time.perf_counter() - start)
    return Timing(tuple(seconds))


@dataclass(slots=True)
class PeakMemory:
    """The most memory used inside a block, above what was in use before, in megabytes."""

    megabytes: float = 0.0


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Watch the process's resident memory; on CUDA also see ``torch.cuda``'s own counters."""
    process = psutil.Process()
    before = process.memory_info().rss
    found = PeakMemory()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            used = (process.memory_info().rss - before) / 1e6
            found.megabytes = max(found.megabytes, used)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def environment() -> dict[str, Any]:
    """Return device, threads and versions, to stand beside every figure."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cpu_threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("model name")]
        return lines[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor()


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
