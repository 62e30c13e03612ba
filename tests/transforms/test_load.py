from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage, SaveImage
from PIL import Image

from mdl_monai.errors import InputError
from mdl_monai.io.nifti_writer import AtomicNibabelWriter
from mdl_monai.transforms.load import LoadInputd, case_file_name


def save(path: Path, array: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0])), path)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 6), (1, 9, 6)),
        ((9, 6, 1), (1, 9, 6, 1)),
        ((9, 6, 4), (1, 9, 6, 4)),
        ((9, 6, 4, 1), (1, 9, 6, 4)),
    ],
)
def test_images_come_channel_first_with_their_case(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    file = save(tmp_path / "a.b.nii.gz", array)
    image = LoadInputd("image")({"image": file})["image"]
    assert tuple(image.shape) == expected and image.meta["case"] == "a.b"
    np.testing.assert_allclose(image.numpy().ravel(), array.ravel())
    named = LoadInputd("image")({"image": file, "case": "patient_a.b"})["image"]
    assert named.meta["case"] == "patient_a.b"


@pytest.mark.parametrize("shape", [(9, 6), (9, 6, 1), (9, 6, 4)])
def test_saving_keeps_shape_affine_and_every_dot_of_the_name(tmp_path: Path, shape: tuple[int, ...]) -> None:
    names = ("1.2.840.10", "1.2.840.11")
    for name in names:
        image = LoadInputd("image")(
            {
                "image": save(
                    tmp_path / f"{name}.nii.gz",
                    np.ones(shape) + np.eye(9, 6)[(...,) + (None,) * (len(shape) - 2)],
                )
            }
        )
        SaveImage(
            output_dir=tmp_path / "out",
            output_postfix="",
            output_name_formatter=case_file_name,
            writer=AtomicNibabelWriter,
            separate_folder=False,
            resample=False,
            print_log=False,
        )(image["image"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{name}.nii.gz" for name in names]
    saved = nib.load(tmp_path / "out" / f"{names[0]}.nii.gz")
    assert saved.shape == shape
    np.testing.assert_allclose(saved.affine, np.diag([2.0, 3.0, 4.0, 1.0]))


def test_only_the_images_of_a_record_are_kept_under_the_names_asked_for(tmp_path: Path) -> None:
    record = {
        "t2": save(tmp_path / "a.nii.gz", np.eye(9, 6, dtype=np.float32)),
        "age": None,
        "image": "other",
        "case": "a",
    }
    assert set(LoadInputd("t2", names="image")(record)) == {"image"}


def test_another_tools_dictionary_keeps_its_entries(tmp_path: Path) -> None:
    file = str(save(tmp_path / "a.nii.gz", np.eye(9, 6, dtype=np.float32)))
    result = LoadInputd("image")({"image": file, "image_path": file, "result_extension": None})
    assert result["image"].shape == (1, 9, 6)
    assert {k: v for k, v in result.items() if k != "image"} == {"result_extension": None}


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)wrong number of axes.*film\.nii\.gz"):
        LoadInputd("image")({"image": save(tmp_path / "film.nii.gz", np.ones((4, 4, 2, 3), np.float32))})
    holes = np.ones((4, 4), np.float32)
    holes[1, 1] = np.nan
    with pytest.raises(InputError, match=r"(?s)NaN.*holes\.nii\.gz.*1 of 16"):
        LoadInputd("image")({"image": save(tmp_path / "holes.nii.gz", holes)})
    colour = np.random.default_rng(0).integers(0, 255, (9, 6, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"(?s)wrong shape.*colour\.png.*1 channel.*3, "):
        LoadInputd("image")({"image": str(tmp_path / "colour.png")})
    with pytest.raises(InputError, match="complex"):
        LoadInputd("image")({"image": save(tmp_path / "c.nii.gz", np.ones((4, 4), np.complex64))})
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"(?s)cannot be read.*text\.png"):
        LoadInputd("image")({"image": str(tmp_path / "text.png")})


def test_an_image_in_memory_is_taken_as_its_file_is(tmp_path: Path) -> None:
    """Under the key of the file, or under that of the result."""
    values = np.random.default_rng(0).standard_normal((9, 6, 5)).astype(np.float32)
    file = save(tmp_path / "a.nii.gz", values)
    load = LoadInputd("mr", names="image")
    from_file = load({"mr": str(file), "case": "a"})["image"]
    for key in ("mr", "image"):
        held = LoadImage()(str(file))
        result = load({key: held, "case": "a"})["image"]
        assert torch.equal(result.as_tensor(), from_file.as_tensor()) and torch.equal(
            result.affine, from_file.affine
        )
        result += 1
        assert not torch.equal(result[0], held), "a copy"
    with pytest.raises(InputError, match="(?s)NaN.*mr, an image in memory"):
        load({"mr": torch.full((1, 4, 4, 4), float("nan"))})
