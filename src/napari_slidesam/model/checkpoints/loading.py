"""One call from a weights file of any kind to a network that predicts."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.adapters import (
    LoraSettings,
    add_lora,
    load_adapter,
    merge_adapter,
    set_adapter_state,
)
from napari_slidesam.model.checkpoints.conversion import fuse_lora, infer_config, widen_sam
from napari_slidesam.model.checkpoints.names import (
    ADAPTER_PREFIX,
    is_known_extra,
    lora_part,
    our_name,
    published_name,
    recognise,
    state_shapes,
    without_prefix,
)
from napari_slidesam.model.checkpoints.reading import StoredTensors, read_tensors
from napari_slidesam.model.checkpoints.report import CheckpointKind, CheckpointReport, shown
from napari_slidesam.model.sam.config import SamConfig
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.model.weights import load_weights

if TYPE_CHECKING:
    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.model.sam.precision import PrecisionMode

logger = logging.getLogger(__name__)

PUBLISHED_DECODER_HEADS = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A file's tensors under `SlideSam`'s names.

    Parameters
    ----------
    report : CheckpointReport
    config : SamConfig
    state : dict of str to Tensor
    lora : LoraSettings, optional
    lora_state : dict of str to Tensor
    """

    report: CheckpointReport
    config: SamConfig
    state: dict[str, torch.Tensor]
    lora: LoraSettings | None
    lora_state: dict[str, torch.Tensor]


def load_checkpoint(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    adapter: str | Path | None = None,
    keep_adapter: bool = False,
    precision: PrecisionMode = "auto",
    decoder_num_heads: int = PUBLISHED_DECODER_HEADS,
) -> WindowModel:
    """Return the network of a weights file, ready to predict; its kind is recognised.

    Parameters
    ----------
    path : str or Path
        Weights of this package, of Slide-SAM, of segment-anything or of MedSAM.
    device : str or torch.device
    adapter : str or Path, optional
        Folder of a LoRA adapter to add; see `napari_slidesam.model.adapters.load_adapter`.
    keep_adapter : bool
        Keep the last adapter apart from the weights instead of merging it; the masks are the
        same, and a little slower.
    precision : str
        See `SlideSam`; the embedded network takes no notice of it.
    decoder_num_heads : int
        For files that do not say.

    Raises
    ------
    CheckpointError
        The file or the adapter is missing, damaged, unsafe, foreign, or incomplete.
    """
    path = Path(path)
    stored = read_tensors(path)
    names = without_prefix(stored.tensors)
    kind = recognise(names.values(), stored.header, path.name)
    model: WindowModel
    if kind == CheckpointKind.LITE:
        model = load_weights(path)
    else:
        prepared = _prepare(path, stored, names, kind, decoder_num_heads)
        model = _build(prepared, stored.header.get("name", path.stem), precision)
        if prepared.lora is not None and not (keep_adapter and adapter is None):
            merge_adapter(model)
    if adapter is not None:
        assert isinstance(model, torch.nn.Module)
        load_adapter(model, Path(adapter))
        if not keep_adapter:
            merge_adapter(model)
    model.to_device(torch.device(device))
    return model


def inspect_checkpoint(
    path: str | Path, *, decoder_num_heads: int = PUBLISHED_DECODER_HEADS
) -> CheckpointReport:
    """Say what a weights file holds, without building a network to predict with.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, unsafe or foreign. One that lacks tensors is reported.
    """
    path = Path(path)
    stored = read_tensors(path)
    names = without_prefix(stored.tensors)
    kind = recognise(names.values(), stored.header, path.name)
    if kind == CheckpointKind.LITE:
        return CheckpointReport(path.name, kind, "lite", tuple(sorted(stored.tensors)))
    return _prepare(path, stored, names, kind, decoder_num_heads).report


def _prepare(
    path: Path,
    stored: StoredTensors,
    names: dict[str, str],
    kind: CheckpointKind,
    decoder_num_heads: int,
) -> _Prepared:
    tensors = {names[name]: t for name, t in stored.tensors.items()}
    state = {
        our_name(name): t.float() if t.is_floating_point() else t
        for name, t in tensors.items()
        if not _is_of_adapter(name)
    }
    made = widen_sam(state) if kind == CheckpointKind.SAM else ()
    config = _config(stored, state, decoder_num_heads)
    lora, lora_state = _adapter(path, stored, tensors, config)
    with torch.device("meta"):
        expected = state_shapes(SlideSam(config).state_dict())
    given = state_shapes(state)
    wrong = [n for n in given if n in expected and given[n] != expected[n]]
    if wrong:
        raise CheckpointError(
            f"{path.name} is no {kind} as this package knows it: {len(wrong)} tensors have "
            f"another shape, such as {published_name(wrong[0], kind)} {given[wrong[0]]} instead "
            f"of {expected[wrong[0]]}."
        )
    for name in [n for n in given if n not in expected]:
        del state[name]
    # Adapters are checked apart, against their settings.
    used = {n for n in tensors if our_name(n) in expected or _is_of_adapter(n)}
    unused = {n for n in tensors if n not in used and not is_known_extra(n)}
    report = CheckpointReport(
        file_name=path.name,
        kind=kind,
        encoder=config.encoder_name,
        found=tuple(sorted(used)),
        missing=tuple(sorted({published_name(n, kind) for n in expected if n not in given})),
        unexpected=tuple(sorted({*unused, *stored.other_entries})),
        made=made,
        adapter_rank=None if lora is None else lora.rank,
    )
    return _Prepared(report, config, state, lora, lora_state)


def _is_of_adapter(name: str) -> bool:
    return lora_part(name) is not None or name.startswith(ADAPTER_PREFIX)


def _config(
    stored: StoredTensors, state: dict[str, torch.Tensor], decoder_num_heads: int
) -> SamConfig:
    if "config" not in stored.header:
        return infer_config(state, decoder_num_heads)
    try:
        return SamConfig.from_dict(json.loads(stored.header["config"]))
    except ValueError as error:
        raise CheckpointError(f"The weights file's header is damaged ({error}).") from error


def _adapter(
    path: Path, stored: StoredTensors, tensors: dict[str, torch.Tensor], config: SamConfig
) -> tuple[LoraSettings | None, dict[str, torch.Tensor]]:
    """Return the adapter's settings and tensors by peft's names, or (None, {})."""
    if "adapter" in stored.header:
        try:
            settings = LoraSettings.from_dict(json.loads(stored.header["adapter"]))
        except ValueError as error:
            raise CheckpointError(f"{path.name} has a damaged header ({error}).") from error
        mine = {n: t for n, t in tensors.items() if n.startswith(ADAPTER_PREFIX)}
        return settings, {n.removeprefix(ADAPTER_PREFIX): t.float() for n, t in mine.items()}
    fused = fuse_lora(tensors, config)
    if fused is None:
        return None, {}
    return LoraSettings(rank=fused.rank), fused.state


def _build(prepared: _Prepared, name: str, precision: PrecisionMode) -> SlideSam:
    report = prepared.report
    if report.missing:
        raise CheckpointError(
            f"{report.file_name} is incomplete: {len(report.missing)} of the tensors of "
            f"{report.kind} are missing, such as {shown(report.missing)}. Copy or download it "
            "again."
        )
    logger.log(logging.WARNING if report.unexpected else logging.INFO, "%s", report.summary)
    # On no device, as every tensor comes from the file: nothing is drawn at random first.
    with torch.device("meta"):
        model = SlideSam(prepared.config, name=name, precision=precision)
    model.load_state_dict(prepared.state, assign=True)
    if prepared.lora is not None:
        add_lora(model, prepared.lora)
        set_adapter_state(model, prepared.lora_state)
    return model.eval().requires_grad_(False)
