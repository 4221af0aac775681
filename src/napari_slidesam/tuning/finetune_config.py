"""Settings of a fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_slidesam.errors import TuningError
from napari_slidesam.intensity import Intensity
from napari_slidesam.tuning.losses import LossConfig
from napari_slidesam.tuning.plane_augment import PlaneAugmentConfig
from napari_slidesam.tuning.plane_prompts import PlanePromptConfig

EMBEDDING_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """What is trained, and on what prompts and views.

    Parameters
    ----------
    rank, alpha, dropout
        Of the adapter, see `napari_slidesam.model.adapters.LoraSettings`.
    train_encoder : bool
        Adapt the image encoder's attention (2.3). Without it the decoder alone is adapted, and
        the paper's network encodes each window once: see ``embedding_bytes``.
    train_patch_embed : bool
        Train the encoder's first layer whole, as in the paper (2.2).
    train_decoder : bool
        Train the mask decoder. The small network's is trained whole; of the paper's, the
        transformer is adapted like the encoder and only what follows it is trained whole, so
        that an adapter stays below 10 MB.
    gradient_checkpointing : bool
        Compute the encoder's blocks twice rather than keep what is between them.
    embedding_bytes : int
        Embeddings kept in memory at most where nothing in the encoder trains; windows are then
        not augmented. 0: keep none, augment.
    batch_size : int
        Windows a batch; sets how many batches an epoch has.
    intensity : Intensity
        How inference maps stored values. With the default each view is mapped by its own
        percentiles, as inference does; any other is what the windows come with.
    prompts : PlanePromptConfig
    augment : PlaneAugmentConfig
    losses : LossConfig
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    train_encoder: bool = True
    train_patch_embed: bool = True
    train_decoder: bool = True
    gradient_checkpointing: bool = False
    embedding_bytes: int = EMBEDDING_BYTES
    batch_size: int = 8
    intensity: Intensity = field(default_factory=Intensity)
    prompts: PlanePromptConfig = field(default_factory=PlanePromptConfig)
    augment: PlaneAugmentConfig = field(default_factory=PlaneAugmentConfig)
    losses: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if not (self.train_encoder or self.train_decoder):
            raise TuningError("Nothing would train: choose the encoder, the decoder or both.")
        if self.batch_size < 1:
            raise TuningError(f"A batch has at least one window; got {self.batch_size}.")
        if self.embedding_bytes < 0:
            raise TuningError(f"embedding_bytes is not negative; got {self.embedding_bytes}.")
