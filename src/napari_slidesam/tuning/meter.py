"""The means between two reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Meter:
    """Collects the losses of steps until they are reported."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._parts: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, loss: float, parts: Mapping[str, float]) -> None:
        """Take up one micro-batch."""
        self._losses.append(loss)
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(value)

    def take(self) -> tuple[float, dict[str, float]]:
        """Return the mean loss (NaN without any) and the means of its parts, and forget them."""
        loss = _mean(self._losses)
        parts = {name: _mean(values) for name, values in self._parts.items()}
        self._losses, self._parts = [], {}
        return loss, parts


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
