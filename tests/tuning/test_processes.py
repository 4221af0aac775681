"""Which processes train together, and on which device."""

from __future__ import annotations

import sys

import pytest
import torch

from napari_slidesam.errors import DeviceError
from napari_slidesam.tuning.processes import OneProcess, processes_here, training_device


def test_alone_the_device_is_the_one_asked_for():
    processes = processes_here()
    assert processes.num_processes == 1
    assert processes.is_main_process
    assert training_device("cpu", processes) == torch.device("cpu")


def test_without_accelerate_one_process_trains_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert isinstance(processes_here(), OneProcess)


def test_several_processes_that_cannot_find_each_other_do_not_train(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match=r"2 processes were started.*pip install accelerate"):
        processes_here()


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(DeviceError, match="'quantum' is not there"):
        training_device("quantum", OneProcess())
