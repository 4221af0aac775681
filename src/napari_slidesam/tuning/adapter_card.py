"""What an adapter says of itself: a card to read and the same facts as JSON, in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.model.adapters import base_fingerprint, save_adapter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

METRICS_FILE = "metrics.json"

LICENCE_NOTE = (
    "An adapter holds what was learnt from the volumes above and works only together with the "
    "base network. Whether it may be shared depends on the terms of both; nothing here grants "
    "more rights than they do."
)


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a card tells.

    Parameters
    ----------
    name : str
    volumes : tuple of str
        Names of the pairs that were trained on.
    windows : int
        Windows of three slices in them.
    windows_by_label : mapping of str to int
        Of each label, by its number or name.
    settings : mapping of str
        JSON-ready settings of the training, such as ``rank`` and ``epochs``.
    seed : int
    steps : int
        After which the weights were taken.
    seconds : float
        Of training.
    dice_before, dice_after : mapping of str to float
        Of real propagation on what was held out, by ``pair/label``.
    held_out : tuple of str
        What was held out, in words.
    device : str
    note : str
        Free text.
    """

    name: str
    volumes: tuple[str, ...] = ()
    windows: int = 0
    windows_by_label: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0
    dice_before: Mapping[str, float] = field(default_factory=dict)
    dice_after: Mapping[str, float] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    device: str = "cpu"
    note: str = ""


def adapter_card(facts: AdapterFacts, model: nn.Module) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    facts : AdapterFacts
    model : SlideSam or SlideSamLite
        The network with its adapter.
    """
    base = str(getattr(model, "name", type(model).__name__))
    lines = [
        f"# {facts.name}",
        "",
        f"A LoRA adapter for the network `{base}` (fingerprint `{base_fingerprint(model)}`), "
        f"made with napari-slidesam {_version()}. peft reads this folder; so does the dock's "
        "list of models.",
        "",
    ]
    if facts.note:
        lines += [facts.note, ""]
    lines += _data_lines(facts) + _dice_lines(facts)
    lines += ["## Training", "", "| setting | value |", "|---|---|"]
    rows = {**facts.settings, "seed": facts.seed, "steps": facts.steps}
    rows |= {"seconds": round(facts.seconds), "device": facts.device}
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    lines += ["", "## Licence", "", LICENCE_NOTE, ""]
    return "\n".join(lines)


def adapter_metrics(facts: AdapterFacts, model: nn.Module) -> dict[str, Any]:
    """Return the same facts as JSON-ready values."""
    return {
        "name": facts.name,
        "base": str(getattr(model, "name", type(model).__name__)),
        "base_fingerprint": base_fingerprint(model),
        "version": _version(),
        "volumes": list(facts.volumes),
        "windows": facts.windows,
        "windows_by_label": dict(facts.windows_by_label),
        "held_out": list(facts.held_out),
        "settings": dict(facts.settings),
        "seed": facts.seed,
        "steps": facts.steps,
        "seconds": facts.seconds,
        "device": facts.device,
        "dice_before": dict(facts.dice_before),
        "dice_after": dict(facts.dice_after),
        "mean_dice_before": _mean(facts.dice_before),
        "mean_dice_after": _mean(facts.dice_after),
    }


def save_described_adapter(
    model: nn.Module, folder: Path, facts: AdapterFacts, *, overwrite: bool = False
) -> None:
    """Write the network's adapter with its card and ``metrics.json``.

    Raises
    ------
    CheckpointError
        The network has no adapter.
    FileFormatError
        The folder exists and ``overwrite`` is false, or it cannot be written.
    """
    metrics = adapter_metrics(facts, model)
    save_adapter(model, folder, adapter_card(facts, model), overwrite=overwrite)
    with replacing_file(folder / METRICS_FILE, overwrite=True) as partial:
        partial.write_text(json.dumps(metrics, indent=1), encoding="utf-8")


def _data_lines(facts: AdapterFacts) -> list[str]:
    shown = ", ".join(facts.volumes[:20]) or "not said"
    if len(facts.volumes) > 20:
        shown += f" and {len(facts.volumes) - 20} more"
    lines = ["## Data", "", f"{facts.windows} windows of three slices from: {shown}.", ""]
    if facts.windows_by_label:
        lines += ["| label | windows |", "|---|---|"]
        lines += [f"| {_cell(k)} | {n} |" for k, n in facts.windows_by_label.items()]
        lines.append("")
    if facts.held_out:
        lines += [f"Held out: {', '.join(facts.held_out)}.", ""]
    return lines


def _dice_lines(facts: AdapterFacts) -> list[str]:
    lines = ["## Dice on what was held out", ""]
    if not (facts.dice_before or facts.dice_after):
        return [*lines, "Nothing was held out, so nothing is known of its quality.", ""]
    lines += ["| object | before | after |", "|---|---|---|"]
    names = sorted({*facts.dice_before, *facts.dice_after})
    for name in names:
        before, after = facts.dice_before.get(name), facts.dice_after.get(name)
        lines.append(f"| {_cell(name)} | {_figure(before)} | {_figure(after)} |")
    means = _mean(facts.dice_before), _mean(facts.dice_after)
    return [*lines, f"| mean | {_figure(means[0])} | {_figure(means[1])} |", ""]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(values: Mapping[str, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None


def _cell(value: object) -> str:
    """Return a value as it may stand in a table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _version() -> str:
    try:
        return version("napari-slidesam")
    except PackageNotFoundError:
        return "(not installed)"
