from __future__ import annotations

import json

import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.jobs.spec import JOB_FILE, FinetuneJob, PairSpec

JOB = FinetuneJob(
    "organs",
    pairs=(
        PairSpec("a", "data/a.npy", "data/a_labels.npy", (2.0, 1.0, 1.0), (3, 4)),
        PairSpec("b", "/x/b.nii.gz", "/x/b_labels.nii.gz"),
    ),
    data=("/x/folder", "pairs.csv"),
    minutes=2.5,
    axes=(0, 2),
    labels=(1, 5),
    intensity={"kind": "ct", "lower": None, "upper": None},
)


@pytest.mark.parametrize("job", [JOB, FinetuneJob("defaults")])
def test_what_is_saved_is_loaded(tmp_path, job):
    folder = tmp_path / "new" / "folder"
    job.save(folder)
    assert FinetuneJob.load(folder) == job
    job.save(folder)
    assert [p.name for p in folder.iterdir()] == [JOB_FILE]


def test_older_jobs_lack_newer_settings(tmp_path):
    values = JOB.to_dict()
    del values["patience"]
    (tmp_path / JOB_FILE).write_text(json.dumps(values))
    assert FinetuneJob.load(tmp_path) == JOB


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no readable job"),
        ("{}", "not understood"),
        ('{"name": "a", "colour": 1}', "got colour"),
        ('{"name": "a", "pairs": [{"name": "b"}]}', "not understood"),
        ('{"name": "a", "axes": 3}', "not understood"),
    ],
)
def test_what_is_no_job(tmp_path, text, said):
    (tmp_path / JOB_FILE).write_text(text)
    with pytest.raises(TuningError, match=said):
        FinetuneJob.load(tmp_path)


def test_a_folder_without_a_job(tmp_path):
    with pytest.raises(TuningError, match=JOB_FILE):
        FinetuneJob.load(tmp_path)
