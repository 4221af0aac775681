"""Scores in sum: per volume first, then the mean over volumes, and as Markdown.

A volume with 100 objects counts once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_slidesam.evaluation.scores import ObjectScore

_MIN_FOR_CORRELATION = 3


@dataclass(frozen=True, slots=True)
class VolumeSummary:
    """Means over the objects of one volume, by one protocol and method."""

    volume: str
    modality: str
    protocol: str
    method: str
    n_objects: int
    dice: float
    surface_dice: float
    dice_2d: float
    seconds: float


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One protocol and method over all volumes.

    Parameters
    ----------
    protocol, method : str
    n_volumes, n_objects : int
    dice, surface_dice, dice_2d, seconds : float
        Means over the volumes of the means over their objects.
    extent_ratio : tuple of 3 floats
        Percentiles 10, 50 and 90 of predicted over true slices, over objects.
    n_missed : int
        Objects with a Dice below 0.1, errors among them.
    n_errors : int
        Objects on which the method raised an error.
    quality_correlation : float, optional
        Pearson's correlation of the method's own estimate with the true ``dice_2d``, over
        objects; None where it makes none.
    """

    protocol: str
    method: str
    n_volumes: int
    n_objects: int
    dice: float
    surface_dice: float
    dice_2d: float
    seconds: float
    extent_ratio: tuple[float, float, float]
    n_missed: int
    n_errors: int
    quality_correlation: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """All scores of an evaluation in sum."""

    methods: tuple[MethodSummary, ...]
    volumes: tuple[VolumeSummary, ...]

    @property
    def protocol_names(self) -> tuple[str, ...]:
        """The protocols that occur, in their own order."""
        found = {m.protocol for m in self.methods}
        return tuple(p for p in PROTOCOLS if p in found)

    @property
    def method_names(self) -> tuple[str, ...]:
        """The methods that occur, in the order of their first row."""
        return tuple(dict.fromkeys(m.method for m in self.methods))

    def of(self, protocol: str, method: str) -> MethodSummary | None:
        """Return the summary of one protocol and method, or None where there is none."""
        matches = (m for m in self.methods if (m.protocol, m.method) == (protocol, method))
        return next(matches, None)

    def of_volume(self, volume: str, protocol: str, method: str) -> VolumeSummary | None:
        """Return one volume's summary, or None where there is none."""
        wanted = (volume, protocol, method)
        matches = (v for v in self.volumes if (v.volume, v.protocol, v.method) == wanted)
        return next(matches, None)


def summarise(scores: Sequence[ObjectScore]) -> Summary:
    """Return the scores in sum.

    Raises
    ------
    EvaluationError
        There is none.
    """
    if not scores:
        raise EvaluationError(
            "There is no score to report: no method fits any protocol. Baselines need boxes."
        )
    groups: dict[tuple[str, str], dict[str, list[ObjectScore]]] = defaultdict(
        lambda: defaultdict(list)
    )
    # Methods in the order of their first row, whatever order the protocols ran in.
    order = {name: i for i, name in enumerate(dict.fromkeys(s.method for s in scores))}
    for score in scores:
        groups[(score.protocol, score.method)][score.volume].append(score)
    keys = sorted(groups, key=lambda k: (PROTOCOLS.index(k[0]), order[k[1]]))
    volumes = [_volume_summary(rows) for key in keys for _, rows in sorted(groups[key].items())]
    methods = []
    for protocol, method in keys:
        rows = [row for volume in groups[(protocol, method)].values() for row in volume]
        parts = [v for v in volumes if (v.protocol, v.method) == (protocol, method)]
        methods.append(_method_summary(rows, parts))
    return Summary(tuple(methods), tuple(volumes))


def to_markdown(summary: Summary) -> str:
    """Return the report: Dice by protocol, then details, then each volume's."""
    parts = [
        "# Evaluation",
        "",
        "Mean over volumes of each volume's mean over its objects, so that every volume counts "
        "once.",
        "",
        "## Dice",
        "",
        *_dice_table(summary),
        "",
        "## In detail",
        "",
        *_detail_table(summary),
        "",
        "Extent: predicted over true slices, percentiles 10 / 50 / 90 over objects. Missed: "
        "objects with a Dice below 0.1, errors among them. Quality: correlation of the method's "
        "own estimate with the true Dice of the middle prompted slice.",
    ]
    for protocol in summary.protocol_names:
        parts += ["", f"## Dice by volume, {protocol}", "", *_volume_table(summary, protocol)]
    return "\n".join(parts) + "\n"


def _volume_summary(rows: list[ObjectScore]) -> VolumeSummary:
    first = rows[0]
    return VolumeSummary(
        volume=first.volume,
        modality=first.modality,
        protocol=first.protocol,
        method=first.method,
        n_objects=len(rows),
        dice=_mean(r.dice for r in rows),
        surface_dice=_mean(r.surface_dice for r in rows),
        dice_2d=_mean(r.dice_2d for r in rows),
        seconds=_mean(r.seconds for r in rows),
    )


def _method_summary(rows: list[ObjectScore], volumes: list[VolumeSummary]) -> MethodSummary:
    low, middle, high = np.percentile([r.extent_ratio for r in rows], (10, 50, 90))
    return MethodSummary(
        protocol=rows[0].protocol,
        method=rows[0].method,
        n_volumes=len(volumes),
        n_objects=len(rows),
        dice=_mean(v.dice for v in volumes),
        surface_dice=_mean(v.surface_dice for v in volumes),
        dice_2d=_mean(v.dice_2d for v in volumes),
        seconds=_mean(v.seconds for v in volumes),
        extent_ratio=(float(low), float(middle), float(high)),
        n_missed=sum(r.is_missed for r in rows),
        n_errors=sum(r.is_error for r in rows),
        quality_correlation=_correlation(rows),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _correlation(rows: list[ObjectScore]) -> float | None:
    pairs = np.array([(r.predicted_quality, r.dice_2d) for r in rows])
    pairs = pairs[np.isfinite(pairs[:, 0])]
    if len(pairs) < _MIN_FOR_CORRELATION or not (np.ptp(pairs, axis=0) > 0).all():
        return None
    return float(np.corrcoef(pairs.T)[0, 1])


def _dice_table(summary: Summary) -> list[str]:
    protocols = summary.protocol_names
    rows = []
    for name in summary.method_names:
        found = [summary.of(protocol, name) for protocol in protocols]
        rows.append([name, *("" if m is None else f"{m.dice:.3f}" for m in found)])
    return _table(["method", *protocols], rows)


def _detail_table(summary: Summary) -> list[str]:
    columns: dict[str, Callable[[MethodSummary], str]] = {
        "protocol": lambda m: m.protocol,
        "method": lambda m: m.method,
        "volumes": lambda m: str(m.n_volumes),
        "objects": lambda m: str(m.n_objects),
        "Dice": lambda m: f"{m.dice:.3f}",
        "surface Dice": lambda m: f"{m.surface_dice:.3f}",
        "2D Dice": lambda m: f"{m.dice_2d:.3f}",
        "extent": lambda m: " / ".join(f"{v:.2f}" for v in m.extent_ratio),
        "missed": lambda m: str(m.n_missed),
        "errors": lambda m: str(m.n_errors),
        "quality": lambda m: (
            "" if m.quality_correlation is None else f"{m.quality_correlation:.2f}"
        ),
        "s / object": lambda m: f"{m.seconds:.3g}",
    }
    rows = [[cell(m) for cell in columns.values()] for m in summary.methods]
    return _table(list(columns), rows)


def _volume_table(summary: Summary, protocol: str) -> list[str]:
    names = [n for n in summary.method_names if summary.of(protocol, n) is not None]
    rows = []
    n_objects = 0
    for volume in sorted({v.volume for v in summary.volumes if v.protocol == protocol}):
        found = [summary.of_volume(volume, protocol, name) for name in names]
        cells = ["" if v is None else f"{v.dice:.3f}" for v in found]
        most = max((v for v in found if v is not None), key=lambda v: v.n_objects)
        n_objects += most.n_objects
        rows.append([volume, most.modality, str(most.n_objects), *cells])
    means = [summary.of(protocol, name) for name in names]
    mean_cells = ["" if m is None else f"**{m.dice:.3f}**" for m in means]
    rows.append(["**mean**", "", str(n_objects), *mean_cells])
    return _table(["volume", "modality", "objects", *names], rows)


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
    return ["| " + " | ".join(cells) + " |" for cells in escaped]
