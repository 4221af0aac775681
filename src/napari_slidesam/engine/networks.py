"""What the predictor asks: windows and prompts in, predictions out.

Which of the two kinds serves a model is decided once, by `network_for`::

    PlainNetwork                    predict_windows(windows, prompts)

    EmbeddingNetwork   memory -> disk -> embed_windows(windows)
                                    predict_embedded(embeddings, prompts)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from napari_slidesam.engine.batching import Batches, joined, on_cpu
from napari_slidesam.engine.embeddings import EmbeddingNetwork
from napari_slidesam.model.protocol import EmbeddingModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_slidesam.engine.embedding_store import EmbeddingStore
    from napari_slidesam.engine.windows import Window
    from napari_slidesam.model.protocol import WindowModel, WindowPrediction, WindowPrompt


class Network(Protocol):
    """A model that is given windows and prompts, some at a time."""

    decoding: Batches
    """How many prompts are answered at once."""

    @property
    def looks_ahead(self) -> bool:
        """Whether it does anything with the windows that come next."""

    def predict(
        self,
        windows: Sequence[Window],
        prompts: Sequence[WindowPrompt],
        ahead: Sequence[Callable[[], Window]] = (),
    ) -> WindowPrediction:
        """Predict B windows; the result is on the CPU.

        Parameters
        ----------
        windows : sequence of B Window
        prompts : sequence of B WindowPrompt
        ahead : sequence of callables
            Each reads a window that is likely to be asked for next.

        Raises
        ------
        InferenceError
            The network failed.
        """


def network_for(
    model: WindowModel, max_batch: int, store: EmbeddingStore | None = None
) -> PlainNetwork | EmbeddingNetwork:
    """Return the network that makes the best of a model."""
    if isinstance(model, EmbeddingModel):
        return EmbeddingNetwork(model, max_batch, store)
    return PlainNetwork(model, max_batch)


class PlainNetwork:
    """A model that sees pixels and prompts together; see `Network`."""

    looks_ahead = False

    def __init__(self, model: WindowModel, max_batch: int) -> None:
        self.model = model
        self.decoding = Batches(model, max_batch)

    def predict(
        self,
        windows: Sequence[Window],
        prompts: Sequence[WindowPrompt],
        ahead: Sequence[Callable[[], Window]] = (),
    ) -> WindowPrediction:
        """Predict B windows."""
        pixels = torch.from_numpy(np.stack([window.pixels() for window in windows]))
        rows = list(zip(pixels, prompts, strict=True))
        return joined(self.decoding.run(rows, self._call))

    def _call(self, rows: Sequence[tuple[torch.Tensor, WindowPrompt]]) -> WindowPrediction:
        windows = torch.stack([pixels for pixels, _ in rows]).to(self.model.device)
        return on_cpu(self.model.predict_windows(windows, [prompt for _, prompt in rows]))
