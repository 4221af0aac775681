"""A small volume on disk and a tiny network with random weights, for commands to run on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_slidesam.cli.app import app
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.weights import save_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def truth() -> np.ndarray:
    """A ball (1) around (8, 20, 22) and a rod (2), shape zyx."""
    z, y, x = np.ogrid[:16, :40, :48]
    labels = np.zeros((16, 40, 48), dtype=np.uint8)
    labels[(z - 8) ** 2 * 2 + (y - 20) ** 2 + (x - 22) ** 2 < 49] = 1
    labels[:, 30:36, 36:44] = 2
    return labels


@pytest.fixture
def affine() -> np.ndarray:
    """Left, posterior, superior; 2 x 1.5 x 3 mm."""
    return np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 20], [0, 0, 3, -40], [0, 0, 0, 1]])


@pytest.fixture
def image(truth: np.ndarray) -> np.ndarray:
    """Ball and rod, bright in noise."""
    noise = np.random.default_rng(0).normal(0, 5, truth.shape)
    bright: np.ndarray = (noise + 100 * (truth > 0)).astype(np.float32)
    return bright


@pytest.fixture
def nifti_path(tmp_path: Path, image: np.ndarray, affine: np.ndarray) -> Path:
    """The image as a NIfTI file."""
    path = tmp_path / "ball.nii.gz"
    nib.save(nib.Nifti1Image(image.T, affine), path)
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a network of a few thousand random parameters."""
    torch.manual_seed(0)
    config = LiteConfig(
        stem_channels=(8, 8, 16), embed_dim=32, depth=1, num_heads=2, viewport_size=64
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(SlideSamLite(config, name="tiny"), path, {"note": "random"})
    return path


@pytest.fixture
def run_cli() -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run


@pytest.fixture
def run_json(run_cli: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Run a command that must do, and return the JSON on its stdout."""

    def run(*arguments: object) -> dict[str, Any]:
        result = run_cli(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        facts: dict[str, Any] = json.loads(result.stdout)
        return facts

    return run
