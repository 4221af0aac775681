"""What controller and views tell each other: frozen values, no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.intensity import Intensity


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """What a person sets in the panel; remembered from one start of napari to the next.

    Parameters
    ----------
    model : str
        ``embedded``, a name of the registry, or the path of a weights file.
    adapter : str, optional
        Folder of a LoRA adapter put on the network.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    intensity : Intensity
        How stored values become [0, 1].
    use_contrast_limits : bool
        Take the image layer's contrast limits instead of ``intensity``.
    z_range : tuple of 2 ints, optional
        Half-open range of slices along the drawn plane's axis that may be entered.
    max_extent_slices : int, optional
        Slices to go at most in each direction.
    only_this_slice : bool
        Segment the slice that was drawn on, and no other.
    auto_run : bool
        Start when a box is drawn, or wait for the button.
    edits_as_prompts : bool
        Give slices corrected by hand to the network as mask prompts.
    overlap_rule : OverlapRule
    keep_embeddings : bool
        Keep what the network sees of each slice on disk, so that it is not made again in another
        session; for networks that work in two steps, such as the paper's.
    """

    model: str = "embedded"
    adapter: str | None = None
    device: str = "auto"
    intensity: Intensity = field(default_factory=Intensity)
    use_contrast_limits: bool = False
    z_range: tuple[int, int] | None = None
    max_extent_slices: int | None = None
    only_this_slice: bool = False
    auto_run: bool = True
    edits_as_prompts: bool = True
    overlap_rule: OverlapRule = OverlapRule.KEEP
    keep_embeddings: bool = False


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """An image layer that can be segmented; ``channels`` is empty where there is one channel."""

    name: str
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """A row of the object list; ``quality`` in [0, 1], None where nothing has grown yet.

    ``is_waiting`` says that it is drawn, and grows when the run under way is over.
    """

    object_id: int
    name: str
    colour_rgba: tuple[float, float, float, float]
    voxels: int
    volume: float
    unit: str
    quality: float | None
    is_visible: bool = True
    is_accepted: bool = False
    is_running: bool = False
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class ProgressState:
    """How far the runs are; ``slices`` counts those of the run under way."""

    is_running: bool = False
    slices: int = 0
    slices_per_second: float = 0.0
    queued: int = 0


@dataclass(frozen=True, slots=True)
class QualityState:
    """The selected object's slices along its axis, as the quality strip shows them.

    ``scores`` maps slice indices to [0, 1]; ``current`` is the slice that is displayed, None
    where another axis is.
    """

    object_id: int
    n_slices: int
    scores: tuple[tuple[int, float], ...]
    worst: tuple[int, ...] = ()
    prompted: tuple[int, ...] = ()
    current: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryState:
    """Names of what can be undone and redone, the next one first."""

    undo_names: tuple[str, ...] = ()
    redo_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Devices to choose from, and a line on the one in use ("cuda:0, 3.1 of 24 GiB used")."""

    names: tuple[str, ...] = ("auto", "cpu")
    description: str = ""


@dataclass(frozen=True, slots=True)
class RecoveryOffer:
    """A session that an earlier napari left behind: where, of which image, from when."""

    folder: str
    image_name: str
    saved_at: str
    n_objects: int
