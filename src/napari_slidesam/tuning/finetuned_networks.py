"""Both networks as training uses them: which parts train, and what they answer with gradients."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from napari_slidesam.errors import TuningError
from napari_slidesam.model.adapters import LoraSettings
from napari_slidesam.model.lite.network import SlideSamLite, collate_prompts
from napari_slidesam.model.protocol import WINDOW_SLICES, WindowPrediction
from napari_slidesam.model.sam.network import SlideSam, normalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.model.protocol import WindowPrompt
    from napari_slidesam.tuning.finetune_config import FinetuneConfig
    from napari_slidesam.tuning.window_draws import WindowKey

_LITE_ENCODER = r"trunk\.blocks\.\d+\.attn\.qkv"
_LITE_DECODER = r"decoder\.(heads\.\d+|iou_head|presence_head)\.[02]"
_SAM_ENCODER = r"image_encoder\.blocks\.\d+\.attn\.qkv"
_SAM_DECODER = r"mask_decoder\.transformer\..*\.([qkv]_proj|out_proj|lin[12])"

_LITE_CONVOLUTIONS = ("reduce8", "fuse8", "reduce4", "skip4", "fuse4")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a network answers, as the loss takes it.

    Parameters
    ----------
    mask_logits : Tensor, shape (B, M, 3, h, w)
    iou : Tensor, shape (B, M)
        As the network's head gives it.
    presence_logits : Tensor, shape (B, 3), optional
    """

    mask_logits: torch.Tensor
    iou: torch.Tensor
    presence_logits: torch.Tensor | None


class FinetunedNetwork(Protocol):
    """A network behind one seam for training."""

    iou_is_logit: bool
    """Whether a sigmoid makes the IoU of what the head gives."""

    keeps_embeddings: bool
    """Whether embeddings are kept, so that windows must come as they are."""

    whole_rate: float
    """Learning rate of what is trained whole, over that of the low-rank changes."""

    def answer(
        self,
        windows: torch.Tensor,
        prompts: Sequence[WindowPrompt],
        keys: Sequence[WindowKey],
    ) -> Answer:
        """Answer B windows (B, 3, H, W); equal keys are equal windows."""

    def prediction(self, answer: Answer) -> WindowPrediction:
        """Return an answer as inference would give it."""


def lora_settings(model: SlideSamLite | SlideSam, config: FinetuneConfig) -> LoraSettings:
    """Return which layers of a network get low-rank changes and which are trained whole.

    Of the paper's network in ViT-B's size a rank of 8 makes 1.2 MB in the encoder's attention,
    2.4 MB of patch embedding, 0.7 MB in the decoder's transformer and 3.2 MB of its upscaling
    branches, hypernetworks and IoU head: the transformer whole would be 13 MB.
    """
    is_sam = isinstance(model, SlideSam)
    targets, whole = [], []
    if config.train_encoder:
        targets.append(_SAM_ENCODER if is_sam else _LITE_ENCODER)
        if config.train_patch_embed:
            whole.append("patch_embed" if is_sam else "stem.to2")
    if config.train_decoder and isinstance(model, SlideSam):
        targets.append(_SAM_DECODER)
        whole += [f"branches.{i}" for i in range(WINDOW_SLICES)]
        # The first hypernetwork is of SAM's single mask, which windows do not ask for.
        whole += [f"hypernetworks.{1 + j}" for j in range(model.config.num_candidates)]
        whole += ["iou_head", "iou_token", "mask_tokens"]
    elif config.train_decoder and config.train_encoder:
        whole.append("decoder")
    elif config.train_decoder:
        targets.append(_LITE_DECODER)
        whole += [f"decoder.{name}" for name in _LITE_CONVOLUTIONS]
        whole += [f"decoder.branches.{i}" for i in range(WINDOW_SLICES)]
    return LoraSettings(
        rank=config.rank,
        alpha=config.alpha,
        dropout=config.dropout,
        modules_to_save=tuple(whole),
        targets="|".join(rf"(.*\.)?{target}" for target in targets),
    )


def finetuned_network(model: nn.Module, config: FinetuneConfig) -> LiteNetwork | SamNetwork:
    """Return the network behind the seam, and have it compute twice where that is asked for.

    Raises
    ------
    TuningError
        It is neither of the two networks.
    """
    if isinstance(model, SlideSamLite):
        model.stem.recompute = model.trunk.recompute = config.gradient_checkpointing
        return LiteNetwork(model)
    if isinstance(model, SlideSam):
        model.image_encoder.recompute = config.gradient_checkpointing
        return SamNetwork(model, config.embedding_bytes)
    raise TuningError(
        f"SlideSamLite or SlideSam is expected for fine-tuning; got {type(model).__name__}."
    )


class LiteNetwork:
    """`SlideSamLite`, which sees prompts and pixels together; see `FinetunedNetwork`."""

    iou_is_logit = True
    keeps_embeddings = False
    whole_rate = 0.1
    """Its decoder knows the task: at the full rate it forgets faster than it learns."""

    def __init__(self, model: SlideSamLite) -> None:
        self.model = model

    def answer(
        self,
        windows: torch.Tensor,
        prompts: Sequence[WindowPrompt],
        keys: Sequence[WindowKey],
    ) -> Answer:
        """Answer B windows."""
        tensors = collate_prompts(prompts, windows.shape[-1], windows.device)
        mask_logits, iou_logits, presence_logits = self.model(windows, tensors)
        return Answer(mask_logits, iou_logits, presence_logits)

    def prediction(self, answer: Answer) -> WindowPrediction:
        """Return an answer as inference would give it."""
        config = self.model.config
        assert answer.presence_logits is not None, "this network has a presence head"
        return WindowPrediction(
            mask_logits=answer.mask_logits.float() + config.mask_logit_shift,
            predicted_iou=(answer.iou.float() + config.iou_logit_shift).sigmoid(),
            presence=answer.presence_logits.float().sigmoid(),
        )


class SamNetwork:
    """`SlideSam`, which embeds pixels without prompts; see `FinetunedNetwork`.

    Where nothing in its encoder trains, embeddings are kept, up to ``max_bytes``.
    """

    iou_is_logit = False
    whole_rate = 1.0
    """As in the paper: its branches may come from SAM, and have the task to learn."""

    def __init__(self, model: SlideSam, max_bytes: int) -> None:
        self.model = model
        self.max_bytes = max_bytes
        is_frozen = not any(p.requires_grad for p in model.image_encoder.parameters())
        self.keeps_embeddings = is_frozen and max_bytes > 0
        self._kept: OrderedDict[WindowKey, torch.Tensor] = OrderedDict()
        self._n_bytes = 0

    def answer(
        self,
        windows: torch.Tensor,
        prompts: Sequence[WindowPrompt],
        keys: Sequence[WindowKey],
    ) -> Answer:
        """Answer B windows."""
        embeddings = self._kept_or_new(windows, keys) if self.keeps_embeddings else None
        if embeddings is None:
            embeddings = self._encoded(windows)
        mask_logits, predicted_iou = self.model.decode_windows(embeddings, prompts)
        return Answer(mask_logits, predicted_iou, None)

    def prediction(self, answer: Answer) -> WindowPrediction:
        """Return an answer as inference would give it."""
        return WindowPrediction(
            mask_logits=answer.mask_logits.float(),
            predicted_iou=answer.iou.float().clamp(0, 1),
        )

    def _encoded(self, windows: torch.Tensor) -> torch.Tensor:
        """Encode under the precision that holds around, whatever inference runs in."""
        kind = windows.device.type
        reduced = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if reduced else torch.float32
        out: torch.Tensor = self.model.image_encoder(normalised(windows), dtype=dtype)
        return out

    def _kept_or_new(self, windows: torch.Tensor, keys: Sequence[WindowKey]) -> torch.Tensor:
        """Return embeddings from memory, the missing ones encoded once."""
        missing = list(dict.fromkeys(key for key in keys if key not in self._kept))
        found = {key: self._kept[key] for key in keys if key in self._kept}
        if missing:
            rows = [keys.index(key) for key in missing]
            with torch.no_grad():
                new = self._encoded(windows[rows])
            found |= {k: row.float().cpu().clone() for k, row in zip(missing, new, strict=True)}
        for key in dict.fromkeys(keys):
            self._keep(key, found[key])
        return torch.stack([found[key] for key in keys]).to(windows.device)

    def _keep(self, key: WindowKey, embedding: torch.Tensor) -> None:
        if key not in self._kept:
            self._kept[key] = embedding
            self._n_bytes += embedding.nbytes
        self._kept.move_to_end(key)
        while self._n_bytes > self.max_bytes and self._kept:
            _, old = self._kept.popitem(last=False)
            self._n_bytes -= old.nbytes
