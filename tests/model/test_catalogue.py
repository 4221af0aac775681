"""The table of known networks, the folders, the user's own list, and verifying."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.model import user_models
from napari_slidesam.model.catalogue import EMBEDDED, KNOWN_MODELS, KnownModel, ModelKind
from napari_slidesam.model.digests import installed_sha256, record_path, sha256_of
from napari_slidesam.model.entries import ModelState
from napari_slidesam.model.library import (
    FOLDER_VARIABLE,
    ModelLibrary,
    available_models,
    models_folder,
    user_models_file,
)
from napari_slidesam.model.user_models import UserModel, add_user_model, read_user_models
from napari_slidesam.model.verification import FileState, verify_models
from napari_slidesam.model.weights import EMBEDDED_PATH

CONTENT = b"weights" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PUBLISHED = KnownModel(
    name="published",
    title="Published",
    kind=ModelKind.SAM,
    file_name="published.pth",
    licence="MIT",
    page="https://example.org/published",
    url="https://example.org/published.pth",
    size_bytes=len(CONTENT),
    sha256=SHA256,
)
SHARED = KnownModel(
    name="shared",
    title="Shared",
    kind=ModelKind.SLIDE_SAM,
    file_name="shared.pth",
    licence="MIT",
    page="https://example.org/shared",
    by_hand="ask for it",
)


@pytest.fixture
def library(tmp_path: Path) -> ModelLibrary:
    shipped = KNOWN_MODELS[0]
    return ModelLibrary(
        tmp_path / "models", tmp_path / "data" / "models.json", (shipped, PUBLISHED, SHARED)
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "mine.pth"
    path.write_bytes(CONTENT)
    return path


def put(library: ModelLibrary, known: KnownModel, content: bytes = CONTENT) -> Path:
    path = library.known_path(known)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


class TestTable:
    def test_names_and_files_are_unique(self) -> None:
        for attribute in ("name", "file_name", "title"):
            values = [getattr(k, attribute).lower() for k in KNOWN_MODELS]
            assert len(set(values)) == len(values)

    @pytest.mark.parametrize("known", KNOWN_MODELS, ids=lambda k: k.name)
    def test_entries_are_complete(self, known: KnownModel) -> None:
        assert user_models.is_model_name(known.name)
        assert known.licence
        if known.name == EMBEDDED:
            return
        assert known.page.startswith("https://")
        if known.url is None:
            assert "https://" in known.by_hand
        else:
            assert known.url.startswith("https://")
            assert known.url.endswith(f"/{known.file_name}")
            assert known.size_bytes is not None
            assert re.fullmatch("[0-9a-f]{64}", known.sha256 or "")

    def test_the_embedded_one_is_the_shipped_file(self) -> None:
        assert ModelLibrary().known_path(KNOWN_MODELS[0]) == EMBEDDED_PATH

    def test_the_table_needs_no_torch(self) -> None:
        script = (
            "import sys, napari_slidesam.model.downloads, napari_slidesam.model.verification; "
            "print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout.strip() == "False", done.stderr


class TestFolders:
    def test_the_variable_names_the_folder(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
        assert models_folder() == tmp_path / "elsewhere"
        assert ModelLibrary().folder == tmp_path / "elsewhere"
        assert {e.path.parent for e in available_models()[1:] if not e.is_user} == {
            tmp_path / "elsewhere"
        }

    def test_without_it_they_are_of_the_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
        assert "napari-slidesam" in models_folder().parts
        assert models_folder().is_absolute()
        assert "napari-slidesam" in user_models_file().parts


class TestEntries:
    def test_states(self, library: ModelLibrary, weights: Path) -> None:
        put(library, PUBLISHED)
        library.add("mine", weights, licence="CC0-1.0", notes="a note")
        entries = {e.name: e for e in library.entries()}
        assert [(e.name, e.state) for e in entries.values()] == [
            ("embedded", ModelState.SHIPPED),
            ("published", ModelState.DOWNLOADED),
            ("shared", ModelState.MISSING),
            ("mine", ModelState.USER),
        ]
        assert not entries["shared"].is_ready
        assert not entries["shared"].is_downloadable
        assert entries["shared"].size_bytes is None
        assert entries["published"].is_downloadable
        assert entries["published"].kind is ModelKind.SAM
        mine = entries["mine"]
        assert (mine.licence, mine.notes, mine.sha256) == ("CC0-1.0", "a note", SHA256)
        assert mine.size_bytes == len(CONTENT)
        assert mine.kind is None

    def test_a_user_file_that_is_gone(self, library: ModelLibrary, weights: Path) -> None:
        library.add("mine", weights)
        weights.unlink()
        assert library.entry("mine").state is ModelState.MISSING
        with pytest.raises(CheckpointError, match=r"was at .*mine\.pth.*models remove mine"):
            library.resolve("mine")

    def test_no_such_name(self, library: ModelLibrary) -> None:
        with pytest.raises(CheckpointError, match=r"no network named 'sam-xxl'.*published"):
            library.entry("sam-xxl")


class TestResolve:
    def test_every_way_to_say_it(self, library: ModelLibrary, weights: Path) -> None:
        path = put(library, PUBLISHED)
        library.add("mine", weights)
        assert library.resolve(EMBEDDED) == EMBEDDED_PATH
        assert library.resolve("published") == path
        assert library.resolve("mine") == weights
        assert library.resolve(str(weights)) == weights
        assert library.resolve(weights) == weights

    def test_not_downloaded_tells_the_command(self, library: ModelLibrary) -> None:
        with pytest.raises(CheckpointError, match="napari-slidesam models download published"):
            library.resolve("published")
        with pytest.raises(CheckpointError, match=r"ask for it.*shared\.pth.*--file"):
            library.resolve("shared")

    def test_a_truncated_file_is_told(self, library: ModelLibrary) -> None:
        put(library, PUBLISHED, CONTENT[:-1])
        with pytest.raises(CheckpointError, match=r"699 bytes.*700.*models remove published"):
            library.resolve("published")

    def test_no_such_path(self, library: ModelLibrary, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no file of that path"):
            library.resolve(tmp_path / "nowhere.pth")

    def test_a_broken_list_stands_in_the_way_of_its_names_only(
        self, library: ModelLibrary, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library.add("mine", weights)
        library.user_file.write_text("{")
        monkeypatch.chdir(weights.parent)
        assert library.resolve(EMBEDDED) == EMBEDDED_PATH
        assert library.resolve("mine.pth") == Path("mine.pth")
        with pytest.raises(FileFormatError, match=r"models\.json cannot be read"):
            library.resolve("mine")


class TestAdd:
    @pytest.mark.parametrize("name", ["", "a b", "../up", "-x", "a/b", "x" * 65, "ä"])
    def test_names_that_cannot_be(self, library: ModelLibrary, weights: Path, name: str) -> None:
        with pytest.raises(CheckpointError, match="A name has letters"):
            library.add(name, weights)

    @pytest.mark.parametrize("name", ["embedded", "Published", "none"])
    def test_names_that_are_taken(self, library: ModelLibrary, weights: Path, name: str) -> None:
        with pytest.raises(CheckpointError, match="is taken"):
            library.add(name, weights)

    def test_twice(self, library: ModelLibrary, weights: Path) -> None:
        library.add("mine", weights)
        with pytest.raises(CheckpointError, match="already"):
            library.add("MINE", weights)
        assert [m.name for m in read_user_models(library.user_file)] == ["mine"]

    def test_no_file(self, library: ModelLibrary, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no weights file"):
            library.add("mine", tmp_path)
        assert not library.user_file.exists()

    def test_a_relative_path_is_kept_absolute(
        self, library: ModelLibrary, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(weights.parent)
        assert library.add("mine", "mine.pth").path == weights

    def test_many_at_once_lose_nothing(self, library: ModelLibrary) -> None:
        def add(i: int) -> None:
            model = UserModel(f"m{i}", f"/w/{i}.pth", None, "", 1, "00")
            add_user_model(library.user_file, model)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(24)))
        assert {m.name for m in read_user_models(library.user_file)} == {f"m{i}" for i in range(24)}

    def test_a_lock_that_hangs_is_told(
        self, library: ModelLibrary, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(user_models, "LOCK_TIMEOUT_S", 0.05)
        library.user_file.parent.mkdir()
        with (
            FileLock(library.user_file.with_name(".models.json.lock")),
            pytest.raises(FileFormatError, match="another process"),
        ):
            library.add("mine", weights)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ('{"format": "napari-slidesam models", "ver', "not JSON"),
        ("[]", "expected the format"),
        ('{"format": "napari-slidesam models", "version": 2, "models": []}', "expected version 1"),
        ('{"format": "napari-slidesam models", "version": 1}', "list of models"),
        (
            '{"format": "napari-slidesam models", "version": 1, "models": [{"name": "x"}]}',
            "incomplete",
        ),
        (
            '{"format": "napari-slidesam models", "version": 1, "models": [{"name": 1, "path": "",'
            ' "licence": null, "notes": "", "size_bytes": 1, "sha256": ""}]}',
            "wrong type",
        ),
    ],
)
def test_a_broken_list_is_told_and_kept(
    library: ModelLibrary, weights: Path, text: str, reason: str
) -> None:
    library.user_file.parent.mkdir()
    library.user_file.write_text(text)
    for act in (library.entries, lambda: library.add("mine", weights), lambda: library.remove("x")):
        with pytest.raises(FileFormatError, match=reason):
            act()
    assert library.user_file.read_text() == text


class TestRemove:
    def test_a_downloaded_one(self, library: ModelLibrary) -> None:
        path = put(library, PUBLISHED)
        partial = path.with_name("published.pth.partial")
        partial.write_bytes(b"half")
        assert library.remove("published").path == path
        assert not path.exists()
        assert not partial.exists()
        with pytest.raises(CheckpointError, match="nothing to remove"):
            library.remove("published")

    def test_one_of_the_user_keeps_its_file(self, library: ModelLibrary, weights: Path) -> None:
        library.add("mine", weights)
        library.add("other", weights)
        library.remove("mine")
        assert weights.exists()
        assert [m.name for m in read_user_models(library.user_file)] == ["other"]

    def test_never_the_shipped_one(self, library: ModelLibrary) -> None:
        with pytest.raises(CheckpointError, match="ships with the package"):
            library.remove(EMBEDDED)
        assert EMBEDDED_PATH.exists()

    def test_not_while_it_is_downloaded(self, library: ModelLibrary) -> None:
        path = put(library, PUBLISHED)
        with (
            library.download_lock(PUBLISHED),
            pytest.raises(CheckpointError, match="being downloaded"),
        ):
            library.remove("published")
        assert path.exists()


class TestVerify:
    def test_all_that_are_here(self, library: ModelLibrary, weights: Path) -> None:
        put(library, PUBLISHED)
        library.add("mine", weights)
        found = {v.name: v for v in verify_models(library)}
        assert found.keys() == {"embedded", "published", "mine"}
        assert found["embedded"].state in (FileState.OK, FileState.UNKNOWN)
        assert found["published"].state is FileState.OK
        assert found["mine"].state is FileState.OK

    def test_damage_of_the_same_size(self, library: ModelLibrary, weights: Path) -> None:
        put(library, PUBLISHED, CONTENT[:-1] + b"?")
        library.add("mine", weights)
        weights.write_bytes(CONTENT[:-1] + b"?")
        found = {v.name: v for v in verify_models(library, "published", "mine")}
        assert {v.state for v in found.values()} == {FileState.DAMAGED}
        assert found["mine"].expected_sha256 == SHA256
        assert found["mine"].found_sha256 != SHA256

    def test_recorded_at_first_and_checked_after(self, library: ModelLibrary) -> None:
        path = put(library, SHARED)
        (first,) = verify_models(library, "shared")
        assert first.state is FileState.RECORDED
        assert json.loads(record_path(path).read_text())["sha256"] == SHA256
        (second,) = verify_models(library, "shared")
        assert second.state is FileState.OK
        path.write_bytes(b"another one")
        (third,) = verify_models(library, "shared")
        assert third.state is FileState.DAMAGED
        assert third.expected_sha256 == SHA256

    def test_a_broken_record_is_told(self, library: ModelLibrary) -> None:
        record_path(put(library, SHARED)).write_text("{}")
        with pytest.raises(FileFormatError, match=r"shared\.pth\.sha256\.json.*Delete it"):
            list(verify_models(library, "shared"))

    def test_what_is_not_here(self, library: ModelLibrary, weights: Path) -> None:
        library.add("mine", weights)
        weights.unlink()
        assert {v.name: v.state for v in verify_models(library)}["mine"] is FileState.MISSING
        (asked,) = verify_models(library, "published")
        assert asked.state is FileState.MISSING


def test_what_the_installer_noted_is_true() -> None:
    """In a checkout nothing is noted."""
    assert installed_sha256(EMBEDDED_PATH) in (None, sha256_of(EMBEDDED_PATH))
    assert installed_sha256(Path("slidesam_lite.safetensors")) is None
