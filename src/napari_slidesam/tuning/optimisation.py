"""How gradients change the weights: AdamW, clipping, loss scaling and the moving average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.failures import NotFiniteError
from napari_slidesam.tuning.moving_average import MovingAverage
from napari_slidesam.tuning.precision import autocast_dtype
from napari_slidesam.tuning.task import AveragedTask, RatedTask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_slidesam.tuning.task import TrainingTask
    from napari_slidesam.tuning.trainer import TrainerConfig

MAX_SKIPPED = 30
"""Updates in a row that may be skipped for a gradient that is not finite; float16 skips some
until its scale fits."""

_FUSED = ("cpu", "cuda")


class TaskLoss(nn.Module):
    """A task's loss as a module, so that several processes can average its gradients.

    Parameters
    ----------
    task : TrainingTask
    device : torch.device
    dtype : torch.dtype, optional
        Of autocast; None: there is none.
    """

    def __init__(self, task: TrainingTask, device: torch.device, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.network = task.model
        self.dtype = dtype
        self._task, self._device = task, device

    def forward(self, batch: Any) -> tuple[torch.Tensor, Mapping[str, float]]:
        """Return the loss to minimise and its parts for the log."""
        with torch.autocast(self._device.type, self.dtype, enabled=self.dtype is not None):
            loss = self._task.loss(batch)
        return loss.total, loss.parts


class Optimisation:
    """The parameters that are trained and all that follows them.

    Parameters
    ----------
    task : TrainingTask
    config : TrainerConfig

    Raises
    ------
    TuningError
        Nothing is to be trained.
    """

    def __init__(self, task: TrainingTask, config: TrainerConfig) -> None:
        self.task, self.config = task, config
        named = [(n, p) for n, p in task.model.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in named]
        if not self.parameters:
            raise TuningError(
                "A network is trained where parameters require gradients; this one has none. Turn "
                "on the adapter or the decoder."
            )
        self.device = self.parameters[0].device
        dtype = autocast_dtype(config.precision, self.device)
        self.loss = TaskLoss(task, self.device, dtype)
        shares = [task.rate_share(n) if isinstance(task, RatedTask) else 1.0 for n, _ in named]
        self.optimizer = adamw(self.parameters, config, shares)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)
        self.average = _moving_average(task, config)
        self.rate = 0.0
        self._skipped = 0

    def begin_step(self, rate: float) -> None:
        """Forget all gradients and set the learning rate of the next update."""
        self.optimizer.zero_grad(set_to_none=True)
        self.rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_share"]

    def backward(self, loss: torch.Tensor) -> None:
        """Add a loss's gradients to those of the step."""
        self.scaler.scale(loss).backward()

    def check_gradients(self) -> None:
        """Scale back and clip the gradients; those that are not finite will change nothing.

        Raises
        ------
        NotFiniteError
            They have not been finite for many steps.
        """
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self._skipped = 0 if torch.isfinite(norm) else self._skipped + 1
        if self._skipped > MAX_SKIPPED:
            raise NotFiniteError(f"The gradients of {MAX_SKIPPED} steps in a row were not finite.")

    def update(self, step: int) -> None:
        """Change the weights, and let the average follow; this is step number ``step``."""
        if not self._skipped:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.follow(self.task.trained_state, step)

    def load(self, optimizer: dict[str, Any], scaler: dict[str, Any]) -> None:
        """Take up what a checkpoint holds; rates and decays stay those of the settings."""
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**optimizer, "param_groups": groups})
        if scaler:
            self.scaler.load_state_dict(scaler)


def adamw(
    parameters: Sequence[nn.Parameter], config: TrainerConfig, shares: Sequence[float]
) -> torch.optim.AdamW:
    """Return the optimiser; only tensors of several dimensions decay.

    Parameters
    ----------
    parameters : sequence of Parameter
    config : TrainerConfig
    shares : sequence of float
        The rate of each over that of the run; its group keeps it as ``rate_share``.
    """
    rated = list(zip(parameters, shares, strict=True))
    groups: list[dict[str, Any]] = []
    for share in dict.fromkeys(shares):
        own = [p for p, other in rated if other == share]
        decayed, others = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
        groups += [
            {"params": decayed, "weight_decay": config.weight_decay, "rate_share": share},
            {"params": others, "weight_decay": 0.0, "rate_share": share},
        ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        fused=all(p.device.type in _FUSED for p in parameters),
    )


def _moving_average(task: TrainingTask, config: TrainerConfig) -> MovingAverage | None:
    if config.ema_decay is None:
        return None
    if isinstance(task, AveragedTask):
        own = task.average_state()
    else:
        own = {n: t.detach().clone() for n, t in task.trained_state().items()}
    return MovingAverage(own, config.ema_decay, config.ema_every)
