from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.labelled import LabelledVolume, read_labelled_folder, scale_to_uint16

if TYPE_CHECKING:
    from pathlib import Path


def block_labels(shape: tuple[int, int, int] = (10, 12, 14)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[2:8, 3:9, 4:10] = 3
    return labels


def write(folder: Path, labels: np.ndarray | None, image: np.ndarray | None = None) -> None:
    folder.mkdir(parents=True)
    affine = np.diag([0.5, 1.0, 2.0, 1.0])
    for name, values in (("labels", labels), ("image", image)):
        if values is not None:
            nib.save(nib.Nifti1Image(values, affine), folder / f"{name}.nii.gz")


def test_a_folder_is_read_as_zyx_with_spacing_and_objects(tmp_path: Path) -> None:
    labels = block_labels()
    image = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    write(tmp_path / "b_map", labels)
    write(tmp_path / "a_volume", labels, image)

    first, second = read_labelled_folder(tmp_path)

    assert (first.name, second.name) == ("a_volume", "b_map")
    assert first.labels.shape == (14, 12, 10)
    np.testing.assert_array_equal(first.labels, labels.T)
    assert first.spacing_zyx == (2.0, 1.0, 0.5)
    assert first.object_ids == (3,)
    assert first.image is not None
    assert first.image.dtype == np.uint16
    assert (first.image.min(), first.image.max()) == (0, 65535)
    assert second.image is None


def test_outliers_and_non_finite_values_do_not_set_the_scale() -> None:
    image = np.linspace(0, 1, 8000).reshape(20, 20, 20)
    image[0, 0, 0], image[0, 0, 1] = 1e6, np.nan
    scaled = scale_to_uint16(image)
    assert 31_000 < scaled[10, 0, 0] < 35_000
    assert scaled[0, 0, 0] == 65535


def test_a_constant_image_is_no_error() -> None:
    assert scale_to_uint16(np.full((3, 3, 3), 7.0)).max() == 0


def test_many_labels_become_int32() -> None:
    labels = block_labels().astype(np.int64) * 100_000
    volume = LabelledVolume.from_arrays("x", None, labels, (1.0, 1.0, 1.0))
    assert volume.labels.dtype == np.int32
    assert volume.object_ids == (300_000,)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((5, 5, 5), np.uint8), "object of at least"),
        (np.full((5, 5, 5), -1), "from 0"),
        (np.full((9, 9, 9), 1.5), "fractions"),
        (np.zeros((0, 5, 5), np.uint8), "empty"),
        (np.ones((20, 20), np.uint8), "three axes"),
    ],
)
def test_labels_that_cannot_be_used(labels: np.ndarray, message: str) -> None:
    with pytest.raises(TuningError, match=message):
        LabelledVolume.from_arrays("x", None, labels, (1.0, 1.0, 1.0))


def test_a_spacing_that_is_not_positive() -> None:
    with pytest.raises(TuningError, match="positive"):
        LabelledVolume.from_arrays("x", None, block_labels(), (0.0, 1.0, 1.0))


def test_a_folder_without_labels(tmp_path: Path) -> None:
    write(tmp_path / "volume", None, block_labels())
    with pytest.raises(TuningError, match=r"labels\.nii\.gz"):
        read_labelled_folder(tmp_path)


def test_image_and_labels_of_other_shapes(tmp_path: Path) -> None:
    write(tmp_path / "volume", block_labels(), block_labels()[1:])
    with pytest.raises(TuningError, match="same shape"):
        read_labelled_folder(tmp_path)


def test_a_truncated_file(tmp_path: Path) -> None:
    write(tmp_path / "volume", block_labels())
    file = tmp_path / "volume" / "labels.nii.gz"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(TuningError, match="cannot be read"):
        read_labelled_folder(tmp_path)


def test_an_empty_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="holds none"):
        read_labelled_folder(tmp_path)
    with pytest.raises(TuningError, match="not a folder"):
        read_labelled_folder(tmp_path / "nowhere")
