"""Draw learning curves: ``draw_learning_curves.py PICTURE TITLE:COLUMN:LOG[,LOG...] [...]``.

A panel a title: the column of one or more ``log.csv`` of runs, one after another, over the windows
seen in all of them; pale what was reported, dark the running mean. ``docs/images/learning.png`` is
what it writes.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence

SMOOTHED_OVER = 15


def curve(logs: Sequence[Path], column: str) -> tuple[list[float], list[float], list[float]]:
    """Return windows seen, the column there, and where each run but the first begins."""
    seen: list[float] = []
    values: list[float] = []
    starts: list[float] = []
    for log in logs:
        begin = seen[-1] if seen else 0.0
        starts.append(begin)
        with log.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get(column):
                    seen.append(begin + float(row["windows"]))
                    values.append(float(row[column]))
    return seen, values, starts[1:]


def main(picture: Path, panels: Sequence[str]) -> None:
    """Write the picture."""
    mpl.use("agg")
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 2.7), squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        title, column, paths = panel.split(":", 2)
        seen, values, starts = curve([Path(p) for p in paths.split(",")], column)
        ax.plot(np.array(seen) / 1000, values, color="#9ecae1", linewidth=0.8)
        width = min(SMOOTHED_OVER, len(values))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        ax.plot(np.array(seen[width - 1 :]) / 1000, smooth, color="#0072b2")
        for start in starts:
            ax.axvline(start / 1000, color="0.7", linestyle=":", linewidth=1)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("thousand seen", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.grid(color="0.92")
    figure.tight_layout()
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
