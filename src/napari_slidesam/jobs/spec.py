"""What a fine-tuning job is, as it is stored in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from napari_slidesam.errors import TuningError
from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from pathlib import Path

JOB_FILE = "job.json"
DATA_FOLDER = "data"
"""Arrays of a viewer's layers, stored here before the job starts."""
RUN_FOLDER = "run"
ADAPTER_FOLDER = "adapter"
EVENTS_FILE = "events.jsonl"
STATUS_FILE = "status.json"
CONTROL_FILE = "control.json"
PREVIEW_FILE = "preview.npz"


@dataclass(frozen=True, slots=True)
class PairSpec:
    """One image with its labels.

    Parameters
    ----------
    name : str
    image, labels : str
        Paths of any format that `napari_slidesam.io` reads; relative to the job's folder, or
        absolute.
    spacing_zyx : tuple of 3 floats, optional
        Instead of the file's own.
    unlabelled : tuple of int
        Slices along z without labels, besides those that hold none.
    complete : bool
        Slices that hold no label are labelled: nothing is there.
    """

    name: str
    image: str
    labels: str
    spacing_zyx: tuple[float, float, float] | None = None
    unlabelled: tuple[int, ...] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class FinetuneJob:
    """A job; every default is the paper's (2.3, 3.1) unless the parameter says otherwise.

    Parameters
    ----------
    name : str
    pairs : tuple of PairSpec
    data : tuple of str
        Folders (nnU-Net's layout, or images beside labels) or CSV files of pairs; and folders of
        pseudo-labels, which are mixed in and never validated on.
    complete : bool
        All pairs are ``complete``, see `PairSpec`.
    model : str
        Name or path of the network to start from.
    rank, alpha, dropout
        Of the adapter, see `napari_slidesam.model.adapters.LoraSettings`.
    train_encoder : bool
        Train the image encoder's attention by LoRA. Without it the paper's network encodes each
        window once.
    train_decoder : bool
        Train the mask decoder beside the encoder's adapter: of SAM's, the transformer by LoRA and
        the rest whole; that of the embedded network whole.
    epochs : int
        Passes over the windows, unless ``minutes`` end the run first.
    minutes : float, optional
        Ends the run; sets the schedule of the learning rate where it is the tighter bound.
    learning_rate, weight_decay : float
    batch_size, accumulate : int
        Windows a step and steps an update.
    axes : tuple of int
        Axes to slide along, 0 to 2 in zyx; in validation along the first.
    labels : tuple of int, optional
        Labels to train on; None: all.
    validation_share : float
        Share of the volumes, or of one volume's slices, that is held out.
    validation_boxes : int
        Prompted slices an object in validation.
    patience : int
        Validations without a better Dice that end the run; 0: never.
    intensity : dict, optional
        As `napari_slidesam.intensity.Intensity` is stored; None: that of inference.
    device : str
        auto, cpu, cuda or cuda:N.
    precision : str
        auto, float32, bfloat16 or float16.
    gradient_checkpointing : bool
    seed : int
    """

    name: str
    pairs: tuple[PairSpec, ...] = ()
    data: tuple[str, ...] = ()
    complete: bool = False
    model: str = "embedded"
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    train_encoder: bool = True
    train_decoder: bool = True
    epochs: int = 20
    minutes: float | None = None
    learning_rate: float = 2e-4
    weight_decay: float = 0.1
    batch_size: int = 8
    accumulate: int = 1
    axes: tuple[int, ...] = (0, 1, 2)
    labels: tuple[int, ...] | None = None
    validation_share: float = 0.2
    validation_boxes: int = 1
    patience: int = 0
    intensity: dict[str, Any] | None = field(default=None)
    device: str = "auto"
    precision: str = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FinetuneJob:
        """Return the job that `to_dict` wrote.

        Raises
        ------
        TuningError
            A name is unknown or missing.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise TuningError(
                f"A job has {', '.join(sorted(known))}; got {', '.join(unknown)}. It was written "
                "by another version of napari-slidesam."
            )
        try:
            pairs = tuple(_pair(p) for p in values.get("pairs", ()))
            lists: dict[str, Any] = {n: tuple(values[n]) for n in ("data", "axes") if n in values}
            labels = values.get("labels")
            lists["labels"] = None if labels is None else tuple(labels)
            return cls(**{**values, **lists, "pairs": pairs})
        except (TypeError, KeyError) as error:
            raise TuningError(f"The job is not understood: {error}.") from error

    def save(self, folder: Path) -> None:
        """Write the job into its folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing_file(folder / JOB_FILE, overwrite=True) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, folder: Path) -> FinetuneJob:
        """Read the job of a folder.

        Raises
        ------
        TuningError
            There is none, or it is not understood.
        """
        try:
            values = json.loads((folder / JOB_FILE).read_text())
        except (OSError, ValueError) as error:
            raise TuningError(
                f"{folder} holds no readable job ({error}). Choose a folder with {JOB_FILE}."
            ) from error
        return cls.from_dict(values)


def _pair(values: dict[str, Any]) -> PairSpec:
    spacing = values.get("spacing_zyx")
    return PairSpec(
        name=values["name"],
        image=values["image"],
        labels=values["labels"],
        spacing_zyx=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        unlabelled=tuple(values.get("unlabelled", ())),
        complete=bool(values.get("complete", False)),
    )
