"""What holds for the package as a whole: layers, lazy imports, manifest, metadata, wheel."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
from pathlib import Path

import pytest

import napari_slidesam

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_slidesam"
MODULES = sorted(SOURCE.rglob("*.py"))

# Imports go to the same or a lower number; what is not named is a root module.
LAYERS = {
    "model": 1,
    "engine": 2,
    "tuning": 2,
    "evaluation": 3,
    "batch": 3,
    "jobs": 4,
    "gui": 5,
    "cli": 5,
}
GUI_LIBRARIES = {"napari", "qtpy", "superqt", "magicgui", "PyQt6", "PyQt5", "PySide6", "vispy"}
LIGHT_MODULES = ["errors", "geometry", "prompts", "volume", "io", "metrics", "overlay"]


def _part(module: str) -> str:
    """Return the first name below the package: ``engine`` of ``napari_slidesam.engine.x``."""
    return module.split(".")[1] if "." in module else ""


def _part_of_file(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after a statement."""
    script = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_go_down(path: Path) -> None:
    part = _part_of_file(path)
    if part in ("__main__", "__init__"):
        return
    for module in _imports(path):
        if module.split(".")[0] != "napari_slidesam":
            continue
        other = _part(module)
        assert LAYERS.get(other, 0) <= LAYERS.get(part, 0), f"{part} imports {module}"
        assert {part, other} != {"engine", "tuning"}, f"{part} imports {module}"
        assert not (part == "gui" and other == "cli"), f"{part} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_only_the_surfaces_know_the_gui(path: Path) -> None:
    if _part_of_file(path) in ("gui", "cli"):
        return
    used = {module.split(".")[0] for module in _imports(path)}
    assert not used & GUI_LIBRARIES


def test_importing_the_package_is_light() -> None:
    loaded = _loaded_after("import napari_slidesam")
    assert not loaded & {"torch", "numpy", *GUI_LIBRARIES}


def test_root_modules_need_no_torch() -> None:
    names = ", ".join(f"napari_slidesam.{name}" for name in LIGHT_MODULES)
    assert not _loaded_after(f"import {names}") & {"torch", *GUI_LIBRARIES}


def test_the_core_needs_no_gui() -> None:
    core = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if _part_of_file(path) not in ("gui", "cli", "__main__")
    ]
    loaded = _loaded_after(f"import {', '.join(core)}")
    assert "torch" in loaded
    assert not loaded & GUI_LIBRARIES


def test_propagation_never_loads_triton() -> None:
    """In a napari window drawn in software, loading it kills the process."""
    statement = "; ".join(
        [
            "import numpy as np",
            "from napari_slidesam.engine.predictor import Predictor",
            "from napari_slidesam.engine.propagation import propagate",
            "from napari_slidesam.geometry import Box",
            "from napari_slidesam.model.lite.config import LiteConfig",
            "from napari_slidesam.model.lite.network import SlideSamLite",
            "from napari_slidesam.prompts import BoxPrompt, ObjectPrompts",
            "from napari_slidesam.volume import Volume",
            "volume = Volume(np.random.rand(5, 32, 32))",
            "prompts = ObjectPrompts(1, (BoxPrompt(2, Box(8, 8, 20, 20)),))",
            "predictor = Predictor(SlideSamLite(LiteConfig(depth=1)).eval())",
            "assert list(propagate(predictor, volume, [prompts]))",
        ]
    )
    assert "triton" not in _loaded_after(statement)


def test_help_is_quick() -> None:
    statement = "import napari_slidesam.cli.app"
    assert not _loaded_after(statement) & {"torch", "scipy", "matplotlib", *GUI_LIBRARIES}


def test_torch_and_torchvision_fit_each_other() -> None:
    """A torchvision built for another torch fails at import or at its first operator."""
    import torch
    import torchvision.ops

    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.1]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
    assert kept.tolist() == [0]


def test_networks_and_adapters_import() -> None:
    import accelerate
    import peft
    import segment_anything

    assert segment_anything.sam_model_registry
    assert peft.LoraConfig
    assert accelerate.Accelerator


def test_manifest_is_valid_and_every_command_exists() -> None:
    from npe2 import PluginManifest
    from npe2.manifest.utils import import_python_name

    manifest = PluginManifest.from_distribution("napari-slidesam")
    assert manifest.display_name == "Slide-SAM"
    assert manifest.contributions.commands
    for command in manifest.contributions.commands:
        assert command.python_name is not None
        assert callable(import_python_name(command.python_name))


def test_manifest_at_the_top_is_the_packaged_one() -> None:
    packaged = (SOURCE / "napari.yaml").read_text(encoding="utf-8")
    top = ROOT / "napari.yaml"
    # Where links are not kept (Windows without the right), git stores the target's path.
    assert top.read_text(encoding="utf-8").strip() in (packaged.strip(), _link_target())


def _link_target() -> str:
    return (SOURCE / "napari.yaml").relative_to(ROOT).as_posix()


def test_metadata() -> None:
    metadata = importlib.metadata.metadata("napari-slidesam")
    assert metadata["Version"] == napari_slidesam.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    required = importlib.metadata.requires("napari-slidesam") or []
    always = {re.split(r"[^\w.-]", r)[0].lower() for r in required if "extra ==" not in r}
    assert not always & {"pyqt5", "pyqt6", "pyside2", "pyside6"}
    assert any(r.startswith("napari[all]") for r in required)


def test_version_is_the_same_everywhere() -> None:
    version = napari_slidesam.__version__
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE)


@pytest.mark.weights
def test_the_embedded_weights_are_installed() -> None:
    folder = importlib.resources.files("napari_slidesam.model") / "weights"
    sizes = [len(f.read_bytes()) for f in folder.iterdir() if f.name.endswith(".safetensors")]
    assert sizes
    assert sum(sizes) <= 20_000_000
