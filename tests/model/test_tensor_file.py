from __future__ import annotations

import os
import stat

import pytest
import torch
from safetensors import safe_open

from napari_slidesam.model.tensor_file import write_tensors


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such permissions")
def test_others_may_read_what_they_may_read_of_new_files(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    path = tmp_path / "tensors.safetensors"
    for _ in range(2):  # also where it is there already
        write_tensors({"a": torch.arange(3)}, path, {"made": "here"})
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"made": "here"}
        assert file.get_tensor("a").tolist() == [0, 1, 2]
