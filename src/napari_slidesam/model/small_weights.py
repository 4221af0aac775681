"""Weights of the small networks that go with a network, with their dimensions in the header."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path


class Dimensions(Protocol):
    """A network's config, as a header can hold it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON can hold them."""


Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class WeightsFormat(Generic[Network]):
    """A kind of weights file.

    Parameters
    ----------
    kind : str
        What the network is called: ``coarse`` for the coarse network.
    make : callable
        Makes a network from what its config's ``to_dict`` gave.
    brought_up : callable
        Makes tensors of an older version into those of this one.
    """

    kind: str
    make: Callable[[Mapping[str, Any]], Network]
    brought_up: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]] = dict

    @property
    def name(self) -> str:
        """Stands in the header."""
        return f"napari-slidesam/{self.kind}"

    def save(
        self,
        network: Network,
        config: Dimensions,
        path: Path,
        metadata: Mapping[str, str],
        dtype: torch.dtype = torch.float16,
    ) -> None:
        """Write the weights, atomically.

        Parameters
        ----------
        network : Module
        config : Dimensions
            Its dimensions.
        path : Path
            Ends in ``.safetensors``.
        metadata : mapping of str to str
            Facts about the training, kept in the file's header.
        dtype : torch.dtype
            Type of the stored tensors.
        """
        tensors = {k: t.to(dtype).contiguous().cpu() for k, t in network.state_dict().items()}
        header = {**metadata, "format": self.name, "config": json.dumps(config.to_dict())}
        partial = path.with_name(path.name + ".partial")
        write_tensors(tensors, partial, header)
        os.replace(partial, path)

    def load(self, path: Path) -> Network:
        """Return the network of a file of `save`, in evaluation mode, on the CPU.

        Raises
        ------
        CheckpointError
            The file is missing, corrupt or foreign.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") != self.name:
                    raise CheckpointError(
                        f"{path} does not hold a {self.kind} network of napari-slidesam; give a "
                        f"file that `napari-slidesam train {self.kind}` wrote."
                    )
                tensors = {k: file.get_tensor(k).float() for k in file.keys()}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"The {self.kind} network's weights cannot be read: {path} ({error}). Install the "
                "package again."
            ) from error
        try:
            network = self.make(json.loads(header["config"]))
            network.load_state_dict(self.brought_up(tensors))
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is damaged: its settings and tensors do not fit ({error}). Copy it again."
            ) from error
        return network.eval().requires_grad_(False)


def known_settings(values: Mapping[str, Any], names: Collection[str], kind: str) -> dict[str, Any]:
    """Return a config's fields from what its ``to_dict`` gave.

    Parameters
    ----------
    values : mapping
        As a header holds them: tuples have become lists.
    names : collection of str
        The config's fields.
    kind : str
        As in `WeightsFormat`.

    Raises
    ------
    CheckpointError
        A field is unknown.
    """
    unknown = set(values) - set(names)
    if unknown:
        raise CheckpointError(
            f"The {kind} network has settings that this version does not know: "
            f"{', '.join(sorted(unknown))}. Install a newer napari-slidesam."
        )
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def started_from(path: Path, otherwise: str) -> str:
    """Return where the training of a file's weights started from, as its header says.

    Parameters
    ----------
    path : Path
    otherwise : str
        Where there is no such file, or it does not say.
    """
    with contextlib.suppress(SafetensorError, OSError):
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            return header.get("start", otherwise)
    return otherwise
