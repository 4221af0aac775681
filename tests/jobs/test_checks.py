from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.jobs.checks import check_job, describe
from napari_slidesam.jobs.data import load_data
from napari_slidesam.jobs.spec import FinetuneJob, PairSpec
from napari_slidesam.jobs.validation import held_out
from napari_slidesam.volume import Volume


@pytest.fixture
def job(tmp_path, write_pair):
    image, labels = write_pair(tmp_path / "files", "brain")
    return FinetuneJob("j", pairs=(PairSpec("brain", str(image), str(labels)),), axes=(0,))


def said(found):
    return " ".join(found.warnings)


def test_what_is_trained_on(job, tmp_path):
    found = check_job(job, tmp_path)
    assert (found.volumes, found.objects) == (1, 2)
    assert set(found.labels) == {"3", "7"}
    assert sum(found.labels.values()) == found.windows
    (held_out,) = found.validation
    assert held_out.startswith("brain, slices ")
    assert "object" in held_out
    all_axes = check_job(replace(job, axes=(0, 1, 2)), tmp_path)
    assert all_axes.windows > found.windows


def test_paths_relative_to_the_job(job, tmp_path):
    spec = PairSpec("brain", "files/brain.nii.gz", "files/brain_labels.nii.gz")
    assert check_job(replace(job, pairs=(spec,)), tmp_path) == check_job(job, tmp_path)


def test_folders_and_pairs_together(job, tmp_path, write_pair, image, labels):
    for name in ("one", "two"):
        folder = tmp_path / "more" / name
        paths = write_pair(folder, "image", image=image, labels=labels)
        paths[1].rename(folder / "labels.nii.gz")
    both = replace(job, data=("more",))
    data = load_data(both, tmp_path)
    assert data is not None
    assert [p.name for p in data.pairs] == ["brain", "one", "two"]
    found = check_job(both, tmp_path)
    assert found.volumes == 3
    (held_out,) = found.validation
    assert held_out.endswith(": 2 objects")
    twice = replace(job, pairs=(*job.pairs, *job.pairs))
    data = load_data(twice, tmp_path)
    assert data is not None
    assert [p.name for p in data.pairs] == ["brain", "brain (2)"]


def test_slices_dropped_and_why(job, tmp_path):
    spec = replace(job.pairs[0], unlabelled=(5, 6))
    found = check_job(replace(job, pairs=(spec,)), tmp_path)
    assert any("unlabelled" in reason for reason in found.dropped)
    assert all(n > 0 for n in found.dropped.values())


def test_few_windows_and_one_class(job, tmp_path):
    found = check_job(replace(job, labels=(3,)), tmp_path)
    assert f"only {found.windows} windows" in said(found)
    assert "Only one class is trained on: label 3" in said(found)
    many = check_job(replace(job, axes=(0, 1, 2)), tmp_path)
    assert "windows" not in said(many)
    assert "Only one class" not in said(many)


def test_labels_that_look_like_an_image(tmp_path, write_pair, image):
    noise = np.random.default_rng(1).integers(0, 250, image.shape).astype(np.uint8)
    paths = write_pair(tmp_path / "files", image=image, labels=noise)
    swapped = FinetuneJob(
        "j", pairs=(PairSpec("a", *map(str, paths)),), validation_share=0.0, axes=(0,)
    )
    assert "look like an image" in said(check_job(swapped, tmp_path))
    # So many values that none is large enough on a slice.
    noise = np.random.default_rng(1).integers(0, 10**6, image.shape).astype(np.uint32)
    write_pair(tmp_path / "files", image=image, labels=noise)
    with pytest.raises(TuningError, match=r"no slice gives one.*look like an image"):
        check_job(swapped, tmp_path)


def test_an_image_of_one_value(job, tmp_path, write_pair, image):
    paths = write_pair(tmp_path / "files", "flat", image=np.zeros_like(image))
    flat = replace(job, pairs=(PairSpec("flat", *map(str, paths)),))
    assert "'flat' has the same value everywhere" in said(check_job(flat, tmp_path))


def test_grids_that_differ(job, tmp_path, write_pair):
    paths = write_pair(tmp_path / "files", "thick", spacing_zyx=(10.0, 1.0, 1.0))
    both = replace(job, pairs=(*job.pairs, PairSpec("thick", *map(str, paths))))
    found = said(check_job(both, tmp_path))
    assert "5.0-fold in spacing; 'thick' is the coarsest" in found
    assert "spacing" not in said(check_job(job, tmp_path))


def test_nothing_held_out(job, tmp_path):
    found = check_job(replace(job, validation_share=0.0), tmp_path)
    assert found.validation == ()
    assert "Nothing is held out" in said(found)


def test_held_out_without_an_object(job, tmp_path, image):
    data = load_data(job, tmp_path)
    assert data is not None
    empty = held_out("brain", Volume(image), np.zeros(image.shape, np.uint8), 0)
    found = describe(replace(data, held_out=(empty,)), job)
    assert "no object that is large enough" in said(found)
    assert found.validation[0].endswith(": 0 objects")


def test_data_that_cannot_be_used(job, tmp_path, write_pair, image, labels):
    with pytest.raises(TuningError, match="nothing to train on"):
        check_job(replace(job, pairs=()), tmp_path)
    with pytest.raises((TuningError, FileFormatError), match=r"none\.nii"):
        check_job(replace(job, pairs=(PairSpec("a", "none.nii", "none.nii"),)), tmp_path)
    with pytest.raises(TuningError, match="Label 9 was asked for"):
        check_job(replace(job, labels=(9,)), tmp_path)
    paths = write_pair(tmp_path / "files", "cut", image=image[:, :, 4:])
    with pytest.raises(TuningError, match="shape"):
        check_job(replace(job, pairs=(PairSpec("cut", *map(str, paths)),)), tmp_path)
    paths = write_pair(tmp_path / "files", "empty", labels=np.zeros_like(labels))
    with pytest.raises(TuningError, match="at least one object"):
        check_job(replace(job, pairs=(PairSpec("empty", *map(str, paths)),)), tmp_path)
    with pytest.raises(TuningError, match="does not exist"):
        check_job(replace(job, pairs=(), data=("nowhere",)), tmp_path)


def test_nothing_is_written_and_cancelling_gives_nothing(job, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    cancel = threading.Event()
    cancel.set()
    assert check_job(job, tmp_path, cancel=cancel).volumes == 0
    check_job(job, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_holes_between_labelled_slices_are_not_compared(job, tmp_path, write_pair, labels):
    sparse = labels.copy()
    sparse[1::2] = 0
    paths = write_pair(tmp_path / "files", "sparse", labels=sparse)
    data = load_data(replace(job, pairs=(PairSpec("s", *map(str, paths)),)), tmp_path)
    dense = load_data(job, tmp_path)
    assert data is not None
    assert dense is not None
    (region,), (whole,) = data.parts.validation, dense.parts.validation
    assert 0 < data.held_out[0].labelled.sum() < 0.7 * (region.stop - region.start)
    assert dense.held_out[0].labelled.sum() == whole.stop - whole.start
