"""Clicks as people place them on an outline: on the object, and where a first answer is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_slidesam.errors import TuningError
from napari_slidesam.model.outline.features import view_ticks

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_slidesam.tuning.outline_augment import OutlineBatch

    Network = Callable[..., tuple[torch.Tensor, torch.Tensor]]

NEAR_PX = 5
"""Samples along each axis over which errors are counted: people click where there are many."""
APART = 0.25
"""Least distance of two clicks, in half sides of the view."""
LEAST_ERROR = 0.3
"""Of the samples around it, that a click is worth."""


@dataclass(frozen=True, slots=True)
class OutlineClicks:
    """How clicks are placed.

    The ``share`` of the views has 1 to ``most`` of them. In the ``corrective_share`` of those they
    lie where the network's answer without clicks is wrong, in large errors rather than in small
    ones by ``care``: 0 is anywhere in an error, large values are the middle of the largest. In the
    others they lie anywhere on the object.
    """

    share: float = 0.4
    most: int = 3
    corrective_share: float = 0.75
    care: float = 4.0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise TuningError(f"most is at least 1; got {self.most}.")


class OutlineClicker:
    """Places clicks on views.

    Parameters
    ----------
    config : OutlineClicks
    generator : torch.Generator
        Source of all choices, on the views' device.
    """

    def __init__(self, config: OutlineClicks, generator: torch.Generator) -> None:
        self.config, self._generator = config, generator

    def __call__(self, views: OutlineBatch, network: Network) -> torch.Tensor:
        """Return the clicks of each view, as `OutlineNetwork` takes them.

        Parameters
        ----------
        views : OutlineBatch
        network : callable
            As `OutlineNetwork`; asked without clicks about the views that are corrected.

        Returns
        -------
        Tensor of float32, shape (B, ``most``, 3)
        """
        config, count = self.config, len(views)
        numbers = (self._uniform(count) * config.most).long() + 1
        numbers[self._uniform(count) >= config.share] = 0
        wanted = (views.truths > 0.5) & views.inside
        corrected = (numbers > 0) & (self._uniform(count) < config.corrective_share)
        chosen = corrected.nonzero()[:, 0]
        if len(chosen):
            with torch.no_grad():
                seen = (views.images[chosen], views.inside[chosen], views.boxes[chosen])
                logits, _ = network(*seen, no_clicks(views)[chosen])
            wrong = (logits > 0) != wanted[chosen]
            wanted[chosen] = wrong & views.inside[chosen]
        return self._placed(wanted, views.truths, numbers)

    def _placed(
        self, wanted: torch.Tensor, truths: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """Return so many clicks a view on samples that are wanted; fewer where those are few."""
        count, side, _ = wanted.shape
        ticks = view_ticks(side, truths)
        clicks = truths.new_zeros(count, self.config.most, 3)
        every = torch.arange(count, device=wanted.device)
        for k in range(self.config.most):
            crowd = F.avg_pool2d(wanted.float()[:, None], NEAR_PX, 1, NEAR_PX // 2)[:, 0]
            chance = self._uniform(count, side, side).clamp(min=1e-9).log() / torch.exp(
                self.config.care * crowd
            )
            chance = chance.masked_fill(~(wanted & (crowd > LEAST_ERROR)), -torch.inf)
            place = chance.flatten(1).argmax(1)
            there = chance.flatten(1)[every, place].isfinite() & (k < numbers)
            y, x = ticks[place // side], ticks[place % side]
            sign = torch.where(truths.flatten(1)[every, place] > 0.5, 1.0, -1.0)
            clicks[:, k] = torch.stack([y, x, sign], 1) * there[:, None]
            away = torch.hypot(ticks[:, None] - y[:, None, None], ticks - x[:, None, None])
            wanted = wanted & (away > APART)
        return clicks

    def _uniform(self, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.rand(shape, generator=generator, device=generator.device)


def no_clicks(views: OutlineBatch) -> torch.Tensor:
    """Return that there is no click on any view, as `OutlineNetwork` takes it."""
    return views.boxes.new_zeros(len(views), 0, 3)
