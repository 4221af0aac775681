from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from napari_slidesam.cli.outputs import SessionLabels, labels_path
from napari_slidesam.engine.session import Session
from napari_slidesam.geometry import Box
from napari_slidesam.io import read_labels, read_volume, write_labels, write_prompts
from napari_slidesam.metrics import dice
from napari_slidesam.model.adapters import (
    LoraSettings,
    adapter_state,
    add_lora,
    save_adapter,
    set_adapter_state,
)
from napari_slidesam.model.checkpoints import save_checkpoint
from napari_slidesam.model.registry import load_model
from napari_slidesam.model.sam.config import SamConfig
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]

BALL = "8,13,15,28,30"
ROD = "4,30,36,36,44"


def test_labels_lie_beside_the_volume_on_its_grid(
    nifti_path: Path, tiny_weights: Path, run_json: RunJson, affine: np.ndarray
) -> None:
    facts = run_json("segment", nifti_path, "--box", BALL, "--model", tiny_weights)
    written = nib.load(nifti_path.with_name("ball_labels.nii.gz"))
    assert facts["labels"] == str(nifti_path.with_name("ball_labels.nii.gz"))
    assert written.shape == (48, 40, 16)
    np.testing.assert_allclose(written.affine, affine)
    assert set(np.unique(written.get_fdata())) <= {0, 1}


def test_json_says_what_was_done(nifti_path: Path, tiny_weights: Path, run_json: RunJson) -> None:
    facts = run_json("segment", nifti_path, "--box", BALL, "--box", ROD, "--model", tiny_weights)
    assert [o["id"] for o in facts["objects"]] == [1, 2]
    assert facts["model"] == "tiny"
    assert facts["shape_zyx"] == [16, 40, 48]
    assert facts["spacing_zyx"] == pytest.approx([3, 1.5, 2])
    assert facts["unit"] == "mm"
    assert not facts["interrupted"]
    labels = read_labels(facts["labels"])
    for one in facts["objects"]:
        assert {"direction", "reason", "slice"} == set(one["stops"][0])
        assert one["voxels"] >= np.count_nonzero(labels == one["id"])
    assert facts["slices"] == sum(o["slices"] for o in facts["objects"])


@pytest.mark.weights
def test_the_embedded_network_finds_the_ball(
    nifti_path: Path, run_json: RunJson, truth: np.ndarray
) -> None:
    facts = run_json("segment", nifti_path, "--box", BALL, "--box", "8,29,35,37,45")
    labels = read_labels(facts["labels"])
    assert dice(labels == 1, truth == 1) > 0.7
    assert dice(labels == 2, truth == 2) > 0.7
    assert facts["objects"][1]["slice_range"] == [0, 16]


def test_summary_for_people(nifti_path: Path, tiny_weights: Path, run_cli: Run) -> None:
    result = run_cli("segment", nifti_path, "--box", BALL, "--model", tiny_weights)
    assert result.exit_code == 0
    assert result.stdout.startswith("object 1: ")
    assert "labels: " in result.stdout
    quiet = run_cli(
        "segment", nifti_path, "--box", BALL, "--model", tiny_weights, "-q", "--overwrite"
    )
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_every_output(
    nifti_path: Path, tiny_weights: Path, run_json: RunJson, tmp_path: Path
) -> None:
    facts = run_json(
        "segment", nifti_path, "--box", BALL, "--point", "9,20,22", "--point", "9,2,2,-",
        "-o", tmp_path / "out.ome.tif", "--overlay", tmp_path / "sheet.png",
        "--session", tmp_path / "session", "--model", tiny_weights,
    )  # fmt: skip
    with Image.open(facts["overlay"]) as picture:
        assert picture.width > 200
    session = Session.load(facts["session"])
    (prompts,) = session.runs[0].prompts
    assert len(prompts.points) == 2
    np.testing.assert_array_equal(session.labels(), read_labels(tmp_path / "out.ome.tif"))
    assert session.info.source == str(nifti_path)


@pytest.mark.parametrize(("axis", "box"), [("y", "20,2,15,14,30"), ("x", "22,2,13,14,28")])
def test_other_axes_and_ranges(
    nifti_path: Path, tiny_weights: Path, run_json: RunJson, axis: str, box: str
) -> None:
    facts = run_json(
        "segment", nifti_path, "--box", box, "--axis", axis, "--z-range", "18:25",
        "--intensity", "limits:0:100", "--model", tiny_weights,
    )  # fmt: skip
    (one,) = facts["objects"]
    assert one["axis"] == axis
    assert facts["config"]["z_range"] == [18, 25]
    assert facts["config"]["intensity"] == {"kind": "limits", "lower": 0.0, "upper": 100.0}
    if one["slice_range"]:
        assert one["slice_range"][0] >= 18
        assert one["slice_range"][1] <= 25


@pytest.fixture
def tiny_sam_weights(tmp_path: Path) -> Path:
    """A weights file of the paper's network in small, with random weights."""
    torch.manual_seed(0)
    config = SamConfig(
        embed_dim=32,
        depth=2,
        num_heads=2,
        global_attn_indexes=(1,),
        window_size=3,
        image_size=64,
        prompt_embed_dim=32,
        decoder_mlp_dim=32,
    )
    path = tmp_path / "tiny-sam.safetensors"
    save_checkpoint(SlideSam(config, name="tiny-sam"), path)
    return path


def test_embeddings_are_kept_in_a_folder(
    nifti_path: Path, tiny_sam_weights: Path, run_json: RunJson, tmp_path: Path
) -> None:
    command = (
        "segment", nifti_path, "--box", BALL, "--model", tiny_sam_weights, "--overwrite",
        "--embeddings", tmp_path / "kept",
    )  # fmt: skip
    first = run_json(*command)
    labels = read_labels(first["labels"])
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "kept").glob("*/*/c/0/0/0")}
    assert kept
    second = run_json(*command)
    assert second["model"] == "tiny-sam"
    np.testing.assert_array_equal(read_labels(second["labels"]), labels)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_embeddings_are_told_where_they_cannot_be(
    nifti_path: Path, tiny_weights: Path, run_cli: Run, tmp_path: Path
) -> None:
    none = run_cli(
        "segment", nifti_path, "--box", BALL, "--model", tiny_weights,
        "--embeddings", tmp_path / "kept",
    )  # fmt: skip
    assert none.exit_code == 0
    assert "no effect" in none.stderr
    foreign = run_cli(
        "segment", nifti_path, "--box", BALL, "--embeddings", nifti_path, "-o", "x.npy"
    )
    assert foreign.exit_code == 2
    assert "something else" in foreign.stderr


def test_an_adapter_is_put_on_the_network(
    nifti_path: Path, run_cli: Run, run_json: RunJson, tmp_path: Path
) -> None:
    model = load_model("embedded")
    assert isinstance(model, torch.nn.Module)
    add_lora(model, LoraSettings(rank=2))
    set_adapter_state(
        model, {name: torch.full_like(t, 0.5) for name, t in adapter_state(model).items()}
    )
    save_adapter(model, tmp_path / "adapter")
    alone = '{"outline_look": false, "coarse_look": false}'
    command = ("segment", nifti_path, "--box", BALL, "--overwrite", "--config", alone)
    plain = read_labels(run_json(*command)["labels"])
    adapted = read_labels(run_json(*command, "--adapter", tmp_path / "adapter")["labels"])
    assert plain.any()
    assert (plain != adapted).any()
    none = run_cli(*command, "--adapter", tmp_path)
    assert none.exit_code == 2
    assert "There is no adapter" in none.stderr


def test_any_option_of_propagation_can_be_given(
    nifti_path: Path, run_cli: Run, run_json: RunJson, tmp_path: Path
) -> None:
    command = ("segment", nifti_path, "--box", BALL, "--overwrite")
    given = ("--config", '{"outline_look": false, "z_range": [5, 8], "compat": "union"}')
    session = tmp_path / "session"
    run_json(*command, *given, "--z-range", "7:12", "--session", session)
    (run,) = Session.load(session).runs
    kept = run.config
    assert not kept.outline_look
    assert kept.z_range == (7, 12)
    assert kept.compat == "union"
    wrong = run_cli(*command, "--config", '{"outline": false}')
    assert wrong.exit_code == 2
    assert "outline_look" in wrong.stderr


def test_the_published_ways(nifti_path: Path, tiny_weights: Path, run_json: RunJson) -> None:
    facts = run_json(
        "segment", nifti_path, "--box", BALL, "--model", tiny_weights, "--compat", "published"
    )
    assert facts["model"] == "tiny"


def test_prompts_from_a_file(
    nifti_path: Path, tiny_weights: Path, run_json: RunJson, tmp_path: Path
) -> None:
    stored = ObjectPrompts(3, boxes=(BoxPrompt(8, Box(13, 15, 28, 30)),))
    path = write_prompts(tmp_path / "prompts.json", [stored])
    facts = run_json(
        "segment", nifti_path, "--prompts", path, "--box", f"7@{ROD}", "--model", tiny_weights
    )
    assert [o["id"] for o in facts["objects"]] == [3, 7]


def test_tiff_with_channels_and_times(
    image: np.ndarray, tiny_weights: Path, run_json: RunJson, tmp_path: Path
) -> None:
    stack = np.stack([np.zeros_like(image), image], axis=1)  # z, c, y, x
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.stack([stack, stack]), imagej=True, metadata={"axes": "TZCYX"})
    facts = run_json(
        "segment", path, "--box", BALL, "--channel", "1", "--time", "1", "--model", tiny_weights
    )
    assert read_labels(facts["labels"]).shape == image.shape
    assert facts["labels"].endswith("cells_labels.tif")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--box"),
        (["--box", "1,2,3"], "A box is"),
        (["--box", "99,13,15,28,30"], "slice 99"),
        (["--box", "8,113,115,128,130"], "outside the plane"),
        (["--box", "8,28,15,13,30"], "y1 > y0"),
        (["--box", BALL, "--box", BALL, "--same-object"], "two boxes"),
        (["--box", BALL, "--z-range", "9:4"], "range"),
        (["--box", BALL, "--z-range", "0:4"], ""),
        (["--box", BALL, "--intensity", "pet"], "intensity"),
        (["--box", BALL, "--channel", "1"], "channel"),
        (["--box", BALL, "--device", "abacus"], "device"),
        (["--box", BALL, "--model", "no-such-network"], "no-such-network"),
        (["--box", BALL, "--axis", "t"], "t"),
        (["--box", BALL, "-o", "no-such-folder/out.nii.gz"], "does not exist"),
        (["--box", BALL, "-o", "out.docx"], "out.docx"),
        (["--prompts", "no-such-file.json"], "no-such-file.json"),
        (["--colour", "red"], "--colour"),
        (["--box", BALL, "--compat", "old"], "published"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    arguments: list[str],
    said: str,
    nifti_path: Path,
    tiny_weights: Path,
    run_cli: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(nifti_path.parent)
    model = [] if "--model" in arguments else ["--model", tiny_weights]
    result = run_cli("segment", nifti_path, *arguments, *model)
    assert result.exit_code == 2
    assert said.lower() in result.stderr.lower()
    assert "Traceback" not in result.stderr
    assert os.listdir(nifti_path.parent) == [nifti_path.name]


def test_bad_files_are_told(
    nifti_path: Path, tiny_weights: Path, run_cli: Run, tmp_path: Path
) -> None:
    truncated = tmp_path / "truncated.nii.gz"
    truncated.write_bytes(nifti_path.read_bytes()[:2000])
    text = tmp_path / "notes.txt"
    text.write_text("not an image")
    for path in (truncated, text, tmp_path / "missing.tif", tmp_path):
        result = run_cli("segment", path, "--box", BALL, "-o", tmp_path / "o.nii.gz")
        assert result.exit_code == 2, result.stderr
        assert result.stderr.startswith("Error: ")
    foreign = run_cli("segment", nifti_path, "--box", BALL, "--model", text)
    assert foreign.exit_code == 2


def test_existing_outputs_are_kept_unless_told_otherwise(
    nifti_path: Path, tiny_weights: Path, run_cli: Run, tmp_path: Path
) -> None:
    output = tmp_path / "ball_labels.nii.gz"
    output.write_bytes(b"precious")
    command = ["segment", nifti_path, "--box", BALL, "--model", tiny_weights]
    result = run_cli(*command)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert output.read_bytes() == b"precious"
    assert run_cli(*command, "--overwrite").exit_code == 0
    assert read_labels(output).shape == (16, 40, 48)


def test_verbose_twice_shows_where(nifti_path: Path, run_cli: Run) -> None:
    result = run_cli("segment", nifti_path, "-vv")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no interrupt can be sent to one process")
def test_an_interrupt_writes_what_is_done(tiny_weights: Path, tmp_path: Path) -> None:
    """A real process, a real signal, on a volume that takes far longer than the test."""
    path = tmp_path / "long.npy"
    slab = np.zeros((1, 64, 64), dtype=np.uint8)
    slab[:, 20:44, 20:44] = 200
    np.save(path, np.repeat(slab, 20_000, axis=0))
    command = [sys.executable, "-m", "napari_slidesam", "segment", str(path), "--json", "-v"]
    boxes = [part for z in range(100, 20_000, 900) for part in ("--box", f"{z},20,20,44,44")]
    process = subprocess.Popen(
        [*command, *boxes, "--same-object", "--model", str(tiny_weights)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    while "growing" not in process.stderr.readline():  # -v tells when it starts
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    facts = json.loads(stdout)
    assert facts["interrupted"]
    assert "Interrupted" in stderr
    assert read_labels(tmp_path / "long_labels.npy").shape == (20_000, 64, 64)


def test_an_error_in_the_middle_keeps_what_came_before(
    nifti_path: Path, tiny_weights: Path, run_cli: Run, tmp_path: Path
) -> None:
    """A zarr with a damaged chunk: the slices before it are written."""
    volume = read_volume(nifti_path)
    folder = tmp_path / "damaged.zarr"
    truth = np.zeros(volume.volume.shape_zyx, dtype=np.uint8)
    truth[:, 13:28, 15:30] = 200
    tall = np.repeat(truth, 20, axis=0)
    write_labels(folder, tall)
    chunks = sorted(p for p in folder.rglob("*") if p.is_file() and ".json" not in p.name)
    chunks = [p for p in chunks if not p.name.startswith(".")]
    chunks[-1].write_bytes(b"damaged")
    result = run_cli(
        "segment", folder, "--box", "5,13,15,28,30", "--same-object",
        "--box", f"{tall.shape[0] - 1},13,15,28,30", "--model", tiny_weights,
        "-o", tmp_path / "out.nii.gz",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_labels_path() -> None:
    for name, expected in {
        "a.nii.gz": "a_labels.nii.gz",
        "a.b.NII": "a.b_labels.NII",
        "a.ome.tif": "a_labels.ome.tif",
        "a.ome.zarr": "a_labels.ome.zarr",
        "a.nhdr": "a_labels.nrrd",
        "a.img": "a_labels.nii.gz",
    }.items():
        assert labels_path(Path("x") / name) == Path("x") / expected


def test_labels_are_drawn_a_slab_at_a_time() -> None:
    session = Session((6, 8, 8))
    object_id = session.add_object(object_id=300)
    session.edit_slice(object_id, 0, 4, np.eye(8, dtype=bool))
    lazy = SessionLabels(session)
    assert lazy.dtype == np.uint16
    np.testing.assert_array_equal(lazy[3:6], session.labels()[3:6])
    np.testing.assert_array_equal(np.asarray(lazy), session.labels())


def test_both_names_of_the_command() -> None:
    script = shutil.which("napari-slidesam", path=str(Path(sys.executable).parent))
    assert script is not None
    for command in ([script], [sys.executable, "-m", "napari_slidesam"]):
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.startswith("napari-slidesam 0.")
