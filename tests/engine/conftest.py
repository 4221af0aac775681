"""A network simple enough to know its answers, and phantoms."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.geometry import Box, Viewport
from napari_slidesam.model.protocol import WindowPrediction
from napari_slidesam.volume import Volume


class ThresholdModel:
    """Calls the object whatever is bright inside the prompt's enlarged box.

    The second candidate is everything bright in the window, trusted less.
    """

    name = "threshold"
    size = 64

    def __init__(self, predicted_iou=0.9, steepness=20.0, presence=False):
        self.predicted_iou = predicted_iou
        self.steepness = steepness
        self.presence = presence
        self.batches = []
        self.positions = []
        self._device = torch.device("cpu")

    @property
    def device(self):
        return self._device

    def to_device(self, device):
        self._device = device

    def viewports(self, box, points_yx, plane_shape_yx):
        if box is not None:
            return (Viewport.around(box, 2 * max(box.height, box.width), self.size),)
        y, x = points_yx[0]
        click = Box(y, x, y + 1, x + 1)
        return tuple(Viewport.around(click, side, self.size) for side in (12, 24, 48))

    def predict_windows(self, windows, prompts):
        self.batches.append(len(prompts))
        everything = (windows - 0.5) * self.steepness
        inside = torch.full_like(everything, -1.0)
        for row, prompt in enumerate(prompts):
            if prompt.box_xyxy_model is None:
                inside[row] = 1.0
                continue
            x0, y0, x1, y1 = (round(v) for v in prompt.box_xyxy_model)
            inside[row, :, max(0, y0 - 4) : y1 + 4, max(0, x0 - 4) : x1 + 4] = 1.0
            for (x, y), label in zip(prompt.points_xy_model, prompt.point_labels, strict=True):
                if not label:
                    inside[row, :, int(y) - 6 : int(y) + 6, int(x) - 6 : int(x) + 6] = -1.0
        boxed = torch.where(inside > 0, everything, -self.steepness / 2)
        iou = torch.tensor([[self.predicted_iou, self.predicted_iou - 0.2]])
        present = (boxed > 0).flatten(2).any(-1).float() if self.presence else None
        return WindowPrediction(
            torch.stack([boxed, everything], dim=1), iou.repeat(len(prompts), 1), present
        )


class TinySam(nn.Module):
    """Embeds windows, then calls the object whatever is bright inside the prompt's box.

    It sees the whole plane, as the paper's network does. The first three channels of an
    embedding are the slices at half size, the others random features that move the logits a
    little, so that another embedding is another answer.
    """

    size = 64

    def __init__(self, name="tiny-sam", seed=0, steepness=20.0):
        super().__init__()
        self.name = name
        self.steepness = steepness
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(8, 3, 2, 2, generator=generator) * 0.1
        weight[:3] = torch.eye(3)[:, :, None, None] / 4
        self.encoder = nn.Conv2d(3, 8, 2, 2, bias=False)
        self.encoder.weight.data = weight
        self.embedded = []
        self.decoded = []

    @property
    def device(self):
        return self.encoder.weight.device

    @property
    def fingerprint(self):
        raw = self.encoder.weight.detach().cpu().numpy().tobytes()
        return hashlib.sha256(raw).hexdigest()[:16]

    def to_device(self, device):
        self.to(device)

    def viewports(self, box, points_yx, plane_shape_yx):
        return (Viewport(0, 0, max(plane_shape_yx), self.size),)

    def embed_windows(self, windows):
        self.embedded.append(len(windows))
        return self.encoder(windows)

    def predict_embedded(self, embeddings, prompts):
        self.decoded.append(len(prompts))
        extra = embeddings[:, 3:].mean(1, keepdim=True)
        everything = (embeddings[:, :3] - 0.5 + 0.05 * extra) * self.steepness
        inside = torch.zeros_like(everything, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            x0, y0, x1, y1 = (round(v / 2) for v in prompt.box_xyxy_model or (0, 0, 64, 64))
            inside[row, :, max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = True
        boxed = torch.where(inside, everything, -self.steepness / 2)
        masks = torch.stack([boxed, everything], dim=1)
        return WindowPrediction(masks, torch.tensor([[0.9, 0.7]]).repeat(len(prompts), 1))

    def predict_windows(self, windows, prompts):
        return self.predict_embedded(self.embed_windows(windows), prompts)


@pytest.fixture
def make_sam():
    return TinySam


@pytest.fixture
def model():
    return ThresholdModel()


@pytest.fixture
def predictor(model):
    return Predictor(model)


@pytest.fixture
def make_model():
    return ThresholdModel


def ball(shape, centre, radius):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


@pytest.fixture
def balls():
    """Two bright balls of radius 8 and 6 in a volume of 30 x 48 x 56; labels 1 and 2."""
    shape = (30, 48, 56)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[ball(shape, (14, 18, 16), 8)] = 1
    labels[ball(shape, (16, 30, 40), 6)] = 2
    return labels


@pytest.fixture
def volume(balls):
    return Volume((balls > 0).astype(np.float32) * 100)
