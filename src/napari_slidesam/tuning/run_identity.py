"""What makes a resumed run the same run as before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_slidesam.tuning.checkpoint_file import Checkpoint
    from napari_slidesam.tuning.optimisation import Optimisation
    from napari_slidesam.tuning.trainer import TrainerConfig


def run_identity(optimisation: Optimisation, config: TrainerConfig) -> dict[str, str]:
    """Return what a run and its checkpoint share, by name; all other settings may change."""
    state = optimisation.task.trained_state()
    layout = [f"{name} {tuple(t.shape)}" for name, t in sorted(state.items())]
    trained = [str(tuple(p.shape)) for p in optimisation.parameters]
    return {
        "weights": f"{len(layout)} tensors {_digest(layout)}",
        "trained": f"{len(trained)} parameters {_digest(trained)}",
        "moving average": "no" if optimisation.average is None else "yes",
        "seed": str(config.seed),
        "data": config.identity or "any",
    }


def check_same_run(path: Path, found: Checkpoint, identity: Mapping[str, str]) -> None:
    """Refuse a checkpoint that another network, other data or another seed made.

    Raises
    ------
    TuningError
        Something of the run's identity differs.
    """
    names = sorted(found.identity.keys() | identity.keys())
    different = [n for n in names if found.identity.get(n) != identity.get(n)]
    if different:
        details = "; ".join(
            f"{n}: {found.identity.get(n, 'none')} there, {identity.get(n, 'none')} here"
            for n in different
        )
        raise TuningError(
            f"{path.name} in {path.parent} belongs to another run ({details}). Resume with the "
            "settings and data of that run, or train in another folder, or without resuming."
        )


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
