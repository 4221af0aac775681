"""Embedding a whole volume ahead of time, so that every prompt on it is answered at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor, WindowRequest
from napari_slidesam.engine.windows import Window
from napari_slidesam.errors import ConfigError
from napari_slidesam.geometry import Box
from napari_slidesam.slice_cache import SliceCache

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from napari_slidesam.engine.embeddings import EmbeddingNetwork
    from napari_slidesam.engine.windows import Frame
    from napari_slidesam.volume import Volume


@dataclass(frozen=True, slots=True)
class EmbeddingProgress:
    """How far a volume is embedded.

    Parameters
    ----------
    done, total : int
        Windows.
    position : Fraction
        Centre of the last window done, along the slice axis.
    was_known : bool
        Its embedding was kept already, in memory or on disk.
    """

    done: int
    total: int
    position: Fraction
    was_known: bool


def precompute(
    predictor: Predictor,
    volume: Volume,
    axis: str | int = 0,
    config: PropagationConfig | None = None,
    *,
    cancel: threading.Event | None = None,
) -> Iterator[EmbeddingProgress]:
    """Embed every window of a volume along an axis.

    The embeddings go to the predictor's memory, as far as it holds them, and to its store, from
    where `propagate` takes them. What is kept already is passed over, so a run that was ended
    goes on where it was.

    Parameters
    ----------
    predictor : Predictor
        Of a network with embeddings, such as the paper's.
    volume : Volume
    axis : int or str
    config : PropagationConfig, optional
        That of the propagation to come: embeddings depend on its intensity, inserted slices and
        quirks.
    cancel : threading.Event, optional
        Once set, no further window is embedded.

    Yields
    ------
    EmbeddingProgress
        One a window, in the order of the slices.

    Raises
    ------
    ConfigError
        The network has no embeddings or looks elsewhere for every prompt, or the intensity
        depends on the prompted slice.
    InferenceError
        The network failed.
    VolumeError
        A slice cannot be read, or there is no such axis.
    """
    config = (config or PropagationConfig()).resolved()
    predictor.limit_embeddings(config.embedding_cache_bytes)
    network = predictor.embeddings
    if network is None:
        raise ConfigError(
            f"The network {predictor.model.name} sees image and prompt together: it has no "
            "embeddings to make ahead. Choose one of the paper's networks."
        )
    requests = _requests(volume, axis, config)
    frame = _common_frame(predictor, requests[0])
    start = 0
    while start < len(requests) and not (cancel is not None and cancel.is_set()):
        part = requests[start : start + network.encoding.size]
        for request, was_known in zip(part, _embed(network, part, frame), strict=True):
            start += 1
            yield EmbeddingProgress(start, len(requests), Fraction(request.position), was_known)


def _embed(network: EmbeddingNetwork, requests: list[WindowRequest], frame: Frame) -> list[bool]:
    """Embed what is not known; return for each window whether it was."""
    windows = [Window.read(request, frame) for request in requests]
    known = [network.is_known(window) for window in windows]
    network.embed([window for window, is_known in zip(windows, known, strict=True) if not is_known])
    return known


def _requests(volume: Volume, axis: str | int, config: PropagationConfig) -> list[WindowRequest]:
    """Return a request for every window that propagation may centre along an axis."""
    if config.intensity.kind == "percentiles":
        raise ConfigError(
            "Intensity 'percentiles' is taken around the prompted slice, so embeddings cannot be "
            "made before there is one. Use 'window', 'ct', 'mr' or 'limits'."
        )
    stack = volume.along(axis)
    slices = SliceCache(stack, config.cache_bytes)
    parts = config.slice_parts(stack)
    margin = 1 if config.quirks.inner_windows and stack.n_slices > 2 else 0
    first, last = margin, stack.n_slices - 1 - margin
    low_high = config.intensity.fixed_range(stack, 0)
    whole = Box(0, 0, *stack.plane_shape_yx)
    return [
        WindowRequest(
            slices=slices,
            position=Fraction(position, parts),
            step=Fraction(1, parts),
            box=whole,
            low_high=low_high,
            quirks=config.quirks,
        )
        for position in range(first * parts, last * parts + 1)
    ]


def _common_frame(predictor: Predictor, request: WindowRequest) -> Frame:
    """Return the frame in which the network sees every prompt of a plane."""
    (frame, *_) = predictor.frames(request)
    height, width = request.slices.stack.plane_shape_yx
    corner = Box(0, 0, math.ceil(height / 2), math.ceil(width / 2))
    views = predictor.model.viewports(corner, (), (height, width))
    if any((v.y0, v.x0, v.size) != (frame.outer.y0, frame.outer.x0, frame.size) for v in views):
        raise ConfigError(
            f"The network {predictor.model.name} looks at the surroundings of each prompt: its "
            "embeddings cannot be made before there is one."
        )
    return frame
