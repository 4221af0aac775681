"""Settings of a training run of the coarse network."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_slidesam.errors import TuningError
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.tuning.coarse_augment import CoarseAugment


@dataclass(frozen=True, slots=True)
class CoarseTraining:
    """Settings of a training run of the coarse network.

    ``minutes`` of training time set the cosine of the learning rate. The loss is
    ``cross_entropy`` times the binary cross-entropy plus ``dice`` times one minus the soft Dice,
    both where the cube's planes lie inside the volume; ``smoothing`` voxels keep the Dice of a
    small object calm.

    Validated is on volumes that are not trained on: those named in ``held_out``, or else
    ``held_out_volumes`` of those with real images, drawn by the seed. With 0 of them, or too few
    real volumes, each ``held_out_every``-th crop is held out instead, which says less: other crops
    of the same objects are trained on. At most ``validation_crops`` are looked at, every
    ``validate_minutes``.
    """

    minutes: float = 60.0
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 100
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    cross_entropy: float = 10.0
    dice: float = 2.0
    smoothing: float = 20.0
    held_out: tuple[str, ...] = ()
    held_out_volumes: int = 2
    held_out_every: int = 25
    validation_crops: int = 300
    validate_minutes: float = 3.0
    checkpoint_minutes: float = 3.0
    seed: int = 0
    precision: str = "auto"
    widths: tuple[int, int, int] = CoarseConfig().widths
    augment: CoarseAugment = field(default_factory=CoarseAugment)

    def __post_init__(self) -> None:
        for name, least in (("held_out_every", 2), ("validation_crops", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise TuningError(f"{name} is at least {least}; got {getattr(self, name)}.")
