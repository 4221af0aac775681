"""Embeddings of windows: made once, kept, shared by all prompts, objects and directions."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_slidesam.engine.batching import Batches, joined, on_cpu
from napari_slidesam.engine.config import EMBEDDING_CACHE_BYTES
from napari_slidesam.errors import SlideSamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_slidesam.engine.embedding_store import EmbeddingStore
    from napari_slidesam.engine.windows import Window
    from napari_slidesam.model.protocol import EmbeddingModel, WindowPrediction, WindowPrompt

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""A network's fingerprint and a window's digest."""


class EmbeddingCache:
    """The embeddings used last, up to a number of bytes; safe to use from several threads.

    They are kept in the computer's memory, not the device's: 4 MB each for the paper's network,
    copied in a millisecond, and there when the network moves.

    Parameters
    ----------
    max_bytes : int
        Embeddings beyond it are forgotten, the longest unused first. The last one stays.
    """

    def __init__(self, max_bytes: int = EMBEDDING_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Key, torch.Tensor] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def n_bytes(self) -> int:
        """Bytes kept."""
        return self._n_bytes

    @property
    def max_bytes(self) -> int:
        """Bytes kept at most; setting it forgets what is too much."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        with self._lock:
            self._max_bytes = value
            self._forget()

    def get(self, key: Key) -> torch.Tensor | None:
        """Return an embedding, shape (C, h, w), or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Key, embedding: torch.Tensor) -> None:
        """Keep an embedding, shape (C, h, w), on the CPU."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._n_bytes += embedding.nbytes - (0 if before is None else before.nbytes)
            self._kept[key] = embedding
            self._forget()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self._n_bytes = 0

    def _forget(self) -> None:
        while self._n_bytes > self._max_bytes and len(self._kept) > 1:
            self._n_bytes -= self._kept.popitem(last=False)[1].nbytes


class EmbeddingNetwork:
    """A model whose windows are embedded once, whatever is asked of them.

    One of the two kinds of `napari_slidesam.engine.networks.Network`.

    Parameters
    ----------
    model : EmbeddingModel
    max_batch : int
        Prompts answered at once, and windows embedded at once on a GPU. On the CPU one window
        is embedded at a time: more cost memory and gain nothing.
    store : EmbeddingStore, optional
        Embeddings kept on disk, beside those in memory.
    looks_ahead : bool, optional
        Embed the windows that come next in a thread and a CUDA stream of its own, while the
        present ones are decoded and their masks worked on. None: on CUDA.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        max_batch: int,
        store: EmbeddingStore | None = None,
        *,
        looks_ahead: bool | None = None,
    ) -> None:
        self.model = model
        self.cache = EmbeddingCache()
        self.store = store
        self._looks_ahead = looks_ahead
        self._ahead = _Background()
        settle = self._ahead.finish
        self.decoding = Batches(model, max_batch, settle)
        n_encoded = 1 if model.device.type == "cpu" else max_batch
        self.encoding = Batches(model, n_encoded, settle)

    @property
    def looks_ahead(self) -> bool:
        """Whether windows that come next are embedded meanwhile."""
        if self._looks_ahead is None:
            return self.model.device.type == "cuda"
        return self._looks_ahead

    def predict(
        self,
        windows: Sequence[Window],
        prompts: Sequence[WindowPrompt],
        ahead: Sequence[Callable[[], Window]] = (),
    ) -> WindowPrediction:
        """Predict B windows."""
        embeddings = self.embed(windows)
        if ahead and self.looks_ahead:
            self._ahead.start(lambda: self._embed_ahead(ahead))
        rows = list(zip(embeddings, prompts, strict=True))
        return joined(self.decoding.run(rows, self._decode))

    def embed(self, windows: Sequence[Window]) -> list[torch.Tensor]:
        """Return the embeddings of windows, each of shape (C, h, w), on the CPU.

        Raises
        ------
        InferenceError
            The network failed.
        """
        found = self._known(windows)
        if any(window.digest not in found for window in windows):
            self._ahead.finish()  # it may be at one of these
            found |= self._known([w for w in windows if w.digest not in found])
        missing = {w.digest: w for w in windows if w.digest not in found}
        for part in self.encoding.run(list(missing.values()), self._encode):
            found |= part
        return [found[window.digest] for window in windows]

    def is_known(self, window: Window) -> bool:
        """Whether a window's embedding is kept, in memory or on disk."""
        key = (self.model.fingerprint, window.digest)
        in_memory = self.cache.get(key) is not None
        return in_memory or (self.store is not None and self.store.has(*key))

    def _known(self, windows: Sequence[Window]) -> dict[str, torch.Tensor]:
        fingerprint = self.model.fingerprint
        found: dict[str, torch.Tensor] = {}
        for window in windows:
            key = (fingerprint, window.digest)
            embedding = self.cache.get(key)
            if embedding is None and self.store is not None:
                embedding = self.store.get(*key)
                if embedding is not None:
                    self.cache.put(key, embedding)
            if embedding is not None:
                found[window.digest] = embedding
        return found

    def _encode(self, windows: Sequence[Window]) -> dict[str, torch.Tensor]:
        """Embed windows and keep the embeddings; under `torch.inference_mode`."""
        pixels = torch.from_numpy(np.stack([window.pixels() for window in windows]))
        embeddings = self.model.embed_windows(pixels.to(self.model.device))
        fingerprint = self.model.fingerprint
        found: dict[str, torch.Tensor] = {}
        for window, row in zip(windows, embeddings, strict=True):
            # A copy: a row of the batch would keep the whole batch.
            embedding = row.detach().cpu().clone(memory_format=torch.contiguous_format)
            found[window.digest] = embedding
            self.cache.put((fingerprint, window.digest), embedding)
            if self.store is not None:
                self.store.put(fingerprint, window.digest, embedding)
        return found

    def _embed_ahead(self, ahead: Sequence[Callable[[], Window]]) -> None:
        """Embed windows that may be asked for next; what fails is left to whoever asks."""
        device = self.model.device
        stream: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if device.type == "cuda":
            stream = torch.cuda.stream(torch.cuda.Stream(device))
        try:
            windows = {window.digest: window for window in (read() for read in ahead)}
            missing = [window for window in windows.values() if not self.is_known(window)]
            with torch.inference_mode(), stream:
                for start in range(0, len(missing), self.encoding.size):
                    self._encode(missing[start : start + self.encoding.size])
        except (RuntimeError, SlideSamError) as error:
            logger.debug("windows were not embedded ahead: %s", error)

    def _decode(self, rows: Sequence[tuple[torch.Tensor, WindowPrompt]]) -> WindowPrediction:
        embeddings = _stacked([embedding for embedding, _ in rows], self.model.device)
        return on_cpu(self.model.predict_embedded(embeddings, [prompt for _, prompt in rows]))


class _Background:
    """One thread that does one thing after the other, made when it is first used."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._under_way: list[Future[None]] = []

    def start(self, work: Callable[[], None]) -> None:
        """Do this when all before it is done."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="embed-ahead")
        self._under_way = [f for f in self._under_way if not f.done()]
        self._under_way.append(self._executor.submit(work))

    def finish(self) -> None:
        """Wait until nothing is under way."""
        wait(self._under_way)
        self._under_way = []


def _stacked(embeddings: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Return embeddings as one batch on the device, each different one copied there once."""
    unique = list({id(embedding): embedding for embedding in embeddings}.values())
    on_device = torch.stack(unique).to(device) if len(unique) > 1 else unique[0][None].to(device)
    if len(unique) == len(embeddings):
        return on_device
    if len(unique) == 1:
        return on_device.expand(len(embeddings), -1, -1, -1)
    places = {id(embedding): i for i, embedding in enumerate(unique)}
    return on_device[[places[id(embedding)] for embedding in embeddings]]
