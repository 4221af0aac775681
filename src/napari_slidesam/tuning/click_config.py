"""Settings of a training run of the click network."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_slidesam.errors import TuningError
from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.tuning.click_augment import ClickAugment
from napari_slidesam.tuning.click_views import ClickDraw


@dataclass(frozen=True, slots=True)
class ClickTraining:
    """Settings of a training run of the click network.

    ``minutes`` of training time set the cosine of the learning rate. The loss is
    ``cross_entropy`` times the binary cross-entropy over rings and angles, in which all scales
    count alike, plus ``dice`` times one minus the soft Dice of the areas in the plane.

    Validated is on volumes that are not trained on: those named in ``held_out``, or else
    ``held_out_volumes`` of those with real images, drawn by the seed. With 0 of them, or too few
    real volumes, it is on other views of what is trained on, which says less. So many
    ``validation_views`` are looked at, every ``validate_minutes``.
    """

    minutes: float = 60.0
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 100
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    cross_entropy: float = 4.0
    dice: float = 1.0
    held_out: tuple[str, ...] = ()
    held_out_volumes: int = 2
    validation_views: int = 300
    validate_minutes: float = 3.0
    checkpoint_minutes: float = 3.0
    seed: int = 0
    precision: str = "auto"
    widths: tuple[int, int, int, int] = ClickConfig().widths
    draw: ClickDraw = field(default_factory=ClickDraw)
    augment: ClickAugment = field(default_factory=ClickAugment)

    def __post_init__(self) -> None:
        for name in ("validation_views", "batch_size"):
            if getattr(self, name) < 1:
                raise TuningError(f"{name} is at least 1; got {getattr(self, name)}.")
        if len(self.widths) != 4 or any(w < 8 or w % 8 for w in self.widths):
            raise TuningError(f"widths are four multiples of 8; got {self.widths}.")
