"""All of a session but its pixels as JSON-ready values, and back."""

from __future__ import annotations

import platform
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import napari_slidesam
from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.objects import ObjectState, ObjectStop, SlicePatch
from napari_slidesam.engine.planes import OverlapRule, filled_slices
from napari_slidesam.engine.results import SliceQuality, StopReason, TrackStop
from napari_slidesam.engine.session_state import LogEntry, RunRecord, SessionInfo, SessionState
from napari_slidesam.engine.session_zarr import read_patches
from napari_slidesam.errors import SessionError
from napari_slidesam.geometry import Region
from napari_slidesam.io.prompts_json import prompts_from_dict, prompts_to_dict

if TYPE_CHECKING:
    from pathlib import Path

    from napari_slidesam.engine.session_view import SessionView


def to_dict(view: SessionView) -> dict[str, Any]:
    """Return everything but pixels as JSON-ready values."""
    info = view.info
    return {
        "versions": {
            "napari-slidesam": napari_slidesam.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "zarr": zarr.__version__,
        },
        "session_id": info.session_id,
        "shape_zyx": list(info.shape_zyx),
        "spacing_zyx": list(info.spacing_zyx),
        "unit": info.unit,
        "source": info.source,
        "model_name": info.model_name,
        "config": info.config.to_dict(),
        "highest_id": info.highest_id,
        "overlap_rule": str(view.overlap_rule),
        "objects": [_object_to_dict(state) for state in view.state.objects.values()],
        "runs": [_run_to_dict(run) for run in view.runs],
        "log": [{"time_utc": entry.time_utc, "name": entry.name} for entry in view.log],
    }


def from_dict(
    values: dict[str, Any], masks: Path
) -> tuple[SessionInfo, SessionState, tuple[LogEntry, ...]]:
    """Return what `to_dict` wrote, with the pixels of a folder written by `write_masks`.

    Raises
    ------
    SessionError
        Pixels are missing.
    KeyError, TypeError, ValueError, SlideSamError
        The values are damaged.
    """
    z, y, x = (int(n) for n in values["shape_zyx"])
    dz, dy, dx = (float(s) for s in values["spacing_zyx"])
    info = SessionInfo(
        session_id=values["session_id"],
        shape_zyx=(z, y, x),
        spacing_zyx=(dz, dy, dx),
        unit=values["unit"],
        source=values["source"],
        model_name=values["model_name"],
        config=PropagationConfig.from_dict(values["config"]),
        highest_id=values["highest_id"],
    )
    objects = [_object_from_dict(item, masks) for item in values["objects"]]
    state = SessionState(
        objects=MappingProxyType({o.object_id: o for o in objects}),
        overlap_rule=OverlapRule(values["overlap_rule"]),
        runs=tuple(_run_from_dict(item) for item in values["runs"]),
    )
    log = tuple(LogEntry(item["time_utc"], item["name"]) for item in values["log"])
    return info, state, log


def _run_to_dict(run: RunRecord) -> dict[str, Any]:
    return {
        "model_name": run.model_name,
        "config": run.config.to_dict(),
        "prompts": prompts_to_dict(run.prompts),
    }


def _run_from_dict(values: dict[str, Any]) -> RunRecord:
    prompts = tuple(prompts_from_dict(values["prompts"]))
    return RunRecord(prompts, PropagationConfig.from_dict(values["config"]), values["model_name"])


def _object_to_dict(state: ObjectState) -> dict[str, Any]:
    slices = [((state.axis, index), patch) for index, patch in state.slices.items()]
    return {
        "id": state.object_id,
        "name": state.name,
        "axis": state.axis,
        "accepted": state.is_accepted,
        "prompts": None if state.prompts is None else prompts_to_dict([state.prompts]),
        "slices": [_patch_to_dict(key, patch) for key, patch in slices],
        "edits": [_patch_to_dict(key, patch) for key, patch in state.edits.items()],
        "stops": [
            {"slice": s.slice_index, "direction": s.stop.direction, "reason": str(s.stop.reason)}
            for s in state.stops
        ],
        "voxels": _count_voxels(state),
    }


def _object_from_dict(values: dict[str, Any], masks: Path) -> ObjectState:
    slices = [_patch_from_dict(item) for item in values["slices"]]
    edits = [_patch_from_dict(item) for item in values["edits"]]
    prompts = None if values["prompts"] is None else prompts_from_dict(values["prompts"])[0]
    described = ObjectState(
        object_id=values["id"],
        name=values["name"],
        axis=values["axis"],
        prompts=prompts,
        slices=MappingProxyType({index: patch for (_, index), patch in slices}),
        edits=MappingProxyType(dict(edits)),
        stops=tuple(
            ObjectStop(s["slice"], TrackStop(s["direction"], StopReason(s["reason"])))
            for s in values["stops"]
        ),
        is_accepted=values["accepted"],
    )
    state = read_patches(masks, described)
    found = _count_voxels(state)
    if found != values["voxels"]:
        raise SessionError(
            f"Object {state.object_id} has {found} voxels in {masks}, but {values['voxels']} were "
            "saved: files are missing. Copy the folder again as a whole."
        )
    return state


def _count_voxels(state: ObjectState) -> int:
    return sum(n_voxels for n_voxels, _ in filled_slices(state).values())


def _patch_to_dict(key: tuple[int, int], patch: SlicePatch) -> dict[str, Any]:
    region, quality = patch.region, patch.quality
    return {
        "axis": key[0],
        "slice": key[1],
        "region_yxyx": [region.y0, region.x0, region.y1, region.x1],
        "predicted_iou": quality.predicted_iou,
        "stability_score": quality.stability_score,
        "agreement": quality.agreement,
        "prompted": patch.is_prompted,
        "final": patch.is_final,
        "edited": patch.is_edited,
    }


def _patch_from_dict(values: dict[str, Any]) -> tuple[tuple[int, int], SlicePatch]:
    """Return a patch that knows its region, but no pixels yet."""
    y0, x0, y1, x1 = (int(v) for v in values["region_yxyx"])
    quality = SliceQuality(values["predicted_iou"], values["stability_score"], values["agreement"])
    patch = SlicePatch(
        region=Region(y0, x0, y1, x1),
        packed=b"",
        n_voxels=0,
        quality=quality,
        is_prompted=values["prompted"],
        is_final=values["final"],
        is_edited=values["edited"],
    )
    return (values["axis"], values["slice"]), patch
