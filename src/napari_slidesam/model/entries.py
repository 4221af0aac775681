"""A network that has a name, as lists show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from napari_slidesam.model.catalogue import EMBEDDED, KnownModel, ModelKind

if TYPE_CHECKING:
    from napari_slidesam.model.user_models import UserModel


class ModelState(StrEnum):
    """Whether a network can be used."""

    SHIPPED = "shipped"
    DOWNLOADED = "downloaded"
    USER = "user"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A network that has a name, here or not.

    Parameters
    ----------
    name, title : str
    state : ModelState
        ``missing`` is one that is not downloaded, or whose file the user moved away.
    path : Path
        Where its file is, or has to be.
    kind : ModelKind, optional
        None for the user's own: the file decides.
    licence : str, optional
    source : str
        Web page; empty for the shipped one and the user's own.
    size_bytes : int, optional
        As published; of the file where it is here; None where neither is known.
    sha256 : str, optional
        As published, or as it was when the user added it.
    is_user : bool
        One of the user's own.
    is_downloadable : bool
        Can be fetched without a person.
    notes : str
    """

    name: str
    title: str
    state: ModelState
    path: Path
    kind: ModelKind | None
    licence: str | None
    source: str
    size_bytes: int | None
    sha256: str | None
    is_user: bool
    is_downloadable: bool
    notes: str

    @property
    def is_ready(self) -> bool:
        """Whether its file is here."""
        return self.state is not ModelState.MISSING


def known_entry(known: KnownModel, path: Path) -> ModelEntry:
    """Return a known network, whose file is or has to be at ``path``."""
    state = ModelState.SHIPPED if known.name == EMBEDDED else ModelState.DOWNLOADED
    size = known.size_bytes
    if not path.is_file():
        state = ModelState.MISSING
    elif size is None:
        size = path.stat().st_size
    return ModelEntry(
        name=known.name,
        title=known.title,
        state=state,
        path=path,
        kind=known.kind,
        licence=known.licence,
        source=known.page,
        size_bytes=size,
        sha256=known.sha256,
        is_user=False,
        is_downloadable=known.url is not None,
        notes=known.notes,
    )


def user_entry(model: UserModel) -> ModelEntry:
    """Return one of the user's own networks."""
    path = Path(model.path)
    return ModelEntry(
        name=model.name,
        title=path.name,
        state=ModelState.USER if path.is_file() else ModelState.MISSING,
        path=path,
        kind=None,
        licence=model.licence,
        source="",
        size_bytes=model.size_bytes,
        sha256=model.sha256,
        is_user=True,
        is_downloadable=False,
        notes=model.notes,
    )
