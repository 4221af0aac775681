"""The network in use: loaded in the worker's thread, described for the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import torch

from napari_slidesam.engine.embedding_store import EmbeddingStore
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.errors import CheckpointError, SlideSamError
from napari_slidesam.geometry import Box
from napari_slidesam.gui.compilers import leave_compiler_out
from napari_slidesam.gui.settings import PLUGIN
from napari_slidesam.gui.state import DeviceState
from napari_slidesam.jobs.adapter_files import adapters
from napari_slidesam.model.catalogue import EMBEDDED
from napari_slidesam.model.library import available_models
from napari_slidesam.model.registry import load_model
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from napari_slidesam.gui.state import SegmentSettings

_GIB = 2**30

NetworkKey = tuple[str, str, str | None, bool]
"""Model, device, adapter, and whether embeddings are kept on disk."""


class Network:
    """Holds one predictor; loads another where the settings ask for it.

    Only the worker's thread calls `load` and `predictor`.
    """

    def __init__(self) -> None:
        self._predictor: Predictor | None = None
        self._wanted: NetworkKey | None = None

    @property
    def name(self) -> str:
        """Name of the network in use; empty while there is none."""
        predictor = self._predictor
        return "" if predictor is None else predictor.model.name

    @staticmethod
    def key(settings: SegmentSettings) -> NetworkKey:
        """Return what of the settings decides which network is used, and how."""
        return (settings.model, settings.device, settings.adapter, settings.keep_embeddings)

    def load(
        self, settings: SegmentSettings, cancelled: threading.Event
    ) -> Iterator[tuple[str, DeviceState]]:
        """Load the network that the settings ask for; yield its name and its device's state.

        Raises
        ------
        SlideSamError
            It cannot be loaded; the next run tries again.
        """
        predictor = self.predictor(settings)
        _warm_up(predictor)
        if not cancelled.is_set():
            yield predictor.model.name, device_state(predictor.model.device)

    def predictor(self, settings: SegmentSettings) -> Predictor:
        """Return the predictor of the settings' network, loaded where it is not yet."""
        wanted = self.key(settings)
        if self._predictor is None or wanted != self._wanted:
            self._predictor, self._wanted = None, None  # frees its memory before the next one
            leave_compiler_out()  # a network may need parts of PyTorch that are not there yet
            try:
                model = load_model(settings.model, settings.device, adapter=settings.adapter)
            except RuntimeError as error:  # a network that does not fit on the device
                raise CheckpointError(
                    f"The network {settings.model!r} cannot be put on {settings.device!r}: "
                    f"{error}. Choose the CPU or a smaller network."
                ) from error
            store = EmbeddingStore(embeddings_folder()) if settings.keep_embeddings else None
            self._predictor, self._wanted = Predictor(model, store=store), wanted
        return self._predictor


def _warm_up(predictor: Predictor) -> None:
    """Predict a little, so that the first box does not wait for what PyTorch makes once."""
    volume = Volume(np.zeros((3, 32, 32), dtype=np.float32))
    prompts = ObjectPrompts(1, (BoxPrompt(1, Box(8.0, 8.0, 24.0, 24.0)),))
    for _ in propagate(predictor, volume, [prompts]):
        pass


def embeddings_folder() -> Path:
    """Return where embeddings are kept on disk; the folder need not exist."""
    return platformdirs.user_cache_path(PLUGIN, appauthor=False) / "embeddings"


def device_state(device: torch.device | None = None) -> DeviceState:
    """Return the devices of this computer and a line on the one in use."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ("auto", "cpu", *(f"cuda:{i}" for i in range(count)))
    if device is None:
        return DeviceState(names, "loading the network ...")
    if device.type != "cuda":
        n_threads = torch.get_num_threads()
        return DeviceState(names, f"{device}, {n_threads} thread{'s' if n_threads > 1 else ''}")
    free, total = torch.cuda.mem_get_info(device)
    used = f"{(total - free) / _GIB:.1f} of {total / _GIB:.0f} GiB used"
    return DeviceState(names, f"{device}, {used}")


def model_names() -> tuple[str, ...]:
    """Return the names of the networks that are on this computer, beside the embedded one."""
    try:
        return tuple(e.name for e in available_models() if e.is_ready and e.name != EMBEDDED)
    except SlideSamError:  # a list of one's own networks that cannot be read
        return ()


def adapter_folders() -> tuple[str, ...]:
    """Return the folders of the adapters that lie beside the networks."""
    return tuple(str(adapter.folder) for adapter in adapters())
