"""The samples that a network is fine-tuned on: three adjacent slices and one object's masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TrainingWindow:
    """Three adjacent slices of a volume with the masks of one object.

    Parameters
    ----------
    images : ndarray of float32, shape (3, Y, X), range [0, 1]
        Whole planes, mapped to grey values as inference maps them. Beyond the volume's end the
        last slice is repeated.
    masks : ndarray of bool, shape (3, Y, X)
        The object; empty on slices that are not labelled.
    indicator : tuple of 3 bools
        Which slices are labelled (Slide-SAM, equation 4). The centre always is.
    source : str
        The pair's name.
    axis : int
        Axis that the window slides along, 0 to 2 in zyx.
    slice_index : int
        The centre slice along it.
    label : int
        The object's label.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    indicator: tuple[bool, bool, bool]
    source: str
    axis: int
    slice_index: int
    label: int


class WindowSource(Protocol):
    """Windows by number; each is read when it is asked for."""

    def __len__(self) -> int:
        """Return how many windows there are."""

    def read(self, index: int) -> TrainingWindow:
        """Return one window."""


@runtime_checkable
class SlidingSource(WindowSource, Protocol):
    """A source that also knows the window where sliding would arrive from one of its own."""

    def read_next(self, index: int, step: int) -> TrainingWindow | None:
        """Return the window of the same object, ``step`` slices on along the same axis.

        The object may have ended there: the centre mask may be empty. None where the volume,
        its labelled slices or the part to train on end before it.

        Parameters
        ----------
        index : int
        step : int
            -1 or 1.
        """
