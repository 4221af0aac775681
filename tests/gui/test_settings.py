from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari.settings
import platformdirs
import pytest
import yaml
from npe2 import PluginManifest

import napari_slidesam
from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.gui import settings
from napari_slidesam.gui.settings import FileStore, NapariStore, flat_values, settings_of
from napari_slidesam.gui.state import SegmentSettings
from napari_slidesam.intensity import Intensity

if TYPE_CHECKING:
    from npe2 import PluginManager

MANIFEST = Path(napari_slidesam.__file__).with_name("napari.yaml")
CHOSEN = SegmentSettings(
    model="/weights/mine.safetensors",
    adapter="/adapters/nuclei",
    device="cuda:1",
    intensity=Intensity("limits", -10.0, 250.0),
    use_contrast_limits=True,
    max_extent_slices=0,
    auto_run=False,
    edits_as_prompts=False,
    overlap_rule=OverlapRule.OVERWRITE,
    keep_embeddings=True,
)


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of settings, a temporary one."""
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path / "user")
    return tmp_path / "user"


@pytest.fixture
def preferences(plugin_settings: None, npe2pm: PluginManager) -> dict[str, Any]:
    """napari's preferences with the plugin's category; returns what the manifest declares."""
    values = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    npe2pm.register(PluginManifest(**values))
    declared: dict[str, Any] = values["contributions"]["configurations"]["segment"]["properties"]
    return declared


@pytest.mark.parametrize("chosen", [SegmentSettings(), CHOSEN])
def test_flat_values_come_back(chosen: SegmentSettings) -> None:
    values = json.loads(json.dumps(flat_values(chosen)))
    assert settings_of(values) == chosen


def test_what_belongs_to_one_image_is_not_kept() -> None:
    chosen = SegmentSettings(z_range=(3, 9), only_this_slice=True)
    assert settings_of(flat_values(chosen)) == SegmentSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 3),
        ("model", ""),
        ("auto_run", "yes"),
        ("auto_run", 0),
        ("max_extent_slices", True),
        ("max_extent_slices", 2.5),
        ("intensity", "pink"),
        ("intensity", "limits"),  # whose two values are missing
        ("intensity_lower", "low"),
        ("overlap_rule", "both"),
        ("device", None),
    ],
)
def test_a_value_that_cannot_be_used_costs_itself_alone(
    caplog: pytest.LogCaptureFixture, name: str, value: Any
) -> None:
    values = {**flat_values(replace(SegmentSettings(), adapter="/a")), name: value}
    with caplog.at_level(logging.WARNING):
        loaded = settings_of(values)
    assert loaded == replace(SegmentSettings(), adapter="/a")
    assert name in caplog.text


def test_file_keeps_settings(user_folder: Path) -> None:
    store = FileStore.of_user()
    assert store.load() == SegmentSettings()
    store.save(CHOSEN)
    assert FileStore.of_user().load() == CHOSEN
    assert [path.name for path in user_folder.iterdir()] == ["segment.json"]


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\x00\xff"])
def test_a_corrupt_file_is_defaults(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = tmp_path / "segment.json"
    path.write_bytes(text.encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        assert FileStore(path).load() == SegmentSettings()
    assert str(path) in caplog.text
    FileStore(path).save(CHOSEN)
    assert FileStore(path).load() == CHOSEN


def test_a_place_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        FileStore(tmp_path / "file" / "segment.json").save(CHOSEN)
        (tmp_path / "segment.json").mkdir()
        FileStore(tmp_path / "segment.json").save(CHOSEN)
    assert len(caplog.records) == 2


needs_preferences = pytest.mark.skipif(
    not hasattr(napari.settings, "get_plugin_settings"),
    reason="napari before 0.9 has no settings of plugins",
)


@needs_preferences
def test_manifest_declares_the_defaults(preferences: dict[str, Any]) -> None:
    assert {name: p["default"] for name, p in preferences.items()} == flat_values(SegmentSettings())


@needs_preferences
def test_napari_keeps_settings(preferences: dict[str, Any], tmp_path: Path) -> None:
    store = settings.settings_store()
    assert isinstance(store, NapariStore)
    assert store.load() == SegmentSettings()
    store.save(CHOSEN)
    assert settings.settings_store().load() == CHOSEN
    written = yaml.safe_load((tmp_path / "napari-slidesam.yaml").read_text(encoding="utf-8"))
    assert written["segment"]["device"] == "cuda:1"


@needs_preferences
@pytest.mark.parametrize("text", ["just words", "segment: 3", "segment: {auto_run: maybe}", "{"])
def test_a_corrupt_file_of_napari_is_defaults(
    preferences: dict[str, Any], tmp_path: Path, user_folder: Path, text: str
) -> None:
    (tmp_path / "napari-slidesam.yaml").write_text(text, encoding="utf-8")
    assert settings.settings_store().load() == SegmentSettings()


@needs_preferences
def test_without_its_manifest_the_plugin_has_its_own_file(
    plugin_settings: None, user_folder: Path
) -> None:
    assert isinstance(settings.settings_store(), FileStore)


def test_older_napari_gets_a_file(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)
    store = settings.settings_store()
    assert store == FileStore(user_folder / "segment.json")
