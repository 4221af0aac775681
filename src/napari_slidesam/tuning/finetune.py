"""Fine-tuning of either network on windows of a user's volumes (Slide-SAM 2.3, appendix C).

A batch is read and drawn before the network is asked; what depends on the network's own answers
is made in the loss, as inference makes it::

    drawn prompt ------------------------------------------------> trained on
        -> answer -> point on its error -> (answer -> point) ----> trained on
        -> answer -> its own mask, and box ----------------------> trained on
    drawn prompt on the window before
        -> answer -> opened end mask's box, both masks ----------> trained on the next window

`FinetuneConfig` is in `napari_slidesam.tuning.finetune_config`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_slidesam.errors import TuningError
from napari_slidesam.model.adapters import (
    adapter_state,
    add_lora,
    has_adapter,
    set_adapter_state,
    train_adapter,
)
from napari_slidesam.model.candidates import blended, candidate_scores
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.tuning.finetune_config import FinetuneConfig
from napari_slidesam.tuning.finetuned_networks import finetuned_network, lora_settings
from napari_slidesam.tuning.losses import hybrid_loss
from napari_slidesam.tuning.plane_augment import NO_AUGMENTATION
from napari_slidesam.tuning.plane_prompts import CENTRE, corrected, handed_on, second_look
from napari_slidesam.tuning.plane_views import (
    choose_view,
    found_patches,
    outer_region,
    seen_masks,
    seen_pixels,
    seen_prompt,
)
from napari_slidesam.tuning.task import StepLoss
from napari_slidesam.tuning.window_draws import draw_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_slidesam.geometry import Viewport
    from napari_slidesam.model.lite.network import SlideSamLite
    from napari_slidesam.model.sam.network import SlideSam
    from napari_slidesam.tuning.finetuned_networks import Answer
    from napari_slidesam.tuning.losses import LossReport
    from napari_slidesam.tuning.plane_prompts import PlanePrompt
    from napari_slidesam.tuning.task import StepDraw
    from napari_slidesam.tuning.window_draws import DrawnWindow, WindowDraw
    from napari_slidesam.tuning.windows import WindowSource


@dataclass(frozen=True, slots=True)
class FinetuneBatch:
    """The windows of a step and everything drawn about them; knows nothing of weights."""

    draws: tuple[WindowDraw, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A window under a prompt, and the place where the network looks for it."""

    window: DrawnWindow
    prompt: PlanePrompt
    view: Viewport


class FinetuneTask:
    """A network, an adapter on it, and windows to train it on; a `TrainingTask`.

    Adds an adapter to the network, unless it holds one that is not merged: that one is trained
    on as it is. All statistics of normalisation layers stay as they are.

    Parameters
    ----------
    model : SlideSamLite or SlideSam
    source : WindowSource
    config : FinetuneConfig, optional

    Raises
    ------
    TuningError
        The source is empty, or the network neither of the two.
    CheckpointError
        The network has none of the layers to adapt.
    """

    def __init__(
        self,
        model: SlideSamLite | SlideSam,
        source: WindowSource,
        config: FinetuneConfig | None = None,
    ) -> None:
        self.model: nn.Module = model
        self.source = source
        self.config = config if config is not None else FinetuneConfig()
        if len(source) == 0:
            raise TuningError("There are no windows to train on: give labelled volumes.")
        if has_adapter(model):
            train_adapter(model)
        else:
            add_lora(model, lora_settings(model, self.config))
        self._seeing = model
        self._network = finetuned_network(model, self.config)
        self._augment = self.config.augment
        if self._network.keeps_embeddings:
            self._augment = NO_AUGMENTATION
        self._own_range = self.config.intensity.kind == "window"
        self.steps_per_epoch = math.ceil(len(source) / self.config.batch_size)

    def batch(self, draw: StepDraw) -> FinetuneBatch:
        """Read the windows of a step and draw everything about them.

        Each process goes through all windows in an order of its own, anew each time it is
        through. The same draw gives the same batch.
        """
        draws = []
        for place in range(draw.batch_size):
            number = draw.step * draw.batch_size + place
            rng = np.random.default_rng((draw.seed, draw.process, number))
            index = self._window_at(draw, number)
            drawn = draw_window(self.source, index, self.config.prompts, self._augment, rng)
            draws.append(drawn)
        return FinetuneBatch(tuple(draws))

    def _window_at(self, draw: StepDraw, number: int) -> int:
        turn, place = divmod(number, len(self.source))
        # Apart from the seeds of the windows themselves by its length.
        order = np.random.default_rng((draw.seed, draw.process, turn, 1))
        return int(order.permutation(len(self.source))[place])

    def loss(self, batch: FinetuneBatch) -> StepLoss:
        """Return the loss of a batch, with gradients; the network's mode stays as it is."""
        looks = self._looks(batch.draws)
        self._keep_statistics()
        answer, targets = self._answer(looks)
        device = targets.device
        indicator = torch.tensor(
            [look.window.indicator for look in looks], dtype=torch.float32, device=device
        )
        report = hybrid_loss(
            answer.mask_logits,
            answer.iou,
            answer.presence_logits,
            targets,
            indicator,
            self.config.losses,
            iou_is_logit=self._network.iou_is_logit,
        )
        return StepLoss(report.total, _parts(report, answer))

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Return the adapter's tensors, by peft's names."""
        return adapter_state(self.model)

    def load_trained_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put the adapter's tensors back.

        Raises
        ------
        CheckpointError
            They are of another adapter.
        """
        set_adapter_state(self.model, dict(state))

    def rate_share(self, name: str) -> float:
        """Return the rate of a parameter of the network over that of the run."""
        return 1.0 if is_low_rank(name) else self._network.whole_rate

    def _keep_statistics(self) -> None:
        """Have normalisation layers use what they know; eight windows say little anyway."""
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def _looks(self, draws: Sequence[WindowDraw]) -> list[_Look]:
        """Return the windows to train on with the prompts that inference would give them."""
        rngs = [np.random.default_rng(draw.seed) for draw in draws]
        looks = [
            self._look(draw.before or draw.window, draw.prompt, rng)
            for draw, rng in zip(draws, rngs, strict=True)
        ]
        for turn in range(max(draw.corrections for draw in draws)):
            asked = [i for i, draw in enumerate(draws) if turn < draw.corrections]
            for i, found in self._found(asked, looks):
                prompt = corrected(
                    looks[i].prompt, looks[i].window.masks[CENTRE], found[CENTRE], rngs[i]
                )
                looks[i] = self._look(looks[i].window, prompt, rngs[i])
        asked = [i for i, d in enumerate(draws) if d.looks_twice or d.before is not None]
        for i, found in self._found(asked, looks):
            if draws[i].before is None:
                prompt = second_look(looks[i].prompt, found[CENTRE])
            else:
                prompt = _slid(draws[i], found)
            looks[i] = self._look(draws[i].window, prompt, rngs[i])
        return looks

    def _look(self, window: DrawnWindow, prompt: PlanePrompt, rng: np.random.Generator) -> _Look:
        view = choose_view(self._seeing, prompt, window.masks[CENTRE], rng)
        return _Look(window, prompt, view)

    def _found(
        self, asked: Sequence[int], looks: Sequence[_Look]
    ) -> list[tuple[int, tuple[LogitPatch, LogitPatch, LogitPatch]]]:
        """Return the network's own answers on some windows, as inference blends them."""
        if not asked:
            return []
        some = [looks[i] for i in asked]
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                answer, _ = self._answer(some)
                raw = self._network.prediction(answer)
        finally:
            self.model.train(was_training)
        logits, trust = raw.mask_logits.cpu(), raw.predicted_iou.cpu()
        found = []
        for row, look in enumerate(some):
            box = look.prompt.box if look.prompt.is_drawn else None
            scores = candidate_scores(logits[row], trust[row], outer_region(look.view), box=box)
            mask_logits, _ = blended(logits[row], scores)
            height, width = look.window.images.shape[1:]
            found.append(found_patches(mask_logits, look.view, (height, width)))
        return list(zip(asked, found, strict=True))

    def _answer(self, looks: Sequence[_Look]) -> tuple[Answer, torch.Tensor]:
        """Return what the network answers and what would be right, (B, 3, H, W)."""
        pixels = [
            seen_pixels(look.window.images, look.view, own_range=self._own_range) for look in looks
        ]
        targets = [seen_masks(look.window.masks, look.view) for look in looks]
        prompts = [seen_prompt(look.prompt, look.view) for look in looks]
        device = self._seeing.device
        windows = torch.from_numpy(np.stack(pixels)).to(device)
        answer = self._network.answer(windows, prompts, [look.window.key for look in looks])
        return answer, torch.from_numpy(np.stack(targets)).to(device)


def is_low_rank(name: str) -> bool:
    """Whether a tensor of an adapter is of a low-rank change; the others are trained whole."""
    return ".lora_" in name


def _slid(draw: WindowDraw, found: tuple[LogitPatch, LogitPatch, LogitPatch]) -> PlanePrompt:
    """Return the prompt that sliding hands on; of the true mask where it would stop."""
    assert draw.before is not None, "sliding comes from a window"
    truth = draw.before.masks
    shape = (int(truth.shape[1]), int(truth.shape[2]))
    centre, end = (
        LogitPatch(patch.region, patch.logits + np.float32(draw.drift))
        for patch in (found[CENTRE], found[CENTRE + draw.direction])
    )
    prompt = handed_on(centre, end, draw.direction, shape, draw.growth, carry=draw.carries)
    if prompt is not None:
        return prompt
    known = truth[CENTRE + draw.direction]
    known = known if known.any() else truth[CENTRE]
    patch = LogitPatch.from_mask(known)
    fallback = handed_on(patch, patch, draw.direction, shape, draw.growth, carry=False)
    assert fallback is not None, "windows that sliding comes from hold the object"
    return replace(fallback, is_drawn=False)


def _parts(report: LossReport, answer: Answer) -> dict[str, float]:
    chosen = report.true_iou.gather(1, answer.iou.detach().argmax(1, keepdim=True))
    return {
        "segmentation": float(report.segmentation),
        "iou_error": float(report.predicted_iou),
        "presence": float(report.presence),
        "iou_best": float(report.true_iou.amax(1).mean()),
        "iou_chosen": float(chosen.mean()),
    }
