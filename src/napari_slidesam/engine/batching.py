"""Running a network on as many windows at once as the device's memory takes."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, TypeVar

import torch

from napari_slidesam.errors import InferenceError
from napari_slidesam.model.protocol import WindowPrediction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_slidesam.model.protocol import WindowModel

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Batches:
    """How many windows a network is given at once.

    Parameters
    ----------
    model : WindowModel
    size : int
        Windows at once. Halved for good where the device's memory is too small; at one window
        the network moves to the CPU.
    settle : callable, optional
        Waits for whatever else uses the network; called where memory runs out.
    """

    def __init__(
        self, model: WindowModel, size: int, settle: Callable[[], None] | None = None
    ) -> None:
        self.model = model
        self.size = size
        self._settle = settle

    def run(self, items: Sequence[T], call: Callable[[Sequence[T]], R]) -> list[R]:
        """Call the network on all items, some at a time; return what each call gave, in order.

        Raises
        ------
        InferenceError
            The network failed, or one window does not fit into the computer's memory.
        """
        found: list[R] = []
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            try:
                with torch.inference_mode():
                    found.append(call(part))
                start += len(part)
                continue
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0] if str(error) else "out of memory"
            except RuntimeError as error:
                raise InferenceError(
                    f"The network {self.model.name} failed on {len(part)} windows on "
                    f"{self.model.device}: {error}"
                ) from error
            # Outside of the except clause, so that the failed attempt's tensors are freed.
            self._shrink(len(part), reason)
        return found

    def _shrink(self, n_windows: int, reason: str) -> None:
        """Take half as many windows at once, or leave the device."""
        if self._settle is not None:
            self._settle()
        if n_windows > 1:
            self.size = n_windows // 2
            _warn(f"{reason}: going on with {self.size} windows at a time.")
            return
        if self.model.device.type == "cpu":
            raise InferenceError(
                f"One window does not fit into memory ({reason}). Close other programs or use "
                "the embedded network."
            )
        _warn(f"{reason}: one window does not fit on the device; going on with the CPU.")
        self.model.to_device(torch.device("cpu"))


def on_cpu(out: WindowPrediction) -> WindowPrediction:
    """Return a prediction as float32 on the CPU."""
    presence = None if out.presence is None else out.presence.float().cpu()
    return WindowPrediction(
        out.mask_logits.float().cpu(), out.predicted_iou.float().cpu(), presence
    )


def joined(parts: Sequence[WindowPrediction]) -> WindowPrediction:
    """Return the predictions of several batches as one."""
    if len(parts) == 1:
        return parts[0]
    presences = [part.presence for part in parts if part.presence is not None]
    return WindowPrediction(
        torch.cat([part.mask_logits for part in parts]),
        torch.cat([part.predicted_iou for part in parts]),
        torch.cat(presences) if len(presences) == len(parts) else None,
    )


def _warn(message: str) -> None:
    logger.warning(message)
    warnings.warn(message, UserWarning, stacklevel=4)
