"""What a run tells: lines for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from napari_slidesam.cli.grow import Grown
from napari_slidesam.cli.outcome import stderr_console
from napari_slidesam.cli.outputs import Outputs

if TYPE_CHECKING:
    from napari_slidesam.engine.summary import ObjectRow
    from napari_slidesam.io import VolumeFile

AXES = "zyx"
N_WORST_SLICES = 3


@dataclass(frozen=True, slots=True, eq=False)
class RunReport:
    """A run, its volume and where its results are."""

    source: VolumeFile
    grown: Grown
    outputs: Outputs

    def show(self, *, as_json: bool, is_quiet: bool) -> None:
        """Print the summary on stdout, and how a run ended early on stderr."""
        if as_json:
            typer.echo(json.dumps(self.to_dict(), indent=2))
        elif not is_quiet:
            for line in self.lines():
                typer.echo(line)
        if self.grown.was_interrupted or self.grown.failure is not None:
            how = "Interrupted" if self.grown.was_interrupted else "Stopped by an error"
            stderr_console().print(
                f"{how}: the {self.n_slices} slices done so far are in {self.outputs.labels}.",
                markup=False,
                soft_wrap=True,
            )

    @property
    def n_slices(self) -> int:
        """Slices with a mask, summed over objects."""
        return sum(row.n_slices for row in self.grown.session.object_table())

    def lines(self) -> Iterator[str]:
        """Yield the summary for people."""
        session = self.grown.session
        for row in session.object_table():
            yield f"{row.name}: {_extent(row)}{_ends(row)}"
            worst = session.worst_slices(row.object_id, N_WORST_SLICES)
            if worst:
                yield f"  one more box would help most on slice {', '.join(map(str, worst))}"
        first = self.grown.seconds_to_first_mask
        start = "" if first is None else f", the first mask after {first:.2f} s"
        yield f"{self.n_slices} slices in {self.grown.seconds:.2f} s{start}"
        yield f"labels: {self.outputs.labels}"
        for name in ("overlay", "session"):
            path = getattr(self.outputs, name)
            if path is not None:
                yield f"{name}: {path}"

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for machines."""
        session = self.grown.session
        volume = self.source.volume
        paths = (self.outputs.overlay, self.outputs.session)
        overlay, folder = (None if p is None else str(p) for p in paths)
        return {
            "volume": str(self.source.path),
            "shape_zyx": list(volume.shape_zyx),
            "spacing_zyx": list(volume.spacing_zyx),
            "unit": volume.unit,
            "model": session.model_name,
            "config": session.config.to_dict(),
            "objects": [self._object(row) for row in session.object_table()],
            "slices": self.n_slices,
            "seconds": round(self.grown.seconds, 4),
            "seconds_to_first_mask": self.grown.seconds_to_first_mask,
            "interrupted": self.grown.was_interrupted,
            "error": None if self.grown.failure is None else str(self.grown.failure),
            "labels": str(self.outputs.labels),
            "overlay": overlay,
            "session": folder,
        }

    def _object(self, row: ObjectRow) -> dict[str, Any]:
        session = self.grown.session
        quality = session.quality(row.object_id)
        return {
            "id": row.object_id,
            "name": row.name,
            "axis": AXES[row.axis],
            "voxels": row.voxels,
            "volume": row.volume,
            "slices": row.n_slices,
            "slice_range": None if row.slice_range is None else list(row.slice_range),
            "bbox_zyx": None if row.bbox_zyx is None else [list(c) for c in row.bbox_zyx],
            "quality": row.mean_quality,
            "quality_by_slice": {str(z): round(q.score, 4) for z, q in quality.items()},
            "worst_slices": list(session.worst_slices(row.object_id, N_WORST_SLICES)),
            "stops": [
                {
                    "slice": stop.slice_index,
                    "direction": stop.stop.direction,
                    "reason": str(stop.stop.reason),
                }
                for stop in row.stops
            ],
        }


def _extent(row: ObjectRow) -> str:
    if row.slice_range is None:
        return "nothing found"
    first, stop = row.slice_range
    size = f"{row.voxels} voxels"
    if row.unit != "px":
        size += f" ({row.volume:.4g} {row.unit}^3)"
    quality = "" if row.mean_quality is None else f", quality {row.mean_quality:.2f}"
    return f"{size} on slices {first} to {stop - 1} along {AXES[row.axis]}{quality}"


def _ends(row: ObjectRow) -> str:
    ends = [f"{s.stop.reason} at {s.slice_index}" for s in row.stops]
    return f"; ends: {', '.join(ends)}" if ends else ""
