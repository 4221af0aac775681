"""``napari-slidesam models``, with a server on this machine in place of the publishers'."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from napari_slidesam.model import library as library_module
from napari_slidesam.model.catalogue import KNOWN_MODELS, KnownModel, ModelKind
from napari_slidesam.model.library import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]

BALL = "8,13,15,28,30"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own networks out, and the tests' out of the user's."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(library_module, "user_models_file", lambda: tmp_path / "own" / "m.json")
    return tmp_path


@pytest.fixture
def published(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """The tiny network, published under the name ``tiny``."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tiny_weights.parent))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        content = tiny_weights.read_bytes()
        tiny = KnownModel(
            name="tiny",
            title="Tiny",
            kind=ModelKind.LITE,
            file_name="tiny_published.safetensors",
            licence="CC0-1.0",
            page="https://example.org/tiny",
            url=f"{_address(server)}/{tiny_weights.name}",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        monkeypatch.setattr(library_module, "KNOWN_MODELS", (*KNOWN_MODELS, tiny))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_list(run_json: RunJson, run_cli: Run, folders: Path) -> None:
    facts = run_json("models", "list")
    assert facts["folder"] == str(folders / "models")
    states = {m["name"]: m["state"] for m in facts["models"]}
    assert states.pop("embedded") == "shipped"
    assert set(states.values()) == {"missing"}
    result = run_cli("models", "list", "-v")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "state", "size", "title", "licence"]
    assert any(line.startswith("slide-sam-h  by hand") for line in lines)
    assert any("https://github.com/bowang-lab/MedSAM" in line for line in lines)
    assert lines[-1] == f"models folder: {folders / 'models'}"


@pytest.mark.usefixtures("published")
def test_download_use_verify_remove(
    run_json: RunJson, run_cli: Run, folders: Path, nifti_path: Path
) -> None:
    missing = run_cli("segment", nifti_path, "--box", BALL, "--model", "tiny")
    assert missing.exit_code == 2
    assert "napari-slidesam models download tiny" in missing.stderr

    path = folders / "models" / "tiny_published.safetensors"
    result = run_cli("models", "download", "tiny")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == f"tiny is here: {path}"
    assert run_json("models", "download", "tiny", "-q")["state"] == "downloaded"

    used = run_cli("segment", nifti_path, "--box", BALL, "--model", "tiny", "--device", "cpu")
    assert used.exit_code == 0, used.stderr

    (found,) = run_json("models", "verify", "tiny")["models"]
    assert found["state"] == "ok"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    damaged = run_cli("models", "verify")
    assert damaged.exit_code == 1
    assert "tiny: damaged" in damaged.stdout
    assert "embedded: " in damaged.stdout

    assert run_json("models", "remove", "tiny")["file_deleted"]
    assert not path.exists()
    gone = run_cli("models", "remove", "tiny")
    assert gone.exit_code == 2
    assert "nothing to remove" in gone.stderr


def test_the_progress_bar_tells_what_it_does(
    run_cli: Run, published: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    result = run_cli("models", "download", "tiny")
    assert result.exit_code == 0
    assert "tiny: done" in result.stderr
    assert "tiny: done" not in run_cli("models", "download", "tiny", "-q").stderr


def test_the_publisher_has_no_such_file_any_more(
    run_cli: Run, published: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    moved = replace(library_module.KNOWN_MODELS[-1], url=f"{_address(published)}/gone")
    monkeypatch.setattr(library_module, "KNOWN_MODELS", (moved,))
    result = run_cli("models", "download", "tiny")
    assert result.exit_code == 2
    assert "404" in result.stderr
    assert f"put it at {folders / 'models' / 'tiny_published.safetensors'}" in result.stderr


def test_what_has_to_be_fetched_by_hand_is_explained(run_cli: Run, folders: Path) -> None:
    result = run_cli("models", "download", "slide-sam-b")
    assert result.exit_code == 2
    assert "pan.baidu.com" in result.stderr
    assert str(folders / "models" / "slide_sam_b.pth") in result.stderr


def test_download_takes_a_file_fetched_by_hand(
    run_json: RunJson, run_cli: Run, folders: Path
) -> None:
    fetched = folders / "fetched"
    fetched.write_bytes(b"weights")
    facts = run_json("models", "download", "slide-sam-b", "--file", fetched)
    assert facts["state"] == "downloaded"
    assert (folders / "models" / "slide_sam_b.pth").read_bytes() == b"weights"
    wrong = run_cli("models", "download", "sam-vit-b", "--file", fetched)
    assert wrong.exit_code == 2
    assert "375042383" in wrong.stderr


def test_a_name_of_ones_own(
    run_json: RunJson, run_cli: Run, tiny_weights: Path, nifti_path: Path
) -> None:
    added = run_cli("models", "add", "mine", tiny_weights, "--licence", "MIT", "--notes", "spleens")
    assert added.exit_code == 0
    assert added.stdout.strip() == f"mine is {tiny_weights}"
    mine = run_json("models", "list")["models"][-1]
    assert (mine["state"], mine["licence"], mine["notes"]) == ("user", "MIT", "spleens")
    used = run_cli("segment", nifti_path, "--box", BALL, "--model", "mine", "--device", "cpu")
    assert used.exit_code == 0, used.stderr
    again = run_cli("models", "add", "mine", tiny_weights)
    assert again.exit_code == 2
    assert "already" in again.stderr
    removed = run_cli("models", "remove", "mine")
    assert removed.exit_code == 0
    assert "stays" in removed.stdout
    assert tiny_weights.exists()


def test_a_broken_list_is_told(run_cli: Run, folders: Path) -> None:
    (folders / "own").mkdir()
    (folders / "own" / "m.json").write_text("{")
    result = run_cli("models", "list")
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr
    assert (folders / "own" / "m.json").read_text() == "{"


def test_the_shipped_one_stays(run_cli: Run) -> None:
    result = run_cli("models", "remove", "embedded")
    assert result.exit_code == 2
    assert "ships with the package" in result.stderr
