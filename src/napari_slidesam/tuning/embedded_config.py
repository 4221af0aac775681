"""Settings of a training run of the embedded network."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_slidesam.tuning.batches import AugmentConfig
from napari_slidesam.tuning.losses import LossConfig
from napari_slidesam.tuning.prompt_simulation import PromptConfig


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    """Settings of a training run.

    ``minutes`` of training time set the cosine schedule, so that a run ends with a small
    learning rate however fast the machine is. ``rollout_share`` of the steps train the second
    window of a propagation step on prompts made from the network's own first prediction;
    ``handed_share`` of the other steps' boxes come from the neighbouring slice, and
    ``second_look_share`` of those steps get the network's own masks of the same window. The first
    ``small_share`` of the time the views are only ``small_size`` pixels: twice as many a second.
    ``end_share`` of the stacks are drawn from those in which the object ends, ``real_share`` from
    those cut from real images; what is made up is only drawn where it is among the
    ``made_up_part`` of the pool whose targets stand out best, since a target painted without
    contrast teaches nothing. The first ``easy_share`` of the time trains on the ``easy_part``
    alone. The moving average takes up the weights every ``ema_every`` steps.
    """

    minutes: float = 60.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 100
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    ema_every: int = 1
    end_share: float = 0.4
    real_share: float | None = None
    made_up_part: float = 1.0
    easy_share: float = 0.15
    easy_part: float = 0.3
    small_share: float = 0.55
    small_size: int = 96
    rollout_share: float = 0.3
    rollout_after_steps: int = 600
    handed_share: float = 0.3
    second_look_share: float = 0.0
    checkpoint_minutes: float = 5.0
    seed: int = 0
    precision: str = "auto"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    losses: LossConfig = field(default_factory=LossConfig)
