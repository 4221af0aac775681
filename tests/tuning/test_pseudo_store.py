from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import Region
from napari_slidesam.intensity import Intensity
from napari_slidesam.tuning.pseudo_files import (
    MASKS_FILE,
    SLICES_FILE,
    PseudoFacts,
    PseudoStore,
    writing,
)
from napari_slidesam.tuning.pseudo_masks import (
    DistinctMasks,
    PseudoMask,
    PseudoSlice,
    overlap,
)
from napari_slidesam.tuning.pseudo_store import (
    MixedSource,
    PseudoWindows,
    is_pseudo_store,
    open_pseudo_windows,
)
from napari_slidesam.tuning.windows import TrainingWindow
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (6, 20, 30)


def mask_at(y0: int, x0: int, side: int = 6, iou: float = 0.8) -> PseudoMask:
    pixels = np.ones((side, side), dtype=bool)
    pixels[0, 0] = False
    return PseudoMask(Region(y0, x0, y0 + side, x0 + side), pixels, iou, 0.9, 2.0, 3)


def slice_at(axis: int, index: int, *masks: PseudoMask) -> PseudoSlice:
    y, x = (n for i, n in enumerate(SHAPE) if i != axis)
    return PseudoSlice(axis, index, (y, x), masks, 7, {"duplicate": 2}, 0.5)


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    path = tmp_path / "volume.npy"
    np.save(path, np.random.default_rng(0).random(SHAPE, dtype=np.float32))
    return path


@pytest.fixture
def facts(image_path: Path) -> PseudoFacts:
    return PseudoFacts("volume", str(image_path), SHAPE, "tiny", {"scales": (1.0, 2.0)})


@pytest.fixture
def folder(tmp_path: Path, facts: PseudoFacts) -> Path:
    """Two slices along z, one along y; three overlapping masks in all."""
    folder = tmp_path / "pseudo" / "volume"
    with writing(folder, facts) as store:
        store.append(slice_at(0, 4, mask_at(2, 3), mask_at(4, 5, 9, 0.6)))
        store.append(slice_at(0, 1))
        store.append(slice_at(1, 7, mask_at(0, 20, 5, 0.7)))
    return folder


def test_what_is_stored_comes_back(folder: Path) -> None:
    store = PseudoStore(folder)
    assert store.done == {(0, 1), (0, 4), (1, 7)}
    assert store.n_masks == 3
    found = store.read(0, 4)
    assert (found.prompts, found.dropped, found.plane_shape_yx) == (7, {"duplicate": 2}, (20, 30))
    expected = mask_at(2, 3)
    assert found.masks[0].region == expected.region
    np.testing.assert_array_equal(found.masks[0].mask, expected.mask)
    assert found.masks[0].votes == 3
    assert found.masks[1].area_px == 80
    assert store.read(0, 1).masks == ()
    with pytest.raises(TuningError, match="slice 2 along z"):
        store.read(0, 2)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
def test_masks_of_any_shape_come_back(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(len(shapes))
    masks = [
        PseudoMask(Region(1, 2, 1 + h, 2 + w), rng.random((h, w)) > 0.5, 0.5, 0.5, 1.0)
        for h, w in shapes
    ]
    folder = tmp_path_factory.mktemp("any") / "store"
    with writing(folder, PseudoFacts("v", "v.npy", SHAPE, "m")) as store:
        store.append(slice_at(0, 0, *masks))
    for found, mask in zip(PseudoStore(folder).read(0, 0).masks, masks, strict=True):
        np.testing.assert_array_equal(found.mask, mask.mask)


def test_masks_are_stored_compactly(tmp_path: Path, facts: PseudoFacts) -> None:
    y, x = np.ogrid[:200, :200]
    disk = (y - 100) ** 2 + (x - 100) ** 2 < 90**2
    mask = PseudoMask(Region(0, 0, 200, 200), disk, 0.9, 0.9, 1.0)
    with writing(tmp_path / "store", facts) as store:
        store.append(slice_at(0, 0, *[mask] * 5))
    assert (tmp_path / "store" / MASKS_FILE).stat().st_size < 0.01 * 5 * disk.size


@pytest.mark.parametrize("damage", ["masks", "line", "both"])
def test_a_killed_writer_loses_its_slice_only(
    folder: Path, facts: PseudoFacts, damage: str
) -> None:
    before = (folder / MASKS_FILE).read_bytes()
    if damage in ("masks", "both"):
        with (folder / MASKS_FILE).open("ab") as file:
            file.write(b"half of a mask")
    if damage in ("line", "both"):
        with (folder / SLICES_FILE).open("a") as file:
            file.write('{"axis":0,"slice_in')
    assert PseudoStore(folder).done == {(0, 1), (0, 4), (1, 7)}
    with writing(folder, facts) as store:
        assert (folder / MASKS_FILE).read_bytes() == before
        store.append(slice_at(0, 2, mask_at(1, 1)))
    store = PseudoStore(folder)
    assert store.n_masks == 4
    assert store.read(0, 2).masks[0].region == mask_at(1, 1).region
    assert store.read(0, 4).masks[0].area_px == 35


def test_damage_is_reported(folder: Path) -> None:
    content = bytearray((folder / MASKS_FILE).read_bytes())
    content[3] ^= 255
    (folder / MASKS_FILE).write_bytes(content)
    with pytest.raises(TuningError, match="slice 4 along z"):
        PseudoStore(folder).read(0, 4)
    lines = (folder / SLICES_FILE).read_text().splitlines(keepends=True)
    (folder / SLICES_FILE).write_text("nonsense\n" + "".join(lines))
    with pytest.raises(TuningError, match="Line 1"):
        PseudoStore(folder)


def test_settings_are_not_mixed(folder: Path, facts: PseudoFacts, image_path: Path) -> None:
    other = PseudoFacts("volume", str(image_path), SHAPE, "another network", facts.config)
    with pytest.raises(TuningError, match="model 'tiny'"), writing(folder, other):
        pass
    with writing(folder, facts) as store:
        assert len(store.done) == 3


def test_one_writer_at_a_time(folder: Path, facts: PseudoFacts) -> None:
    with (
        writing(folder, facts),
        pytest.raises(TuningError, match="Another process"),
        writing(folder, facts),
    ):
        pass


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, facts: PseudoFacts) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TuningError, match="other files"), writing(tmp_path, facts):
        pass


def test_another_version_is_refused(folder: Path) -> None:
    path = folder / "pseudo.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 9}))
    assert not is_pseudo_store(folder)
    with pytest.raises(TuningError, match="version 9"):
        PseudoStore(folder)


def test_windows_count_on_their_own_slice(folder: Path) -> None:
    source = open_pseudo_windows(folder)
    assert len(source) == 3
    window = source.read(0)
    assert (window.source, window.axis, window.slice_index) == ("volume", 0, 4)
    assert window.indicator == (False, True, False)
    assert window.images.shape == window.masks.shape == (3, 20, 30)
    assert window.images.dtype == np.float32
    assert 0.0 <= window.images.min() < window.images.max() <= 1.0
    assert not window.masks[[0, 2]].any()
    np.testing.assert_array_equal(window.masks[1], mask_at(2, 3).on_plane((20, 30)))
    assert source.read(2).axis == 1
    with pytest.raises(TuningError, match="0 to 2"):
        source.read(3)


def test_windows_by_axis_and_trust(folder: Path, image_path: Path) -> None:
    assert len(open_pseudo_windows(folder, axes=(1,))) == 1
    assert len(open_pseudo_windows(folder, min_iou=0.65)) == 2
    assert len(open_pseudo_windows(folder, min_share=0.1)) == 2
    with pytest.raises(TuningError, match="at least one pseudo-label"):
        open_pseudo_windows(folder, axes=(2,))
    data = np.load(image_path)
    whole = open_pseudo_windows(folder, whole_range=True).read(0)
    low, high = data[3:6].min(), data[3:6].max()
    np.testing.assert_allclose(whole.images, (data[3:6] - low) / (high - low), atol=1e-5)
    limits = open_pseudo_windows(folder, intensity=Intensity("limits", 0.0, 2.0)).read(0)
    np.testing.assert_allclose(limits.images, data[3:6] / 2, atol=1e-6)


def test_a_folder_of_stores_is_one_source(folder: Path, facts: PseudoFacts) -> None:
    with writing(folder.parent / "second", facts) as store:
        store.append(slice_at(0, 0, mask_at(1, 1)))
    assert is_pseudo_store(folder)
    assert is_pseudo_store(folder.parent)
    assert not is_pseudo_store(folder.parent.parent)
    assert not is_pseudo_store(folder / "missing")
    source = open_pseudo_windows(folder.parent)
    assert (len(source), source.n_volumes) == (4, 2)


def test_the_volume_must_be_there_and_the_same(folder: Path, image_path: Path) -> None:
    other = Volume(np.zeros((6, 20, 31)))
    with pytest.raises(TuningError, match=r"\(6, 20, 31\)"):
        PseudoWindows([(PseudoStore(folder), other)])
    image_path.unlink()
    with pytest.raises(TuningError, match="Put it back"):
        open_pseudo_windows(folder)
    with pytest.raises(TuningError, match="no pseudo-labels"):
        open_pseudo_windows(folder / "missing")


class Numbered:
    """Windows that hold their own number."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def __len__(self) -> int:
        return self.size

    def read(self, index: int) -> TrainingWindow:
        plane = np.zeros((3, 1, 1), dtype=np.float32)
        return TrainingWindow(plane, plane > 0, (False, True, False), self.name, 0, index, 0)


class Sliding(Numbered):
    def read_next(self, index: int, step: int) -> TrainingWindow | None:
        return self.read(index + step)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.floats(0.1, 1.0, allow_nan=False)),
        min_size=1,
        max_size=4,
    )
)
def test_mixing_gives_each_source_its_share(parts: list[tuple[int, float]]) -> None:
    sizes, shares = zip(*parts, strict=True)
    mixed = MixedSource([Numbered(str(i), n) for i, n in enumerate(sizes)], shares)
    places = [mixed.place(i) for i in range(len(mixed))]
    for which, (size, share) in enumerate(parts):
        mine = [number for source, number in places if source == which]
        assert abs(len(mine) - share / sum(shares) * len(mixed)) <= len(parts)
        assert set(mine) <= set(range(size))
        assert len(set(mine)) >= size - 1 or len(mine) < size


def test_mixing_is_even_and_covers_everything() -> None:
    mixed = MixedSource([Numbered("real", 3), Numbered("pseudo", 7)], (0.3, 0.7))
    assert len(mixed) == 10
    windows = [mixed.read(i) for i in range(10)]
    assert sorted(w.slice_index for w in windows if w.source == "real") == [0, 1, 2]
    assert sorted(w.slice_index for w in windows if w.source == "pseudo") == list(range(7))
    halves = [sum(w.source == "real" for w in part) for part in (windows[:5], windows[5:])]
    assert max(halves) - min(halves) <= 1


def test_mixing_of_a_given_length_thins_evenly() -> None:
    mixed = MixedSource([Numbered("real", 4), Numbered("pseudo", 100)], (1, 1), length=8)
    numbers = [mixed.read(i).slice_index for i in range(8) if mixed.read(i).source == "pseudo"]
    assert numbers == [0, 25, 50, 75]


def test_mixing_hands_on_sliding() -> None:
    mixed = MixedSource([Sliding("real", 4), Numbered("pseudo", 4)], (1, 1))
    found = {mixed.read(i).source: mixed.read_next(i, 1) for i in range(8)}
    assert found["pseudo"] is None
    assert found["real"] is not None


@pytest.mark.parametrize(
    ("sizes", "shares", "length"),
    [((), (), None), ((3,), (1, 1), None), ((3, 3), (1, 0), None), ((3, 0), (1, 1), None),
     ((3, 3), (1, 1), 1)],
)  # fmt: skip
def test_mixing_what_does_not_fit(
    sizes: tuple[int, ...], shares: tuple[float, ...], length: int | None
) -> None:
    with pytest.raises(TuningError, match="Mixing"):
        MixedSource([Numbered("s", n) for n in sizes], shares, length=length)


def test_the_better_of_two_alike_is_kept() -> None:
    distinct = DistinctMasks(0.7)
    distinct.add([mask_at(2, 2, 10, 0.7), mask_at(12, 20, 6, 0.5)])
    distinct.add([mask_at(2, 2, 9, 0.9)])
    (best, other) = distinct.best(min_votes=1, limit=5)
    assert (best.predicted_iou, best.votes, other.votes) == (0.9, 6, 3)
    assert distinct.n_duplicates == 1
    assert len(distinct.best(min_votes=4, limit=5)) == 1
    assert len(distinct.best(min_votes=1, limit=1)) == 1


def test_overlap_is_that_of_the_planes() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        masks = [mask_at(*rng.integers(0, 8, 2), int(rng.integers(3, 9))) for _ in range(2)]
        a, b = (m.on_plane((20, 20)) for m in masks)
        expected = (a & b).sum() / (a | b).sum()
        assert overlap(*masks) == pytest.approx(expected)
        found = overlap(*masks, 0.5)
        assert found == pytest.approx(expected) or (found == 0 and expected < 0.5)
