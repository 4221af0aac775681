"""Adapters at hand: in a folder beside the networks, exported and imported as a folder or a file.

::

    models folder
        adapters
            my-nuclei
                adapter_config.json, adapter_model.safetensors     what peft reads
                README.md, ...                                     what it was trained on
                base.json                                          the network it belongs to

``python -m napari_slidesam.jobs.adapter_files FOLDER`` says which network an adapter fits.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from napari_slidesam.errors import CheckpointError, FileFormatError, SlideSamError
from napari_slidesam.io.atomic import replacing_file, replacing_folder
from napari_slidesam.model.adapter_folder import CONFIG_FILE, WEIGHTS_FILE
from napari_slidesam.model.library import ModelLibrary, models_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

ADAPTERS = "adapters"
"""Folder in the models' folder; each folder in it that holds `CONFIG_FILE` is an adapter."""

BASE_FILE = "base.json"

ZIP_SUFFIX = ".zip"
LARGEST_FILE_BYTES = 2**31
"""No adapter of these networks comes near; a file that claims more is no adapter."""

MOST_FILES = 64
CHECK_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter at hand.

    Parameters
    ----------
    name : str
    folder : Path
    model : str
        Name or path of the network that it belongs to; empty where nothing says it.
    note : str
        A few words.
    """

    name: str
    folder: Path
    model: str = ""
    note: str = ""


def adapters_folder() -> Path:
    """Return where adapters are; the folder need not exist."""
    return models_folder() / ADAPTERS


def adapters(root: Path | None = None) -> tuple[Adapter, ...]:
    """Return the adapters at hand by name; of ``root`` instead of the user's own folder."""
    try:
        found = sorted((root or adapters_folder()).glob(f"[!.]*/{CONFIG_FILE}"))
    except OSError:  # a folder that cannot be read
        return ()
    return tuple(read_adapter(config.parent) for config in found)


def read_adapter(folder: Path) -> Adapter:
    """Return what a folder says of its adapter."""
    try:
        values: Any = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
        return Adapter(str(values["name"]), folder, str(values["model"]), str(values["note"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Adapter(folder.name, folder)


def register(
    source: Path, name: str, model: str, note: str = "", root: Path | None = None
) -> Adapter:
    """Copy an adapter to those at hand, under a name that is free.

    Parameters
    ----------
    source : Path
        Its folder.
    name : str
    model : str
        Name or path of the network that it belongs to.
    note : str
    root : Path, optional
        Instead of the user's own folder.

    Raises
    ------
    CheckpointError
        The folder holds no whole adapter.
    FileFormatError
        It cannot be written.
    """
    check_files(source)
    target_root = root or adapters_folder()
    try:
        target_root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(f"{target_root} cannot be made: {error.strerror}.") from error
    target = _free(target_root, _slug(name))
    _copy(source, target, overwrite=False)
    adapter = Adapter(name if target.name == _slug(name) else target.name, target, model, note)
    values = {"name": adapter.name, "model": model, "note": note}
    with replacing_file(target / BASE_FILE, overwrite=True) as partial:
        partial.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return adapter


def remove(adapter: Path, root: Path | None = None) -> None:
    """Delete an adapter that is at hand.

    Raises
    ------
    CheckpointError
        It is not one of those at hand.
    """
    if adapter not in {known.folder for known in adapters(root)}:
        raise CheckpointError(f"{adapter} is none of the adapters at hand: delete it by hand.")
    shutil.rmtree(adapter, ignore_errors=True)


def export_adapter(folder: Path, target: Path) -> Path:
    """Write an adapter to a folder, or to one file where the name ends in ``.zip``.

    Raises
    ------
    CheckpointError
        The folder holds no whole adapter.
    FileFormatError
        The target cannot be written, or is a folder with something else in it.
    """
    check_files(folder)
    if target.suffix.lower() != ZIP_SUFFIX:
        is_foreign = target.is_dir() and any(target.iterdir()) and not _has_adapter(target)
        if is_foreign:
            raise FileFormatError(f"{target} holds something else: choose a new folder's name.")
        _copy(folder, target, overwrite=True)
        return target
    with replacing_file(target, overwrite=True) as partial:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in _files(folder):
                archive.write(path, f"{folder.name}/{path.name}")
    return target


def import_adapter(
    source: Path,
    root: Path | None = None,
    *,
    fitting: Callable[[Path], str] | None = None,
) -> Adapter:
    """Take in an adapter from a folder or a ``.zip`` file, once it is seen to work.

    Parameters
    ----------
    source : Path
    root : Path, optional
        Instead of the user's own folder.
    fitting : callable, optional
        Returns the network that the adapter of a folder fits, or raises; `fitting_model` in a
        process of its own without it.

    Raises
    ------
    CheckpointError
        It is not whole, peft cannot read it, or it fits no network that is here.
    FileFormatError
        It cannot be read or written.
    """
    with tempfile.TemporaryDirectory(prefix="adapter-") as temporary:
        if source.is_dir():
            folder = source
        else:
            folder = Path(temporary) / source.stem
            _unpack(source, folder)
        check_files(folder)
        known = read_adapter(folder)
        model = (fitting or fitting_elsewhere)(folder)
        name = known.name if (folder / BASE_FILE).exists() else source.stem
        return register(folder, name, model, known.note or "imported", root)


def check_files(folder: Path) -> None:
    """Check that an adapter is whole, by its files alone.

    Raises
    ------
    CheckpointError
        It is not.
    """
    if not _has_adapter(folder):
        raise CheckpointError(
            f"There is no adapter in {folder}: {CONFIG_FILE} and {WEIGHTS_FILE} are expected. "
            "Choose the folder, or the .zip file, that an export wrote."
        )
    try:
        config: Any = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        kind = config["peft_type"]
        with safe_open(folder / WEIGHTS_FILE, framework="np") as tensors:
            names = list(tensors.keys())
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"The adapter in {folder} is damaged ({error}). Copy or download it again."
        ) from error
    if kind != "LORA" or not names:
        raise CheckpointError(
            f"The adapter in {folder} is of the kind {kind} with {len(names)} tensors; LoRA is "
            "expected."
        )


def fitting_model(folder: Path, names: Sequence[str] | None = None) -> str:
    """Return the name of a network that an adapter can be put on, by doing so.

    Parameters
    ----------
    folder : Path
    names : sequence of str, optional
        Networks to try; those that are here without it, the one that is named first.

    Raises
    ------
    CheckpointError
        It fits none.
    """
    from napari_slidesam.model.registry import load_model

    check_files(folder)
    said = read_adapter(folder).model
    ready = [entry.name for entry in ModelLibrary().entries() if entry.is_ready]
    here: list[str] = ready if names is None else list(names)
    candidates: list[str] = [said, *here] if said else here
    reasons = []
    for name in dict.fromkeys(candidates):
        try:
            load_model(name, "cpu", adapter=folder)
        except SlideSamError as error:
            reasons.append(f"{name}: {error}")
        else:
            return name
    raise CheckpointError(
        f"The adapter in {folder.name} fits none of the networks that are here "
        f"({', '.join(here)}). Get its network first, then import it again. " + " ".join(reasons)
    )


def fitting_elsewhere(folder: Path) -> str:
    """Return what `fitting_model` does, found in a process of its own: it needs all of peft.

    Raises
    ------
    CheckpointError
        It fits none.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "napari_slidesam.jobs.adapter_files", str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_LIMIT_S,
            check=False,
        )
        told = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise CheckpointError(f"The adapter in {folder} cannot be checked: {error}.") from error
    if "problem" in told:
        raise CheckpointError(str(told["problem"]))
    return str(told["model"])


def _has_adapter(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _copy(source: Path, target: Path, *, overwrite: bool) -> None:
    with replacing_folder(target, overwrite=overwrite) as partial:
        partial.mkdir()
        for path in _files(source):
            shutil.copy2(path, partial / path.name)


def _unpack(path: Path, folder: Path) -> None:
    """Unpack the files of an archive, without any folders that it names."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            names = [PurePosixPath(m.filename).name for m in members]
            is_large = any(m.file_size > LARGEST_FILE_BYTES for m in members)
            if len(names) > MOST_FILES or len(set(names)) != len(names) or is_large:
                raise CheckpointError(f"{path} holds other things than one adapter.")
            folder.mkdir()
            for member, name in zip(members, names, strict=True):
                with archive.open(member) as packed, (folder / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise FileFormatError(
            f"{path} cannot be unpacked ({error}). Choose a .zip file that an export wrote."
        ) from error


def _slug(name: str) -> str:
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return kept[:64] or "adapter"


def _free(root: Path, slug: str) -> Path:
    target, number = root / slug, 2
    while target.exists():
        target, number = root / f"{slug}-{number}", number + 1
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Write as JSON which network the adapter of a folder fits, or why none."""
    parser = argparse.ArgumentParser(prog="python -m napari_slidesam.jobs.adapter_files")
    parser.add_argument("folder", type=Path, help="of the adapter")
    folder = parser.parse_args(arguments).folder
    try:
        told = {"model": fitting_model(folder)}
    except SlideSamError as error:
        told = {"problem": str(error)}
    sys.stdout.write(json.dumps(told) + "\n")
    return int("problem" in told)


if __name__ == "__main__":
    raise SystemExit(main())
