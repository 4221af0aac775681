from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import Region
from napari_slidesam.jobs.checks import check_job
from napari_slidesam.jobs.data import load_data
from napari_slidesam.jobs.schedule import data_identity
from napari_slidesam.jobs.spec import FinetuneJob, PairSpec
from napari_slidesam.tuning.pseudo_files import FACTS_FILE, PseudoFacts, writing
from napari_slidesam.tuning.pseudo_masks import PseudoMask, PseudoSlice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE_YX = (48, 56)


@pytest.fixture
def make_store(tmp_path: Path, image: np.ndarray) -> Callable[..., Path]:
    """Return a function that stores one square on each of four slices, of a volume of its own."""

    def make(name: str = "unlabelled", values: np.ndarray | None = None) -> Path:
        path = tmp_path / f"{name}.npy"
        np.save(path, image[::-1] if values is None else values)
        facts = PseudoFacts(name, str(path), (24, *SHAPE_YX), "a network")
        square = PseudoMask(Region(4, 4, 24, 24), np.ones((20, 20), bool), 0.9, 0.9, 1.0, 2)
        with writing(tmp_path / "stores" / name, facts) as store:
            for z in (3, 6, 9, 12):
                store.append(PseudoSlice(0, z, SHAPE_YX, (square,), 5, {}, 0.1))
        return store.folder

    return make


@pytest.fixture
def job(tmp_path, write_pair):
    image, labels = write_pair(tmp_path / "files", "brain")
    return FinetuneJob("j", pairs=(PairSpec("brain", str(image), str(labels)),), axes=(0,))


def loaded(job, folder):
    data = load_data(job, folder)
    assert data is not None
    return data


def test_three_of_ten_windows_are_pseudo_labels(job, make_store, tmp_path):
    make_store()
    alone, both = job, replace(job, data=("stores",))
    real, data = loaded(alone, tmp_path), loaded(both, tmp_path)
    assert len(data.windows) == round(len(real.windows) / 0.7)
    windows = [data.windows.read(i) for i in range(len(data.windows))]
    pseudo = [w for w in windows if w.source == "unlabelled"]
    assert len(pseudo) == pytest.approx(0.3 * len(windows), abs=1)
    assert {w.slice_index for w in pseudo} == {3, 6, 9, 12}
    assert all(w.indicator == (False, True, False) for w in pseudo)
    assert all(w.masks[1].sum() == 400 for w in pseudo)
    # Real windows once each; what is held out, and what is told of it, is as without them.
    places = [(w.slice_index, w.label) for w in windows if w.source == "brain"]
    assert len(places) == len(set(places)) == len(real.windows)
    assert data.parts == real.parts
    assert [one.case.object_ids for one in data.held_out] == [
        one.case.object_ids for one in real.held_out
    ]
    assert data_identity(data) != data_identity(real)


def test_they_are_counted_apart(job, make_store, tmp_path):
    make_store("first")
    make_store("second")
    without = check_job(job, tmp_path)
    found = check_job(replace(job, data=("stores",)), tmp_path)
    assert (found.pseudo_volumes, found.pseudo_masks) == (2, 8)
    assert replace(found, pseudo_volumes=0, pseudo_masks=0) == without


def test_each_view_may_map_their_values(job, make_store, tmp_path):
    make_store()
    windows = loaded(replace(job, data=("stores",)), tmp_path).windows
    for i in range(len(windows)):
        images = windows.read(i).images
        assert (images.min(), images.max()) == pytest.approx((0, 1))
        # Extremes, not percentiles; at the volume's end a slice is there twice.
        assert np.count_nonzero(images > 1 - 1e-6) <= 2


def test_what_is_held_out_is_not_seen_as_pseudo_label(job, make_store, tmp_path, image):
    make_store("same", image)
    both = replace(job, data=("stores",))
    found = check_job(both, tmp_path)
    assert found.pseudo_masks == 0
    assert any("pseudo-labels of same are left out" in text for text in found.warnings)
    make_store("other")
    assert check_job(both, tmp_path).pseudo_volumes == 1
    nothing_held_out = check_job(replace(both, validation_share=0.0), tmp_path)
    assert nothing_held_out.pseudo_volumes == 2


def test_real_labels_are_needed(job, make_store, tmp_path):
    make_store()
    with pytest.raises(TuningError, match="mixed into real ones"):
        load_data(replace(job, pairs=(), data=("stores",)), tmp_path)


def test_damaged_ones_say_so(job, make_store, tmp_path):
    folder = make_store()
    both = replace(job, data=("stores",))
    with pytest.raises(TuningError, match="holds none"):
        load_data(replace(both, axes=(1,)), tmp_path)
    facts = json.loads((folder / FACTS_FILE).read_text())
    (folder / FACTS_FILE).write_text(json.dumps({**facts, "image": str(tmp_path / "gone.npy")}))
    with pytest.raises(TuningError, match=r"cannot be opened.*gone\.npy"):
        load_data(both, tmp_path)
    (folder / FACTS_FILE).write_text("{")
    with pytest.raises(TuningError, match="holds no pseudo-labels"):
        load_data(both, tmp_path)


def test_complete_labels(job, tmp_path, write_pair, labels):
    sparse = labels.copy()
    sparse[12] = 0
    image, path = write_pair(tmp_path / "sparse", "sparse", labels=sparse)
    spec = PairSpec("sparse", str(image), str(path))
    partial = replace(job, pairs=(spec,), validation_share=0.0)
    for complete in (replace(partial, complete=True), replace(partial, pairs=(
        replace(spec, complete=True),
    ))):  # fmt: skip
        for one, counts in ((partial, False), (complete, True)):
            windows = loaded(one, tmp_path).windows
            near = [w for w in map(windows.read, range(len(windows))) if w.slice_index == 11]
            assert near
            assert {w.indicator[2] for w in near} == {counts}


def test_complete_folders(job, tmp_path, write_pair, image, labels):
    paths = write_pair(tmp_path / "more" / "one", "image", image=image, labels=labels)
    paths[1].rename(paths[1].with_name("labels.nii.gz"))
    (pair,) = loaded(replace(job, pairs=(), data=("more",), complete=True), tmp_path).pairs
    assert pair.complete
    assert FinetuneJob.from_dict(replace(job, complete=True).to_dict()).complete
