"""The seam between networks and everything above them.

A network sees windows of three adjacent slices (z-1, z, z+1) and prompts on the centre slice,
and predicts M candidate masks for all three slices (Slide-SAM, sections 2.1 and 2.2). It also
says which part of a plane it wants to see: its viewport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from napari_slidesam.geometry import Box, Viewport
    from napari_slidesam.model.click.look import ClickLook
    from napari_slidesam.model.coarse.look import CoarseLook
    from napari_slidesam.model.outline.look import OutlineLook

WINDOW_SLICES = 3
"""Slices of a window (S): top, centre, bottom."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowPrompt:
    """The prompts of one window, all on its centre slice, in the model frame.

    Parameters
    ----------
    box_xyxy_model : tuple of 4 floats, optional
        Edge coordinates of the viewport's square image, in its pixels.
    points_xy_model : tuple of (x, y)
        Clicks, edge coordinates of the model frame.
    point_labels : tuple of int
        1 for positive, 0 for negative; as long as ``points_xy_model``.
    mask_logits_model : ndarray of float32, shape (3, H, W), optional
        Mask prompt of the three slices, at the size of the window; zero where unknown.
    """

    box_xyxy_model: tuple[float, float, float, float] | None = None
    points_xy_model: tuple[tuple[float, float], ...] = ()
    point_labels: tuple[int, ...] = ()
    mask_logits_model: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class WindowPrediction:
    """What a network predicts for B windows.

    Parameters
    ----------
    mask_logits : Tensor of float32, shape (B, M, 3, h, w)
        M candidates for the three slices; the object is where logits are > 0. The frame is the
        model frame, h and w may be smaller than the window's H and W.
    predicted_iou : Tensor of float32, shape (B, M), range [0, 1]
        The network's own estimate of each candidate's IoU over the window.
    presence : Tensor of float32, shape (B, 3), range [0, 1], optional
        Probability that the object is on each slice at all; None for networks without it.
    """

    mask_logits: torch.Tensor
    predicted_iou: torch.Tensor
    presence: torch.Tensor | None = None


@runtime_checkable
class WindowModel(Protocol):
    """A network behind the seam; ``SlideSamLite`` and the paper's ``SlideSam`` are two."""

    name: str
    """Identifies network and weights in sessions and reports."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def to_device(self, device: torch.device) -> None:
        """Move the weights."""

    def viewports(
        self,
        box: Box | None,
        points_yx: Sequence[tuple[float, float]],
        plane_shape_yx: tuple[int, int],
    ) -> tuple[Viewport, ...]:
        """Return the squares this network wants to see for these prompts, best guess first.

        A network that needs no search returns one. Where several are returned (a point says
        nothing about size), the caller predicts all and keeps the most trusted one.
        ``points_yx`` are in index coordinates.
        """

    def predict_windows(
        self, windows: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        """Predict B windows.

        Parameters
        ----------
        windows : Tensor of float32, shape (B, 3, H, W), range [0, 1]
            The slices z-1, z, z+1 inside each viewport.
        prompts : sequence of B WindowPrompt
        """


@runtime_checkable
class ClickModel(WindowModel, Protocol):
    """A network that comes with a look at a click: how large the object on a slice is."""

    @property
    def click(self) -> ClickLook:
        """The look; shared by all networks of its kind."""


@runtime_checkable
class CoarseModel(WindowModel, Protocol):
    """A network that comes with a coarse look in 3D: how far an object goes."""

    @property
    def coarse(self) -> CoarseLook:
        """The look; shared by all networks of its kind."""


@runtime_checkable
class OutlineModel(WindowModel, Protocol):
    """A network that comes with a look at the outline in a box: a second opinion on a slice."""

    @property
    def outline(self) -> OutlineLook:
        """The look; shared by all networks of its kind."""


@runtime_checkable
class EmbeddingModel(WindowModel, Protocol):
    """A network whose image encoder knows no prompts, so that its work can be kept.

    ``predict_windows(windows, prompts)`` equals
    ``predict_embedded(embed_windows(windows), prompts)``.
    """

    @property
    def fingerprint(self) -> str:
        """Identifies weights, adapter and precision: embeddings of another are not usable."""

    def embed_windows(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of B windows, shape (B, C, h, w), on the network's device.

        Parameters
        ----------
        windows : Tensor of float32, shape (B, 3, H, W), range [0, 1]
        """

    def predict_embedded(
        self, embeddings: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        """Predict B windows from their embeddings.

        Parameters
        ----------
        embeddings : Tensor, shape (B, C, h, w)
            As `embed_windows` made them, on the network's device. Windows that share an
            embedding may pass an expanded view of it.
        prompts : sequence of B WindowPrompt
        """
