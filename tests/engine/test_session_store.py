from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ome_zarr_models.v05
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.planes import OverlapRule, plane_shape
from napari_slidesam.engine.results import SliceQuality, SliceResult, StopReason, TrackStop
from napari_slidesam.engine.session import Session
from napari_slidesam.errors import SessionError
from napari_slidesam.geometry import Box, Region
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (6, 9, 8)


@pytest.fixture(autouse=True, scope="module")
def _quick_disk() -> Iterator[None]:
    """Only a power cut needs what is flushed; one test sees that it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def box_prompts(object_id: int, axis: int = 0) -> ObjectPrompts:
    return ObjectPrompts(object_id, (BoxPrompt(2, Box(1, 1, 4, 5)),), axis=axis)


def result(
    object_id: int,
    index: int,
    mask: np.ndarray,
    *,
    axis: int = 0,
    score: float = 0.5,
    is_prompted: bool = False,
    is_final: bool = True,
    stops: tuple[TrackStop, ...] = (),
) -> SliceResult:
    region = Region(0, 0, *mask.shape)
    quality = SliceQuality(score, 0.75, 0.625)
    return SliceResult(object_id, axis, index, region, mask, quality, is_prompted, is_final, stops)


def full_session() -> Session:
    """Two overlapping objects along different axes, every kind of slice and flag."""
    session = Session(
        SHAPE,
        (2.5, 0.5, 0.5),
        unit="um",
        config=PropagationConfig(z_range=(0, 5)),
        model_name="net 1",
        source="stack.tif",
        overlap_rule=OverlapRule.OVERWRITE,
    )
    mask = np.zeros((9, 8), dtype=bool)
    mask[1:6, 2:5] = True
    prompts = ObjectPrompts(
        1,
        (BoxPrompt(2, Box(1, 1.5, 4, 5)),),
        (PointPrompt(3, 2, 3), PointPrompt(3, 7, 7, positive=False)),
        (MaskPrompt(4, mask),),
    )
    session.add_object(prompts, "nucleus, left")
    session.add_object(box_prompts(300, axis=2))
    session.begin_run([1, 300])
    session.apply(result(1, 2, mask, is_prompted=True))
    session.apply(result(1, 3, mask, is_final=False, stops=(TrackStop(1, StopReason.DRIFT),)))
    session.apply(result(1, 5, ~mask & False, is_prompted=True))
    for index in range(1, 7):
        session.apply(result(300, index, np.ones((6, 9), dtype=bool), axis=2, score=0.1 * index))
    session.edit_slice(300, 1, 4, np.zeros((6, 8), dtype=bool))
    session.edit_slice(1, 0, 3, mask[::-1])
    session.add_object(name="by hand")
    session.edit_slice(301, 0, 0, mask)
    session.accept(300)
    session.remove_object(session.add_object())
    return session


def assert_same(loaded: Session, saved: Session) -> None:
    assert loaded.object_ids == saved.object_ids
    np.testing.assert_array_equal(loaded.labels(), saved.labels())
    for object_id in saved.object_ids:
        np.testing.assert_array_equal(loaded.mask(object_id), saved.mask(object_id))
        ours, theirs = loaded.object_state(object_id), saved.object_state(object_id)
        assert (ours.name, ours.axis, ours.stops) == (theirs.name, theirs.axis, theirs.stops)
        assert ours.is_accepted is theirs.is_accepted
        assert list(ours.edits) == list(theirs.edits)
        assert list(ours.slices) == list(theirs.slices)
        for index, patch in theirs.own_slices.items():
            other = ours.own_slices[index]
            assert other.quality == patch.quality
            assert (other.is_prompted, other.is_final, other.is_edited) == (
                patch.is_prompted,
                patch.is_final,
                patch.is_edited,
            )
        assert_same_prompts(ours.prompts, theirs.prompts)
    assert len(loaded.runs) == len(saved.runs)
    for ours_run, theirs_run in zip(loaded.runs, saved.runs, strict=True):
        assert (ours_run.config, ours_run.model_name) == (theirs_run.config, theirs_run.model_name)
        for ours_prompts, theirs_prompts in zip(ours_run.prompts, theirs_run.prompts, strict=True):
            assert_same_prompts(ours_prompts, theirs_prompts)
    names = ("session_id", "shape_zyx", "spacing_zyx", "unit", "source", "model_name", "config")
    for name in (*names, "highest_id"):
        assert getattr(loaded.info, name) == getattr(saved.info, name)
    assert loaded.overlap_rule is saved.overlap_rule
    assert loaded.log == saved.log


def assert_same_prompts(ours: ObjectPrompts | None, theirs: ObjectPrompts | None) -> None:
    if ours is None or theirs is None:
        assert ours is theirs
        return
    assert (ours.object_id, ours.axis) == (theirs.object_id, theirs.axis)
    assert (ours.boxes, ours.points) == (theirs.boxes, theirs.points)
    assert [m.slice_index for m in ours.masks] == [m.slice_index for m in theirs.masks]
    for a, b in zip(ours.masks, theirs.masks, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def masks_of(folder: Path) -> Path:
    (state,) = folder.glob("state-*")
    return state / "masks.ome.zarr"


def chunk_files(array: Path) -> list[str]:
    return sorted(str(p.relative_to(array / "c")) for p in (array / "c").rglob("*") if p.is_file())


def test_everything_comes_back(tmp_path: Path) -> None:
    session = full_session()
    session.save(tmp_path / "mine")
    loaded = Session.load(tmp_path / "mine")
    assert_same(loaded, session)
    assert not loaded.can_undo
    assert loaded.next_free_id() == 303
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["session.json", "state-000001"]


def test_a_loaded_session_goes_on(tmp_path: Path) -> None:
    full_session().save(tmp_path)
    loaded = Session.load(tmp_path)
    before = loaded.labels()
    edited_plane = loaded.mask_plane(1, 0, 3)
    loaded.begin_run([1])
    loaded.apply(result(1, 3, np.ones((9, 8), dtype=bool)))
    np.testing.assert_array_equal(loaded.mask_plane(1, 0, 3), edited_plane)
    loaded.undo()
    np.testing.assert_array_equal(loaded.labels(), before)
    loaded.rename(1, "again")
    loaded.save(tmp_path)
    assert_same(Session.load(tmp_path), loaded)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["session.json", "state-000002"]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_session_comes_back(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    session = Session(SHAPE)
    for _ in range(data.draw(st.integers(0, 3))):
        object_id = session.add_object()
        axis = int(rng.integers(3))
        for index in rng.permutation(SHAPE[axis])[:3]:
            mask = rng.random(plane_shape(SHAPE, axis)) < rng.choice([0.0, 0.3, 1.0])
            session.apply(result(object_id, int(index), mask, axis=axis))
        for _ in range(data.draw(st.integers(0, 3))):
            axis = int(rng.integers(3))
            mask = rng.random(plane_shape(SHAPE, axis)) < rng.choice([0.0, 0.3, 1.0])
            session.edit_slice(object_id, axis, int(rng.integers(SHAPE[axis])), mask)
    with tempfile.TemporaryDirectory() as folder:
        session.save(folder)
        assert_same(Session.load(folder), session)


def test_numbers_of_any_kind_are_saved(tmp_path: Path) -> None:
    session = Session(np.array(SHAPE), np.ones(3))
    session.add_object(ObjectPrompts(1, (BoxPrompt(np.int64(2), Box(*np.float32([1, 1, 4, 5]))),)))
    session.apply(result(1, int(np.int64(2)), np.ones((9, 8), dtype=bool), score=np.float32(0.5)))
    session.save(tmp_path)
    assert_same(Session.load(tmp_path), session)


def test_other_tools_open_the_masks(tmp_path: Path) -> None:
    session = full_session()
    session.save(tmp_path)
    masks = masks_of(tmp_path)
    labels = ome_zarr_models.v05.Labels.from_zarr(zarr.open_group(masks, mode="r"))
    assert labels.label_paths == ["object-000001", "object-000300", "object-000301"]
    for object_id in session.object_ids:
        path = masks / f"object-{object_id:06d}"
        location = parse_url(path)
        assert location is not None
        (node,) = [n for n in Reader(location)() if n.data]
        np.testing.assert_array_equal(
            np.asarray(node.data[0]), session.mask(object_id) * np.uint16(object_id)
        )
        image = ome_zarr_models.v05.ImageLabel.from_zarr(zarr.open_group(path, mode="r"))
        (multiscale,) = image.attributes.ome.multiscales
        assert [(axis.name, axis.unit) for axis in multiscale.axes] == [
            ("z", "micrometer"),
            ("y", "micrometer"),
            ("x", "micrometer"),
        ]
        (scale,) = multiscale.datasets[0].coordinateTransformations
        assert tuple(scale.scale) == (2.5, 0.5, 0.5)
    assert zarr.open_array(masks / "object-000001" / "0", mode="r").dtype == np.uint8
    assert zarr.open_array(masks / "object-000300" / "0", mode="r").dtype == np.uint16


def test_only_the_chunks_an_object_touches_are_stored(tmp_path: Path) -> None:
    session = Session((500, 3000, 3000))
    session.add_object()
    region = Region(1000, 1030, 1020, 1040)
    quality = SliceQuality(1.0, 1.0, 1.0)
    for index in (15, 16, 100):
        mask = np.ones((20, 10), dtype=bool)
        session.apply(SliceResult(1, 0, index, region, mask, quality, False, True))
    session.save(tmp_path)
    assert chunk_files(masks_of(tmp_path) / "object-000001" / "0") == ["0/3/4", "1/3/4", "6/3/4"]
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 20_000
    loaded = Session.load(tmp_path)
    assert loaded.labels_plane(0, 16).sum() == 200
    assert loaded.object_table()[0].bbox_zyx == ((15, 1000, 1030), (101, 1020, 1040))


def test_unchanged_masks_are_linked(tmp_path: Path) -> None:
    session = full_session()
    session.save(tmp_path)

    def inodes() -> dict[str, int]:
        array = "object-{:06d}/0/zarr.json"
        masks = masks_of(tmp_path)
        return {i: (masks / array.format(i)).stat().st_ino for i in session.object_ids}

    before = inodes()
    session.rename(300, "renamed")
    session.apply(result(1, 1, np.ones((9, 8), dtype=bool)))
    session.save(tmp_path)
    after = inodes()
    assert {i for i in before if before[i] == after[i]} == {300, 301}
    assert_same(Session.load(tmp_path), session)
    loaded = Session.load(tmp_path)
    loaded.unaccept(300)
    loaded.save(tmp_path)
    assert inodes() == after
    with pytest.raises(SessionError, match="holds another session"):
        full_session().save(tmp_path)
    full_session().save(tmp_path, overwrite=True)
    assert set(inodes().values()).isdisjoint(after.values())


def test_a_folder_changed_by_others_is_written_anew(tmp_path: Path) -> None:
    session = full_session()
    session.save(tmp_path)
    shutil.rmtree(masks_of(tmp_path) / "object-000001")
    session.save(tmp_path)
    assert_same(Session.load(tmp_path), session)
    other = Session.load(tmp_path)
    other.apply(result(1, 0, np.ones((9, 8), dtype=bool)))
    other.save(tmp_path)
    session.save(tmp_path)
    assert_same(Session.load(tmp_path), session)


def test_files_are_copied_where_links_are_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "links are not supported here")

    session = full_session()
    session.save(tmp_path)
    session.rename(1, "other")
    monkeypatch.setattr(os, "link", no_links)
    session.save(tmp_path)
    assert_same(Session.load(tmp_path), session)


def test_the_state_tells_how_it_came_about(tmp_path: Path) -> None:
    session = full_session()
    session.save(tmp_path)
    values = json.loads((tmp_path / "state-000001" / "state.json").read_text(encoding="utf-8"))
    assert set(values["versions"]) == {"napari-slidesam", "python", "numpy", "zarr"}
    assert values["log"][0]["name"] == "add nucleus, left"
    assert values["runs"][0]["model_name"] == "net 1"
    assert values["runs"][0]["config"]["z_range"] == [0, 5]
    assert values["objects"][0]["edits"][0]["edited"]


def test_a_save_while_results_come_in(tmp_path: Path) -> None:
    session = Session((40, 30, 30))
    session.add_object()
    halt = threading.Event()

    def autosave() -> None:
        while not halt.is_set():
            session.save(tmp_path)

    saver = threading.Thread(target=autosave)
    saver.start()
    try:
        with session.operation("grow"):
            for step in range(400):
                mask = np.zeros((30, 30), dtype=bool)
                mask[: step % 30 + 1] = True
                session.apply(result(1, step % 40, mask))
    finally:
        halt.set()
        saver.join()
    Session.load(tmp_path).labels()
    session.save(tmp_path)
    assert_same(Session.load(tmp_path), session)


# Folders that hold something else


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    (tmp_path / "state-000004").mkdir()
    with pytest.raises(SessionError, match=r"holds other files \(thesis.txt\): choose a new"):
        Session(SHAPE).save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-000004", "thesis.txt"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SessionError, match="cannot be saved in"):
        Session(SHAPE).save(tmp_path / "file")


def test_what_a_killed_first_save_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "state-000001").mkdir()
    (tmp_path / ".0a1b2c3d-session.json").write_text("{", encoding="utf-8")
    with pytest.raises(SessionError, match=r"no session.json in it"):
        Session.load(tmp_path)
    session = full_session()
    session.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["session.json", "state-000002"]
    assert_same(Session.load(tmp_path), session)


def change(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(known | values), encoding="utf-8")


def break_pointer_format(folder: Path) -> None:
    change(folder / "session.json", format="something else")


def break_pointer_version(folder: Path) -> None:
    change(folder / "session.json", format_version=2)


def break_pointer_path(folder: Path) -> None:
    change(folder / "session.json", state="../elsewhere")


def break_pointer_keys(folder: Path) -> None:
    known = {"format": "napari-slidesam session", "format_version": 1, "state": "state-000001"}
    (folder / "session.json").write_text(json.dumps(known), encoding="utf-8")


def break_pointer_json(folder: Path) -> None:
    (folder / "session.json").write_text("{", encoding="utf-8")


def break_pointer_type(folder: Path) -> None:
    (folder / "session.json").write_text("[]", encoding="utf-8")


def remove_state(folder: Path) -> None:
    shutil.rmtree(folder / "state-000001")


def truncate_state(folder: Path) -> None:
    path = folder / "state-000001" / "state.json"
    path.write_text(path.read_text(encoding="utf-8")[:200], encoding="utf-8")


def damage_state(folder: Path) -> None:
    change(folder / "state-000001" / "state.json", objects=[{"id": 1}])


def damage_config(folder: Path) -> None:
    change(folder / "state-000001" / "state.json", config={"tempo": "allegro"})


def remove_chunk(folder: Path) -> None:
    array = masks_of(folder) / "object-000001" / "0"
    (array / "c" / chunk_files(array)[0]).unlink()


def damage_chunk(folder: Path) -> None:
    array = masks_of(folder) / "object-000001" / "0"
    (array / "c" / chunk_files(array)[0]).write_bytes(b"not zstd")


def remove_array(folder: Path) -> None:
    shutil.rmtree(masks_of(folder) / "object-000300")


def remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_pointer_format, "not written by this program.*'something else'"),
        (break_pointer_version, "newer napari-slidesam.*Update napari-slidesam"),
        (break_pointer_path, "'../elsewhere' is no state"),
        (break_pointer_keys, "lacks 'save_id'"),
        (break_pointer_json, "cannot be read"),
        (break_pointer_type, "not written by this program"),
        (remove_state, "state.json is missing: the folder was copied in part"),
        (truncate_state, "cannot be read"),
        (damage_state, "is damaged"),
        (damage_config, "is damaged.*tempo"),
        (remove_chunk, "were saved: files are missing"),
        (damage_chunk, "is damaged"),
        (remove_array, "masks of object 300 are missing"),
        (remove_all, "is not a folder"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, damage: Any, message: str) -> None:
    folder = tmp_path / "session"
    full_session().save(folder)
    damage(folder)
    with pytest.raises(SessionError, match=message):
        Session.load(folder)


# No space, no time


def test_no_space_left_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = full_session()
    session.save(tmp_path)
    saved = Session.load(tmp_path)
    session.remove_object(300)
    session.apply(result(1, 1, np.ones((9, 8), dtype=bool)))
    real_open, countdown = Path.open, 0

    def full_disk(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        nonlocal countdown
        if "w" in mode:
            countdown -= 1
            if countdown < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real_open(self, mode, *args, **options)

    for written in itertools.count():
        countdown = written
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full_disk)
            try:
                session.save(tmp_path)
            except SessionError as error:
                message = str(error)
            else:
                break
        assert "No space left on device" in message
        assert "saved there before is unchanged" in message
        assert sorted(p.name for p in tmp_path.iterdir()) == ["session.json", "state-000001"]
        assert_same(Session.load(tmp_path), saved)
    assert written > 5, "groups, arrays, chunks, state and pointer are all written"
    assert_same(Session.load(tmp_path), session)


def test_everything_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    real_replace = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == "session.json":
            state = max(tmp_path.glob("state-*"))
            assert {p.stat().st_ino for p in (state, *state.rglob("*"))} <= flushed
            assert Path(source).stat().st_ino in flushed
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda handle: flushed.add(os.fstat(handle).st_ino))
    monkeypatch.setattr(os, "replace", replace)
    session = full_session()
    for name in ("one", "two"):
        flushed.clear()
        session.rename(1, name)
        session.save(tmp_path)
        assert tmp_path.stat().st_ino in flushed, "the folder itself comes last"


KILLER = '''
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from napari_slidesam.engine.results import SliceQuality, SliceResult
from napari_slidesam.engine.session import Session
from napari_slidesam.geometry import Region

os.fsync = lambda handle: None  # a kill is no power cut
folder, mode = Path(sys.argv[1]), sys.argv[2]
shape, region = (20, 40, 40), Region(0, 0, 40, 40)

def fill(session, count):
    """Make object 1 what the count says; object 2 stays as it is."""
    session.begin_operation(str(count))
    session.clear_slices(1)
    for index in range(count % 20 + 1):
        mask = np.random.default_rng(count).random((40, 40)) < 0.3
        session.apply(SliceResult(1, 0, index, region, mask, SliceQuality(1, 1, 1), False, True))
    session.rename(1, str(count))
    session.end_operation()

def start():
    session = Session(shape)
    for object_id in (1, 2):
        session.add_object(name="0")
    session.edit_slice(2, 1, 3, np.ones((20, 40), dtype=bool))
    fill(session, 0)
    session.save(folder)

def checked(at_least=0):
    """Load what is there, and see that it is one complete state."""
    session = Session.load(folder)
    count = int(session.object_state(1).name)
    expected = np.zeros(shape, dtype=bool)
    expected[: count % 20 + 1] = np.random.default_rng(count).random((40, 40)) < 0.3
    assert (session.mask(1) == expected).all(), "masks and names are of one state"
    assert session.mask(2).sum() == 800
    assert count >= at_least, "a save that returned is not lost"
    return session, count

def in_child(act):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def killed_at(event):
    """Save once, and die just before the given file is opened, renamed, linked or removed."""
    session, count = checked()
    fill(session, count + 1)
    seen = 0
    def hook(name, args):
        nonlocal seen
        if name in ("open", "os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir"):
            if args and str(folder) in str(args[0]):
                seen += 1
                if seen > event:
                    os.kill(os.getpid(), signal.SIGKILL)
                    time.sleep(10)
    sys.addaudithook(hook)
    session.save(folder)

def save_forever(pipe):
    session, count = checked()
    while True:
        count += 1
        fill(session, count)
        session.save(folder)
        os.write(pipe, (str(count) + " ").encode())

assert wait(in_child(start)) == 0
kills = 0
if mode == "every-step":
    while True:
        code = wait(in_child(lambda: killed_at(kills * 3)))
        if code != -signal.SIGKILL:
            break
        kills += 1
    assert code == 0, code
else:
    rng = random.Random(0)
    for kills in range(1, 7):
        reading, writing = os.pipe()
        pid = in_child(lambda: save_forever(writing))
        os.close(writing)
        os.read(reading, 1)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
        told = [0]
        while chunk := os.read(reading, 65536):
            told += [int(n) for n in chunk.split()]
        os.close(reading)
        assert wait(in_child(lambda: checked(at_least=max(told) if len(told) > 1 else 0))) == 0
assert wait(in_child(checked)) == 0
print(kills)
'''

if hasattr(os, "fork"):

    @pytest.mark.parametrize(("mode", "at_least"), [("every-step", 20), ("any-moment", 6)])
    def test_a_kill_leaves_the_last_complete_state(
        tmp_path: Path, mode: str, at_least: int
    ) -> None:
        folder = tmp_path / "session"
        command = [sys.executable, "-c", KILLER, str(folder), mode]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        assert int(done.stdout) >= at_least
