"""`SlideSam` against outputs of the published network; see ``data/parity/README.md``."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_slidesam.model.checkpoints import load_checkpoint
from napari_slidesam.model.protocol import WindowPrompt

CHECK = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "check_parity.py"))
OUTPUTS = 17


@pytest.mark.parametrize("keep_adapter", [True, False])
def test_every_output_is_the_published_one(parity_folder, keep_adapter):
    found = CHECK["parity_report"](parity_folder, keep_adapter=keep_adapter)
    assert len(found) == OUTPUTS
    assert max(found.values()) <= CHECK["TOLERANCE"], found


def test_through_the_window_protocol(parity_folder):
    golden = np.load(parity_folder / "golden.npz")
    heads = json.loads((parity_folder / "config.json").read_text())["decoder_num_heads"]
    model = load_checkpoint(
        parity_folder / "state_dict.safetensors", precision="float32", decoder_num_heads=heads
    )
    # The published convention has a pixel's centre at its integer index.
    boxes, points = golden["box_xyxy"] + 0.5, golden["points_xy"] + 0.5
    labels = golden["point_labels"]
    prompts = [
        WindowPrompt(
            box_xyxy_model=tuple(boxes[0]),
            points_xy_model=tuple(map(tuple, points[0])),
            point_labels=tuple(labels[0]),
        ),
        WindowPrompt(box_xyxy_model=tuple(boxes[1])),
    ]
    out = model.predict_windows(torch.from_numpy(golden["window"]) / 255, prompts)
    for i, key in enumerate(("points_box", "box")):
        expected = torch.from_numpy(golden[f"{key}_multi_mask_logits"][i])
        torch.testing.assert_close(out.mask_logits[i], expected, atol=1e-4, rtol=0)


def test_published_file_of_torch_save(parity_folder, tmp_path):
    state = load_file(parity_folder / "state_dict.safetensors")
    torch.save({f"module.{name}": t for name, t in state.items()}, tmp_path / "slide_sam.pth")
    for name in ("config.json", "golden.npz"):
        (tmp_path / name).write_bytes((parity_folder / name).read_bytes())
    found = CHECK["parity_report"](tmp_path, keep_adapter=False)
    assert max(found.values()) <= CHECK["TOLERANCE"]
