"""What controller and views of the fine-tune dock tell each other: frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Action(enum.Enum):
    """What can be asked for a job."""

    START = "start"
    PAUSE = "pause"
    STOP = "stop"
    CHECK = "check"
    UP = "up"
    DOWN = "down"
    DUPLICATE = "duplicate"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class PairRow:
    """A line of what is trained on: two layers, or something on disk.

    Parameters
    ----------
    key : int
        Stays the same when other rows come and go.
    image, labels : str
        Names of layers; of something on disk ``image`` is its path and ``labels`` empty.
    is_on_disk : bool
    note : str
        What it is, or what is wrong with it.
    is_wrong : bool
    """

    key: int
    image: str
    labels: str = ""
    is_on_disk: bool = False
    note: str = ""
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class JobRow:
    """A line of the queue; ``share`` in [0, 1] while it runs, else None."""

    job_id: str
    name: str
    state: str
    detail: str = ""
    share: float | None = None
    actions: frozenset[Action] = frozenset()


@dataclass(frozen=True, slots=True)
class CheckState:
    """What a look at a job's data found.

    Parameters
    ----------
    is_running : bool
    facts : tuple of (str, str)
        Titles and values.
    warnings : tuple of str
    problem : str
        Why it cannot be trained; empty where it can.
    """

    is_running: bool = False
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Curves:
    """Loss by step, and Dice by step of each validation; step 0 is the untouched network."""

    steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    dice_steps: tuple[int, ...] = ()
    dice: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DiceRow:
    """Dice of one label before and after; None where it is not known yet."""

    label: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PreviewState:
    """A validation slice before and after, as pictures of uint8, shape (H, W, 3)."""

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    title: str


@dataclass(frozen=True, slots=True)
class LiveState:
    """The job that is looked at.

    Parameters
    ----------
    name : str
    state : str
        In words.
    message : str
        For people, where there is something to say.
    is_error : bool
    share : float, optional
        Of the run that is over, range [0, 1].
    facts : tuple of (str, str)
        Epoch, step, time left, memory.
    check : CheckState
    curves : Curves
    dice : tuple of DiceRow
    can_use : bool
        Whether there is an adapter.
    """

    name: str = ""
    state: str = ""
    message: str = ""
    is_error: bool = False
    share: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    check: CheckState = CheckState()
    curves: Curves = Curves()
    dice: tuple[DiceRow, ...] = ()
    can_use: bool = False


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """An adapter at hand: its name, its folder, the network it belongs to, a few words."""

    name: str
    folder: str
    model: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A volume to apply an adapter to: an open layer, or a file; and what came of it."""

    key: str
    name: str
    is_on_disk: bool
    is_chosen: bool = True
    result: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ApplyState:
    """How far applying is."""

    is_running: bool = False
    text: str = ""
    share: float | None = None
