"""Phantoms with known answers, as arrays and as folders, and a network that sees brightness."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.evaluation.cases import Case
from napari_slidesam.geometry import Viewport
from napari_slidesam.model.protocol import WindowPrediction
from napari_slidesam.volume import Volume

SPACING_ZYX = (2.0, 1.0, 1.0)


def ellipsoid(shape, centre, semi_axes):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    parts = zip(grid, centre, semi_axes, strict=True)
    return sum(((g - c) / r) ** 2 for g, c, r in parts) <= 1.0


class BrightnessNetwork:
    """Calls the object whatever is bright in the prompt's box, or anywhere without one."""

    name = "brightness"
    device = torch.device("cpu")

    def to_device(self, device):
        pass

    def viewports(self, box, points_yx, plane_shape_yx):
        if box is not None:
            return (Viewport.around(box, 2 * max(box.height, box.width), 64),)
        return (Viewport(0, 0, max(plane_shape_yx), 64),)

    def predict_windows(self, windows, prompts):
        logits = (windows - 0.5) * 20
        for row, prompt in enumerate(prompts):
            if prompt.box_xyxy_model is not None:
                x0, y0, x1, y1 = (round(v) for v in prompt.box_xyxy_model)
                outside = torch.ones(logits.shape[-2:], dtype=torch.bool)
                outside[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3] = False
                logits[row, :, outside] = -10.0
        return WindowPrediction(logits[:, None], torch.full((len(prompts), 1), 0.75))


@pytest.fixture
def predictor():
    return Predictor(BrightnessNetwork())


@pytest.fixture
def labels():
    """Two ellipsoids that are round in space: the slices are twice as far apart as pixels."""
    found = np.zeros((24, 48, 56), np.uint8)
    found[ellipsoid(found.shape, (10, 18, 15), (6, 12, 12))] = 3
    found[ellipsoid(found.shape, (13, 32, 42), (5, 10, 10))] = 7
    return found


@pytest.fixture
def image(labels):
    noise = np.random.default_rng(0).normal(0, 4, labels.shape)
    return ((labels > 0) * 100 + noise).astype(np.float32)


@pytest.fixture
def case(image, labels):
    return Case("phantom", Volume(image, SPACING_ZYX, "mm"), labels, 0, (3, 7), "phantom")


@pytest.fixture
def write_case(image, labels):
    """Return a function that writes a labelled volume to a folder."""

    def write(folder, *, meta=None, image=image, labels=labels):
        folder.mkdir(parents=True)
        affine = np.diag([*SPACING_ZYX[::-1], 1.0])
        nib.save(nib.Nifti1Image(image.T, affine), folder / "image.nii.gz")
        nib.save(nib.Nifti1Image(labels.T, affine), folder / "labels.nii.gz")
        if meta is not None:
            (folder / "meta.json").write_text(json.dumps(meta))
        return folder

    return write
