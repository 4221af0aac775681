"""What a baseline is given and what it returns, in the slices' frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.engine.objects import PlaneMask
    from napari_slidesam.engine.results import TrackStop
    from napari_slidesam.geometry import Box
    from napari_slidesam.prompts import ObjectPrompts


@dataclass(frozen=True, slots=True, eq=False)
class BoxTask:
    """One object to be segmented from boxes.

    Parameters
    ----------
    image_syx : ndarray of numbers, shape (S, Y, X)
        Stored values, slices first.
    spacing_syx : tuple of 3 floats
        Distance between slices, then along the plane's y and x.
    boxes : dict of int to Box
        At least one; sorted by slice, each with a part inside the plane.
    """

    image_syx: NDArray[Any]
    spacing_syx: tuple[float, float, float]
    boxes: dict[int, Box]

    @classmethod
    def from_prompts(
        cls, volume_zyx: NDArray[Any], spacing_zyx: Sequence[float], prompts: ObjectPrompts
    ) -> BoxTask:
        """Return the task of an object's boxes; its points and masks are not looked at.

        Raises
        ------
        EvaluationError
            The object has no box.
        PromptError
            A box lies outside the volume.
        """
        if not prompts.boxes:
            raise EvaluationError(
                f"Baselines start from boxes; object {prompts.object_id} has none. Choose a box "
                "protocol."
            )
        image_syx = np.moveaxis(volume_zyx, prompts.axis, 0)
        prompts.check_against(image_syx.shape[0], (image_syx.shape[1], image_syx.shape[2]))
        step = spacing_zyx[prompts.axis]
        dy, dx = (s for i, s in enumerate(spacing_zyx) if i != prompts.axis)
        boxes = {p.slice_index: p.box for p in prompts.boxes}
        return cls(image_syx, (step, dy, dx), dict(sorted(boxes.items())))

    @property
    def plane_shape_yx(self) -> tuple[int, int]:
        """Lengths of a slice's two axes."""
        return (self.image_syx.shape[1], self.image_syx.shape[2])

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return len(self.image_syx)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The masks that a baseline found, by slice, and why it went no further."""

    planes: dict[int, PlaneMask]
    stops: tuple[TrackStop, ...] = ()
