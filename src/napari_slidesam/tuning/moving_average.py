"""The exponential moving average of the weights that are trained."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_slidesam.tuning.task import TrainingTask


class MovingAverage:
    """Weights that follow those trained, and are better than any single step's.

    Parameters
    ----------
    state : mapping of str to Tensor
        Where the average is kept: tensors that nothing else writes to. They are changed in
        place, so that a network made of them is always the average.
    decay : float, range [0, 1)
        Share of the old average that one step leaves; less in the first steps, so that the
        random beginning is soon forgotten.
    every : int
        Steps between two updates.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], decay: float, every: int = 1) -> None:
        self.state = dict(state)
        self.decay = decay
        self.every = every

    @torch.no_grad()
    def set_to(self, state: Mapping[str, torch.Tensor]) -> None:
        """Forget the average and begin with these weights."""
        for name, kept in self.state.items():
            kept.copy_(state[name])

    @torch.no_grad()
    def follow(self, weights: Callable[[], Mapping[str, torch.Tensor]], step: int) -> None:
        """Take up the weights after so many steps, where it is time to."""
        if step % self.every:
            return
        state = weights()
        decay = min(self.decay, (1 + step) / (10 + step)) ** self.every
        floats = [n for n, kept in self.state.items() if kept.is_floating_point()]
        if floats:
            # One call for all tensors: half a millisecond less a step than one each.
            torch._foreach_lerp_(
                [self.state[n] for n in floats], [state[n] for n in floats], 1 - decay
            )
        for name, kept in self.state.items():
            if not kept.is_floating_point():
                kept.copy_(state[name])


@contextlib.contextmanager
def averaged_weights(task: TrainingTask, average: MovingAverage | None) -> Iterator[None]:
    """Have the average in the task's network for a while; without one, its own weights."""
    if average is None:
        yield
        return
    own = {n: t.detach().clone() for n, t in task.trained_state().items()}
    task.load_trained_state(average.state)
    try:
        yield
    finally:
        task.load_trained_state(own)
