"""Settings of a training run of the outline network."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_slidesam.errors import TuningError
from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.tuning.outline_augment import OutlineAugment
from napari_slidesam.tuning.outline_clicks import OutlineClicks
from napari_slidesam.tuning.outline_views import OutlineDraw


@dataclass(frozen=True, slots=True)
class OutlineTraining:
    """Settings of a training run of the outline network.

    ``minutes`` of training time set the cosine of the learning rate. The loss is
    ``cross_entropy`` times the binary cross-entropy, plus ``dice`` times one minus the soft Dice,
    plus ``quality`` times the cross-entropy between the Dice that the network expects of itself
    and the one it has.

    The ``new_share`` of each batch is drawn anew; the others are drawn from the last
    ``kept_views``, which are kept in memory at about 33 kB each.

    Validated is on volumes that are not trained on: those named in ``held_out``, or else
    ``held_out_volumes`` of those with real images, drawn by the seed. With 0 of them, or too few
    real volumes, it is on other views of what is trained on, which says less. So many
    ``validation_views`` are looked at, every ``validate_minutes``, without clicks.

    ``network`` has the dimensions of the network and of what it sees; ``draw``, ``augment`` and
    ``clicks`` say how views are drawn, changed and clicked on.
    """

    minutes: float = 60.0
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 150
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    dice: float = 1.0
    cross_entropy: float = 1.5
    quality: float = 0.05
    kept_views: int = 60_000
    new_share: float = 0.25
    held_out: tuple[str, ...] = ()
    held_out_volumes: int = 2
    validation_views: int = 300
    validate_minutes: float = 3.0
    checkpoint_minutes: float = 3.0
    seed: int = 0
    precision: str = "auto"
    network: OutlineConfig = field(default_factory=OutlineConfig)
    draw: OutlineDraw = field(default_factory=OutlineDraw)
    augment: OutlineAugment = field(default_factory=OutlineAugment)
    clicks: OutlineClicks = field(default_factory=OutlineClicks)

    def __post_init__(self) -> None:
        for name in ("validation_views", "batch_size"):
            if getattr(self, name) < 1:
                raise TuningError(f"{name} is at least 1; got {getattr(self, name)}.")
        if not 0 < self.new_share <= 1:
            raise TuningError(f"new_share is above 0 and at most 1; got {self.new_share}.")
        if self.kept_views < self.batch_size:
            raise TuningError(
                f"kept_views is at least batch_size ({self.batch_size}); got {self.kept_views}."
            )
        widths, side, slices = self.network.widths, self.network.side, self.network.slices
        if len(widths) != 4 or any(w < 16 or w % 16 for w in widths):
            raise TuningError(f"network.widths are four multiples of 16; got {widths}.")
        if side < 16 or side % 16:
            raise TuningError(f"network.side is a multiple of 16; got {side}.")
        if slices < 1 or slices % 2 == 0:
            raise TuningError(f"network.slices is odd; got {slices}.")
