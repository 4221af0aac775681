"""The dimensions of `SlideSamLite`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_slidesam.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class LiteConfig:
    """Dimensions of the network; stored beside its weights.

    Parameters
    ----------
    stem_channels : tuple of 3 ints
        Channels at strides 2, 4 and 8.
    embed_dim, depth, num_heads : int
        Width, blocks and heads of the transformer at stride 16.
    grid_size : int
        Side of the learned position grid at stride 16; other sizes are interpolated.
    num_candidates : int
        Candidate masks M (paper 2.2: 3).
    viewport_size : int
        Side of the image the network was trained on, in model pixels.
    viewport_context : float
        Side of the viewport as a multiple of the prompt box's longer side.
    min_viewport_px : float
        Smallest side of a viewport in plane pixels, so that tiny objects keep context.
    iou_logit_shift : float
        Added to the IoU head's logits: training shows the ends of objects far more often than
        use does, and there IoU is low.
    mask_logit_shift : float
        Added to the mask logits: where the border is uncertain, the mask of highest expected
        Dice is larger than that of the pixels more likely inside than not.
    """

    stem_channels: tuple[int, int, int] = (24, 48, 96)
    embed_dim: int = 224
    depth: int = 6
    num_heads: int = 7
    grid_size: int = 8
    num_candidates: int = 3
    viewport_size: int = 128
    viewport_context: float = 2.2
    min_viewport_px: float = 12.0
    iou_logit_shift: float = 0.0
    mask_logit_shift: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the dimensions as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LiteConfig:
        """Return the config that `to_dict` wrote.

        Raises
        ------
        CheckpointError
            A name is unknown or missing: the weights belong to another version.
        """
        try:
            given = dict(values)
            given["stem_channels"] = tuple(given["stem_channels"])
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"The network's dimensions in this weights file are not understood ({error}). "
                "It was written by another version of napari-slidesam."
            ) from error
