"""In which number type, layout and batch the image encoder runs fastest on this machine."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import torch

from napari_slidesam.errors import ConfigError
from napari_slidesam.model.protocol import WINDOW_SLICES

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_slidesam.model.sam.config import SamConfig
    from napari_slidesam.model.sam.encoder import ImageEncoder

logger = logging.getLogger(__name__)

NumberType = Literal["float32", "bfloat16", "float16"]
PrecisionMode = Literal["auto", "float32", "bfloat16", "float16"]

_MIN_GAIN = 1.1
"""A type of fewer bits, another layout or a larger batch must be this much faster."""

_MAX_BATCH = 8

_MEASURED: dict[tuple[str, SamConfig], Precision] = {}


@dataclass(frozen=True, slots=True)
class Precision:
    """How the image encoder is run.

    Parameters
    ----------
    number_type : str
        Type of the products inside the blocks; sums, patches and neck are float32.
    channels_last : bool
        Layout of the convolutions.
    batch : int
        Windows encoded at once; more windows are encoded one batch after the other.
    """

    number_type: NumberType = "float32"
    channels_last: bool = False
    batch: int = 1

    @property
    def dtype(self) -> torch.dtype:
        """The number type as torch names it."""
        dtype: torch.dtype = getattr(torch, self.number_type)
        return dtype

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def check_mode(mode: str) -> PrecisionMode:
    """Return the mode if it is one.

    Raises
    ------
    ConfigError
        It is none.
    """
    for known in get_args(PrecisionMode):
        if mode == known:
            found: PrecisionMode = known
            return found
    raise ConfigError(f"A precision is one of {', '.join(get_args(PrecisionMode))}; got {mode!r}.")


def number_types(device: torch.device) -> tuple[NumberType, ...]:
    """Return the types that this device computes in hardware, float32 first."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return ("float32", "bfloat16", "float16")
        return ("float32", "float16")
    # True with avx512_bf16 or AMX.
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ("float32", "bfloat16")
    return ("float32",)


def probe_precision(encoder: ImageEncoder, config: SamConfig) -> Precision:
    """Measure what is fastest for this encoder on its device; about a second, once a process.

    One block with windows and one without are timed on a quarter of the plane's patches; on
    CUDA also whole batches.
    """
    device = encoder.pos_embed.device
    key = (str(device), config)
    if key not in _MEASURED:
        _MEASURED[key] = _measure(encoder, config, device)
        logger.info("image encoder on %s: %s", device, _MEASURED[key])
    return _MEASURED[key]


@torch.inference_mode()
def _measure(encoder: ImageEncoder, config: SamConfig, device: torch.device) -> Precision:
    best = Precision()
    known = number_types(device)
    if len(known) > 1:
        seconds = {kind: _block_seconds(encoder, config, Precision(kind)) for kind in known}
        fastest = min(seconds, key=lambda kind: seconds[kind])
        if seconds[fastest] * _MIN_GAIN < seconds["float32"]:
            best = Precision(fastest)
    layouts = [replace(best, channels_last=flag) for flag in (False, True)]
    plain, last = (_convolution_seconds(encoder, config, layout) for layout in layouts)
    if last * _MIN_GAIN < plain:
        best = layouts[1]
    if device.type == "cuda":
        best = replace(best, batch=_best_batch(encoder, config, best))
    return best


def _block_seconds(encoder: ImageEncoder, config: SamConfig, precision: Precision) -> float:
    device = encoder.pos_embed.device
    side = max(1, config.grid_size // 2)
    x = torch.zeros(1, side, side, config.embed_dim, device=device)
    windowed = [i for i in range(config.depth) if i not in config.global_attn_indexes][:1]
    chosen = [encoder.blocks[i] for i in (*windowed, *config.global_attn_indexes[:1])]
    reduced = precision.number_type != "float32"

    def run() -> None:
        with torch.autocast(device.type, precision.dtype if reduced else None, enabled=reduced):
            for block in chosen:
                block(x)

    return _seconds(run, device)


def _convolution_seconds(encoder: ImageEncoder, config: SamConfig, precision: Precision) -> float:
    device = encoder.pos_embed.device
    side = max(1, config.grid_size // 2)
    pixels = side * config.patch_size
    images = torch.zeros(1, WINDOW_SLICES, pixels, pixels, device=device)
    patches = torch.zeros(1, side, side, config.embed_dim, device=device).permute(0, 3, 1, 2)
    encoder.set_layout(precision.memory_format)

    def run() -> None:
        encoder.patch_embed(images.contiguous(memory_format=precision.memory_format))
        encoder.neck(patches)

    return _seconds(run, device)


def _best_batch(encoder: ImageEncoder, config: SamConfig, precision: Precision) -> int:
    """Double the batch while windows per second rise and memory suffices."""
    device = encoder.pos_embed.device
    side = config.image_size
    best, per_window = 1, float("inf")
    size = 1
    while size <= _MAX_BATCH:
        images = torch.zeros(size, WINDOW_SLICES, side, side, device=device)
        try:
            seconds = _seconds(partial(encoder, images, dtype=precision.dtype), device) / size
        except torch.OutOfMemoryError:
            break
        if seconds * _MIN_GAIN > per_window:
            break
        best, per_window = size, seconds
        size *= 2
    return best


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the shorter of two runs after one that warms up."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
