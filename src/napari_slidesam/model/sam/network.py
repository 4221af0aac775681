"""`SlideSam`: encoder, prompt encoder and decoder put together behind the window protocol."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_slidesam.errors import InferenceError
from napari_slidesam.geometry import Viewport
from napari_slidesam.model.protocol import WINDOW_SLICES, WindowPrediction
from napari_slidesam.model.sam.config import SamConfig
from napari_slidesam.model.sam.decoder import WindowMaskDecoder
from napari_slidesam.model.sam.encoder import ImageEncoder
from napari_slidesam.model.sam.precision import (
    Precision,
    PrecisionMode,
    check_mode,
    probe_precision,
)
from napari_slidesam.model.sam.prompts import SamPrompts, grouped_prompts, prompt_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segment_anything.modeling import PromptEncoder

    from napari_slidesam.geometry import Box
    from napari_slidesam.model.protocol import WindowPrompt

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Of segment-anything's training images, values from 0 to 255."""

_WHITE = 255.0


def normalised(windows: torch.Tensor) -> torch.Tensor:
    """Return windows (B, 3, H, W), range [0, 1], as the image encoder takes them."""
    mean = windows.new_tensor(PIXEL_MEAN).view(-1, 1, 1)
    std = windows.new_tensor(PIXEL_STD).view(-1, 1, 1)
    return (windows * _WHITE - mean) / std


class SlideSam(nn.Module):
    """The paper's network: SAM on windows of three slices (sections 2.1 and 2.2).

    Parameters
    ----------
    config : SamConfig, optional
        ViT-B unless given.
    name : str
        Identifies the weights in sessions and reports.
    precision : str
        ``float32``, ``bfloat16``, ``float16``, or ``auto``: what a short measurement finds
        fastest on the device. Only the image encoder runs in it.
    """

    def __init__(
        self,
        config: SamConfig | None = None,
        *,
        name: str = "slidesam",
        precision: PrecisionMode = "float32",
    ) -> None:
        super().__init__()
        self.config = config or SamConfig()
        self.name = name
        self.precision_mode: PrecisionMode = check_mode(precision)
        self.image_encoder = ImageEncoder(self.config)
        self.prompt_encoder: PromptEncoder = prompt_encoder(self.config)
        self.mask_decoder = WindowMaskDecoder(self.config)
        self._fingerprint: tuple[object, str] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image_encoder.pos_embed.device

    def to_device(self, device: torch.device) -> None:
        """Move the weights."""
        self.to(device)

    @property
    def precision(self) -> Precision:
        """How the image encoder is run; measured at the first look where the mode is auto."""
        if self.precision_mode == "auto":
            return probe_precision(self.image_encoder, self.config)
        return Precision(self.precision_mode)

    @property
    def fingerprint(self) -> str:
        """Identifies the image encoder's weights, its adapter and the number type.

        Networks that differ in the decoder alone share their embeddings.
        """
        state = self.image_encoder.state_dict(keep_vars=True)
        # Training changes a tensor's version, merging an adapter the names.
        version = tuple((name, id(t), t._version) for name, t in state.items())
        if self._fingerprint is None or self._fingerprint[0] != version:
            digest = hashlib.sha256()
            for name, tensor in state.items():
                digest.update(name.encode())
                raw = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
                digest.update(raw.numpy().data)
            self._fingerprint = (version, digest.hexdigest()[:32])
        return f"{self._fingerprint[1]}-{self.precision.number_type}"

    def compile_encoder(self, backend: str = "inductor") -> None:
        """Compile the image encoder at its next use.

        A minute or more once, then a little faster; worth it for many volumes on CUDA. The
        first compilation needs a C++ compiler.
        """
        self.image_encoder.compile(backend=backend)

    def viewports(
        self,
        box: Box | None,
        points_yx: Sequence[tuple[float, float]],
        plane_shape_yx: tuple[int, int],
    ) -> tuple[Viewport, ...]:
        """Return the square that begins where the plane does and holds all of it.

        It is the same for all prompts, so that an embedding serves all of them.
        """
        return (Viewport(0, 0, max(plane_shape_yx), self.config.image_size),)

    def embed_windows(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the image embeddings of B windows, float32, shape (B, C, H / 16, W / 16).

        Parameters
        ----------
        windows : Tensor of float32, shape (B, 3, H, W), range [0, 1]
            H and W are the config's ``image_size``.

        Raises
        ------
        InferenceError
            The windows have another shape.
        """
        side = self.config.image_size
        if windows.ndim != 4 or tuple(windows.shape[1:]) != (WINDOW_SLICES, side, side):
            raise InferenceError(
                f"{self.name} needs windows of shape (B, {WINDOW_SLICES}, {side}, {side}); got "
                f"{tuple(windows.shape)}. Cut them by the network's viewports."
            )
        precision = self.precision
        self.image_encoder.set_layout(precision.memory_format)
        parts = []
        for part in windows.split(precision.batch):
            images = normalised(part).contiguous(memory_format=precision.memory_format)
            parts.append(self.image_encoder(images, dtype=precision.dtype))
        return torch.cat(parts)

    def decode(
        self, embeddings: torch.Tensor, prompts: SamPrompts, *, multimask: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode B windows whose prompts have the same parts; see `WindowMaskDecoder`."""
        sparse, dense = self.prompt_encoder(
            points=prompts.points, boxes=prompts.boxes_xyxy, masks=prompts.mask_logits
        )
        out: tuple[torch.Tensor, torch.Tensor] = self.mask_decoder(
            embeddings.float(),
            self.prompt_encoder.get_dense_pe(),
            sparse,
            dense,
            multimask=multimask,
        )
        return out

    def decode_windows(
        self,
        embeddings: torch.Tensor,
        prompts: Sequence[WindowPrompt],
        *,
        multimask: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode B windows with any prompts.

        Returns
        -------
        mask_logits : Tensor of float32, shape (B, M or 1, 3, H / 4, W / 4)
        predicted_iou : Tensor of float32, shape (B, M or 1)
            As the head gives it: not bounded.
        """
        mask_size = 4 * self.config.grid_size
        order: list[int] = []
        masks, ious = [], []
        for indices, group in grouped_prompts(prompts, mask_size, embeddings.device):
            alone = len(indices) == len(prompts)
            found = self.decode(
                embeddings if alone else embeddings[indices], group, multimask=multimask
            )
            order += indices
            masks.append(found[0])
            ious.append(found[1])
        if len(masks) == 1:
            return masks[0], ious[0]
        back = torch.tensor(order, device=embeddings.device).argsort()
        return torch.cat(masks)[back], torch.cat(ious)[back]

    def forward(
        self, windows: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict masks and their IoU from windows; see `embed_windows`, `decode_windows`."""
        return self.decode_windows(self.embed_windows(windows), prompts)

    def predict_embedded(
        self, embeddings: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        """Predict B windows from embeddings; see `protocol.EmbeddingModel`."""
        mask_logits, predicted_iou = self.decode_windows(embeddings, prompts)
        return WindowPrediction(
            mask_logits=mask_logits.float(), predicted_iou=predicted_iou.float().clamp(0, 1)
        )

    def predict_windows(
        self, windows: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        """Predict B windows; see `protocol.WindowModel`."""
        return self.predict_embedded(self.embed_windows(windows), prompts)
