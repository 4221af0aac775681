"""A coarse look with the weights that ship, for networks that can use one."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_slidesam.model.coarse.features import KnownSlices
from napari_slidesam.model.coarse.weights import load_coarse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_slidesam.model.coarse.config import CoarseConfig
    from napari_slidesam.model.coarse.crops import CropGrid, ReadPlane
    from napari_slidesam.model.coarse.network import CoarseNetwork


class CoarseLook:
    """The coarse network, from a volume's planes to logits; always on the CPU: it is small.

    Parameters
    ----------
    network : CoarseNetwork
    """

    def __init__(self, network: CoarseNetwork) -> None:
        self._network = network

    @property
    def config(self) -> CoarseConfig:
        """What the network sees."""
        return self._network.config

    def __call__(
        self, grid: CropGrid, read_plane: ReadPlane, masks: Mapping[int, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        """Return the object's logits in a cube.

        Parameters
        ----------
        grid : CropGrid
        read_plane : callable
            Takes a slice index and a `Region`, returns stored values of that shape.
        masks : mapping of int to ndarray of bool, shape ``grid.region.shape_yx``
            The object on the slices that are known, by their indices; the grid's own is among
            them. Those outside the cube, and those closer to the grid's own than a voxel, say
            nothing.

        Returns
        -------
        ndarray of float32, shape (N, N, N)
            The object is where they are > 0.
        """
        image = torch.from_numpy(grid.image(read_plane))
        places = {index: grid.place_of_slice(index) for index in masks}
        own = min(places, key=lambda index: abs(index - grid.anchor))
        others = [i for i, place in places.items() if 0 <= place <= self.config.side - 1]
        others = [i for i in others if abs(places[i] - places[own]) >= 1]
        drawn = np.stack([grid.mask(masks[i]) for i in (own, *others)])
        where = np.array([places[i] for i in (own, *others)], dtype=np.float32)
        known = KnownSlices(torch.from_numpy(drawn)[None], torch.from_numpy(where)[None])
        with torch.inference_mode():
            logits = self._network(image[None], known, torch.from_numpy(grid.inside())[None])
        out: NDArray[np.float32] = logits[0].float().numpy()
        return out


@lru_cache(maxsize=1)
def embedded_look() -> CoarseLook:
    """Return the look with the weights that ship.

    Raises
    ------
    CheckpointError
        They are missing or corrupt.
    """
    return CoarseLook(load_coarse())
