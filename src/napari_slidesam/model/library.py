"""The networks of this machine: which there are, and where their files are.

::

    models folder (cache)             data folder
        sam_vit_b_01ec64.pth              models.json      the user's own networks: names
        slide_sam_b.pth                                    for files that stay where they are
        slide_sam_b.pth.sha256.json   what it was at first, where no SHA-256 is published
        medsam_vit_b.pth.partial      half a download

The models folder is the user's cache folder, or what NAPARI_SLIDESAM_MODELS says.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.model.catalogue import EMBEDDED, KNOWN_MODELS, KnownModel
from napari_slidesam.model.digests import sha256_of
from napari_slidesam.model.entries import ModelEntry, ModelState, known_entry, user_entry
from napari_slidesam.model.user_models import (
    UserModel,
    add_user_model,
    is_model_name,
    read_user_models,
    remove_user_model,
)

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "NAPARI_SLIDESAM_MODELS"
"""The environment variable that says where downloaded networks are."""

_APPLICATION = "napari-slidesam"
_SHIPPED_FOLDER = Path(__file__).parent / "weights"
_RESERVED_NAMES = {"none"}
"""``--model none`` of the evaluation means no network."""


def models_folder() -> Path:
    """Return where downloaded networks are; the folder need not exist."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path(_APPLICATION, appauthor=False) / "models"


def user_models_file() -> Path:
    """Return where the list of the user's own networks is; the file need not exist."""
    return platformdirs.user_data_path(_APPLICATION, appauthor=False) / "models.json"


def available_models() -> tuple[ModelEntry, ...]:
    """Return every network with a name, those that are not here too.

    Raises
    ------
    FileFormatError
        The list of the user's own networks cannot be read.
    """
    return ModelLibrary().entries()


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    """The known networks and the user's own, in their folders.

    Parameters
    ----------
    folder : Path
        Of downloaded networks.
    user_file : Path
        List of the user's own.
    known : tuple of KnownModel
    """

    folder: Path = field(default_factory=lambda: models_folder())
    user_file: Path = field(default_factory=lambda: user_models_file())
    known: tuple[KnownModel, ...] = field(default_factory=lambda: KNOWN_MODELS)

    def entries(self) -> tuple[ModelEntry, ...]:
        """Return every network with a name: the known ones, then the user's own.

        Raises
        ------
        FileFormatError
            The list of the user's own cannot be read.
        """
        own = read_user_models(self.user_file)
        return (
            *(known_entry(k, self.known_path(k)) for k in self.known),
            *map(user_entry, own),
        )

    def entry(self, name: str) -> ModelEntry:
        """Return the network of this name.

        Raises
        ------
        CheckpointError
            There is none.
        FileFormatError
            It is not a known one, and the list of the user's own cannot be read.
        """
        known = self.find_known(name)
        if known is not None:
            return known_entry(known, self.known_path(known))
        for own in read_user_models(self.user_file):
            if own.name == name:
                return user_entry(own)
        raise self._unknown(name)

    def find_known(self, name: str) -> KnownModel | None:
        """Return the known network of this name, or None."""
        return next((k for k in self.known if k.name == name), None)

    def known_path(self, known: KnownModel) -> Path:
        """Return where the file of a known network is, or has to be."""
        folder = _SHIPPED_FOLDER if known.name == EMBEDDED else self.folder
        return folder / known.file_name

    def download_lock(self, known: KnownModel) -> FileLock:
        """Return the lock that who writes the file of a known network holds."""
        path = self.known_path(known)
        return FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)

    def resolve(self, name_or_path: str | Path) -> Path:
        """Return the weights file that a name or path stands for.

        A known name comes first, then one of the user's own, then a path.

        Raises
        ------
        CheckpointError
            There is no such network or file, it is not downloaded, or it is truncated.
        FileFormatError
            The list of the user's own networks cannot be read, and it is no path either.
        """
        text = str(name_or_path)
        known = self.find_known(text)
        if known is not None:
            return self._whole(known)
        path = Path(text)
        try:
            own = read_user_models(self.user_file) if is_model_name(text) else ()
        except FileFormatError as error:
            if not path.exists():
                raise
            logger.warning("%s is taken as a path. %s", text, error)
            own = ()
        for model in own:
            if model.name == text:
                return _present(model)
        if not path.exists():
            raise self._unknown(text)
        return path

    def add(
        self, name: str, path: str | Path, *, licence: str | None = None, notes: str = ""
    ) -> ModelEntry:
        """Give a file of the user's a name; the file stays where it is.

        Raises
        ------
        CheckpointError
            The name is taken or unusable, or there is no such file.
        FileFormatError
            The list of the user's own networks cannot be read or written.
        """
        if not is_model_name(name):
            raise CheckpointError(
                f"A name has letters, digits, '.', '_' and '-', starts with one of the first two "
                f"and is at most 64 long; got {name!r}."
            )
        taken = {k.name.lower() for k in self.known} | _RESERVED_NAMES
        if name.lower() in taken:
            raise CheckpointError(
                f"The name {name!r} is taken. Choose another one; if the file is that network's, "
                f"use: napari-slidesam models download {name} --file {path}"
            )
        file = Path(path).expanduser().absolute()
        if not file.is_file():
            raise CheckpointError(f"There is no weights file at {file}. Check the path.")
        model = UserModel(name, str(file), licence, notes, file.stat().st_size, sha256_of(file))
        add_user_model(self.user_file, model)
        logger.info("network %s is %s", name, file)
        return user_entry(model)

    def remove(self, name: str) -> ModelEntry:
        """Delete a downloaded file, or take a name of the user's off the list.

        The user's own files stay. A recorded checksum stays too, so that another download is
        compared with the first one.

        Returns
        -------
        ModelEntry
            As it was before.

        Raises
        ------
        CheckpointError
            There is no such network, nothing of it is here, it is the shipped one, or it is
            being downloaded.
        FileFormatError
            The list of the user's own networks cannot be read or written.
        """
        entry = self.entry(name)
        known = self.find_known(name)
        if known is None:
            remove_user_model(self.user_file, name)
            return entry
        if entry.state is ModelState.SHIPPED or known.name == EMBEDDED:
            raise CheckpointError(
                f"{name!r} ships with the package and cannot be removed without it."
            )
        files = [entry.path, *partial_paths(entry.path)]
        if not any(f.exists() for f in files):
            raise CheckpointError(f"{name!r} is not downloaded: there is nothing to remove.")
        self._delete(known, files)
        return entry

    def _whole(self, known: KnownModel) -> Path:
        path = self.known_path(known)
        if not path.is_file():
            raise CheckpointError(f"{known.name!r} is not here yet. {how_to_get(known, path)}")
        size = path.stat().st_size
        if known.size_bytes is not None and size != known.size_bytes:
            raise CheckpointError(
                f"{path} has {size} bytes, {known.name!r} has {known.size_bytes}: it is truncated "
                f"or another file. Remove it (napari-slidesam models remove {known.name}), then: "
                f"{how_to_get(known, path)}"
            )
        return path

    def _delete(self, known: KnownModel, files: list[Path]) -> None:
        lock = self.download_lock(known)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise CheckpointError(
                f"{known.name!r} is being downloaded by another process. Wait for it or end it."
            ) from error
        try:
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"{known.name!r} cannot be removed: {error}.") from error
        finally:
            lock.release()

    def _unknown(self, text: str) -> CheckpointError:
        names = ", ".join(k.name for k in self.known)
        return CheckpointError(
            f"There is no network named {text!r} and no file of that path. Known names: {names}, "
            "and those you added; 'napari-slidesam models list' shows them."
        )


def partial_paths(path: Path) -> tuple[Path, Path]:
    """Return where half a download of a file is, and what is known about it."""
    return path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.partial.json")


def how_to_get(known: KnownModel, path: Path) -> str:
    """Return what a person has to do so that the file of a known network is at ``path``."""
    command = f"napari-slidesam models download {known.name}"
    if known.name == EMBEDDED:
        return "It ships with the package: install the package again."
    if known.url is not None:
        return f"Download it: {command}"
    return (
        f"It cannot be fetched automatically. By hand: {known.by_hand or known.page}, then save "
        f"the file as {path}, or run: {command} --file FILE (published at {known.page})"
    )


def _present(model: UserModel) -> Path:
    path = Path(model.path)
    if not path.is_file():
        raise CheckpointError(
            f"Your network {model.name!r} was at {path}, but there is no file now. Put it back, or "
            f"remove the name: napari-slidesam models remove {model.name}"
        )
    return path
