"""Phantoms in files, a network that sees brightness, and jobs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_slidesam.geometry import Viewport
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.protocol import WindowPrediction
from napari_slidesam.model.weights import save_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPACING_ZYX = (2.0, 1.0, 1.0)


def ellipsoid(shape, centre, semi_axes):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    parts = zip(grid, centre, semi_axes, strict=True)
    return sum(((g - c) / r) ** 2 for g, c, r in parts) <= 1.0


class BrightnessNetwork(torch.nn.Module):
    """Calls the object whatever is brighter than a level in the prompt's box."""

    name = "brightness"
    device = torch.device("cpu")

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = level
        self.was_training: list[bool] = []

    def to_device(self, device):
        pass

    def viewports(self, box, points_yx, plane_shape_yx):
        return (Viewport.around(box, 2 * max(box.height, box.width), 64),)

    def predict_windows(self, windows, prompts):
        self.was_training.append(self.training)
        logits = (windows - self.level) * 20
        for row, prompt in enumerate(prompts):
            x0, y0, x1, y1 = (round(v) for v in prompt.box_xyxy_model)
            outside = torch.ones(logits.shape[-2:], dtype=torch.bool)
            outside[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3] = False
            logits[row, :, outside] = -10.0
        return WindowPrediction(logits[:, None], torch.full((len(prompts), 1), 0.9))


@pytest.fixture
def network() -> BrightnessNetwork:
    return BrightnessNetwork()


@pytest.fixture
def labels() -> np.ndarray:
    """Two ellipsoids, 3 and 7."""
    found = np.zeros((24, 48, 56), np.uint8)
    found[ellipsoid(found.shape, (10, 18, 15), (7, 12, 12))] = 3
    found[ellipsoid(found.shape, (13, 32, 42), (7, 10, 10))] = 7
    return found


@pytest.fixture
def image(labels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 4, labels.shape)
    bright: np.ndarray = ((labels > 0) * 100 + noise).astype(np.float32)
    return bright


@pytest.fixture
def write_pair(image: np.ndarray, labels: np.ndarray) -> Callable[..., tuple[Path, Path]]:
    """Return a function that writes an image and its labels as NIfTI."""

    def write(folder, name="phantom", *, image=image, labels=labels, spacing_zyx=SPACING_ZYX):
        folder.mkdir(parents=True, exist_ok=True)
        affine = np.diag([*spacing_zyx[::-1], 1.0])
        paths = folder / f"{name}.nii.gz", folder / f"{name}_labels.nii.gz"
        for path, values in zip(paths, (image, labels), strict=True):
            nib.save(nib.Nifti1Image(values.T, affine), path)
        return paths

    return write


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
