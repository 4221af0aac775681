"""Adapters as folders and as files, checked by their files and by a network."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.jobs.adapter_files import (
    BASE_FILE,
    adapters,
    adapters_folder,
    check_files,
    export_adapter,
    fitting_model,
    import_adapter,
    main,
    read_adapter,
    register,
    remove,
)
from napari_slidesam.model.adapter_folder import CONFIG_FILE, WEIGHTS_FILE
from napari_slidesam.model.weights import EMBEDDED_PATH, load_weights

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Files that look like an adapter's."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    save_file({"a.weight": np.zeros((2, 3), np.float32)}, folder / WEIGHTS_FILE)
    (folder / "README.md").write_text("# card")
    return folder


def test_adapters_at_hand(adapter: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert adapters(root) == ()
    first = register(adapter, "my nuclei: 1", "embedded", "Dice 0.9", root)
    second = register(adapter, "my nuclei: 1", "embedded", root=root)
    assert (first.name, first.folder.name) == ("my nuclei: 1", "my-nuclei-1")
    assert second.folder.name == "my-nuclei-1-2"
    assert adapters(root) == (first, second)
    assert read_adapter(adapter).model == ""
    remove(first.folder, root)
    assert adapters(root) == (second,)
    with pytest.raises(CheckpointError, match="none of the adapters"):
        remove(adapter, root)
    assert adapter.exists()


@pytest.mark.parametrize("name", ["out.zip", "out"])
def test_export_and_import(adapter: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    known = register(adapter, "mine", "embedded", root=root)
    target = export_adapter(known.folder, tmp_path / name)
    assert export_adapter(known.folder, tmp_path / name) == target
    again = import_adapter(target, tmp_path / "other", fitting=lambda folder: "embedded")
    assert (again.name, again.model) == ("mine", "embedded")
    names = {CONFIG_FILE, WEIGHTS_FILE, BASE_FILE, "README.md"}
    assert {p.name for p in again.folder.iterdir()} == names


def test_an_export_replaces_nothing_else(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years")
    with pytest.raises(FileFormatError, match="something else"):
        export_adapter(adapter, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").exists()


def test_what_is_not_whole_is_refused(adapter: Path, tmp_path: Path) -> None:
    def refuse(folder: Path) -> str:
        raise CheckpointError("fits none")

    with pytest.raises(CheckpointError, match="fits none"):
        import_adapter(adapter, tmp_path / "root", fitting=refuse)
    assert adapters(tmp_path / "root") == ()
    (adapter / CONFIG_FILE).write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(CheckpointError, match="LoRA is"):
        check_files(adapter)
    (adapter / CONFIG_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        check_files(adapter)
    (adapter / WEIGHTS_FILE).write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="damaged"):
        check_files(adapter)
    (adapter / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match="There is no adapter"):
        import_adapter(adapter, tmp_path / "root")


def test_archives_that_hold_something_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    file = tmp_path / "a.zip"
    with pytest.raises(FileFormatError, match="cannot be unpacked"):
        import_adapter(file, root)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../outside.txt", "x")
    with pytest.raises(CheckpointError, match="There is no adapter"):
        import_adapter(file, root)
    assert not (tmp_path.parent / "outside.txt").exists()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(99):
            archive.writestr(f"{i}.txt", "x")
    with pytest.raises(CheckpointError, match="other things"):
        import_adapter(file, root)


@pytest.mark.weights
def test_the_network_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_slidesam.model.adapters import LoraSettings, add_lora, save_adapter

    monkeypatch.setenv("NAPARI_SLIDESAM_MODELS", str(tmp_path / "models"))
    assert adapters_folder() == tmp_path / "models" / "adapters"
    model = load_weights(EMBEDDED_PATH)
    add_lora(model, LoraSettings(2))
    save_adapter(model, tmp_path / "fits")
    assert fitting_model(tmp_path / "fits") == "embedded"
    assert main([str(tmp_path / "fits")]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "embedded"}
    made = tmp_path / "foreign"
    made.mkdir()
    (made / CONFIG_FILE).write_text((tmp_path / "fits" / CONFIG_FILE).read_text())
    save_file({"a.weight": np.zeros((2, 3), np.float32)}, made / WEIGHTS_FILE)
    assert main([str(made)]) == 1
    assert "fits none" in json.loads(capsys.readouterr().out)["problem"]
