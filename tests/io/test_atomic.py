import errno
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import SaveImage

from mdl_monai.io.atomic import atomic_path, atomic_write_text
from mdl_monai.io.nifti_writer import AtomicNibabelWriter


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_and_replaced_without_debris(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "metrics.json"
    atomic_write_text(target, "old")
    atomic_write_text(target, "größer")
    assert target.read_text(encoding="utf-8") == "größer"
    assert listing(target.parent) == ["metrics.json"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_in_mid_write_leaves_the_old_file_and_no_debris(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "model.pt"
    target.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_bytes(b"half of the n")
        assert target.read_bytes() == b"old"
        raise error
    assert target.read_bytes() == b"old"
    assert listing(tmp_path) == ["model.pt"]


def test_an_error_names_the_file_that_the_user_knows(tmp_path: Path) -> None:
    for name in (None, "temporary"):
        with pytest.raises(OSError) as told, atomic_path(tmp_path / "a.txt") as temporary:
            raise OSError(errno.ENOSPC, "No space left", name and str(temporary))
        assert told.value.filename == str(tmp_path / "a.txt")


def test_the_temporary_path_lies_beside_the_target_with_its_whole_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "case_1.5.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("case_1.5.nii.gz") and temporary.name != "case_1.5.nii.gz"
        temporary.write_bytes(b"content")
    assert (tmp_path / "case_1.5.nii.gz").read_bytes() == b"content"


def test_two_writers_of_one_target_do_not_share_a_temporary_path(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as first, atomic_path(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "first"  # the outer one ends last


def test_writing_nothing_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(target):
        pass
    assert target.read_text(encoding="utf-8") == "old"


WRITERS = {
    "class": AtomicNibabelWriter,
    "dotted string": "mdl_monai.io.nifti_writer.AtomicNibabelWriter",
}


@pytest.mark.parametrize("resample", [True, False])
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
def test_save_image_writes_what_monais_own_writer_writes(
    tmp_path: Path, writer: type | str, resample: bool
) -> None:
    affine = torch.diag(torch.tensor([2.0, 0.5, 3.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([4.0, -5.0, 6.0])
    image = MetaTensor(torch.arange(30.0).reshape(1, 2, 5, 3), affine=affine)
    image.meta["filename_or_obj"] = "case.nii.gz"
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, chosen in ((ours, writer), (theirs, "NibabelWriter")):
        save = SaveImage(
            folder,
            output_postfix="",
            separate_folder=False,
            print_log=False,
            writer=chosen,
            resample=resample,
            output_dtype=np.uint8,
        )
        save(image)
    assert listing(ours) == listing(theirs) == ["case.nii.gz"]
    got, expected = nib.load(ours / "case.nii.gz"), nib.load(theirs / "case.nii.gz")
    np.testing.assert_array_equal(got.get_fdata(), expected.get_fdata())
    np.testing.assert_array_equal(got.affine, expected.affine)
    assert got.header == expected.header


def test_a_bundle_config_names_the_writer_by_string_and_saves_a_2d_image(tmp_path: Path) -> None:
    config = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": str(tmp_path / "out"),
        "output_postfix": "",
        "separate_folder": False,
        "print_log": False,
        "writer": "mdl_monai.io.nifti_writer.AtomicNibabelWriter",
    }
    save = ConfigParser({"save": config}).get_parsed_content("save")
    assert save.saver.writers == (AtomicNibabelWriter,)
    affine = np.diag([2.0, 0.5, 1.0, 1.0])
    image = MetaTensor(torch.arange(20.0).reshape(1, 4, 5), affine=affine)
    image.meta["filename_or_obj"] = "slice.nii.gz"
    save({"pred": image})
    saved = nib.load(tmp_path / "out" / "slice.nii.gz")
    np.testing.assert_array_equal(saved.get_fdata(), image[0].numpy())
    np.testing.assert_array_equal(saved.affine, affine)


def test_a_failing_nifti_write_leaves_the_old_file_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "case.nii.gz"
    target.write_bytes(b"old")

    def half_a_file(_image: object, filename: Path) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", half_a_file)
    writer = AtomicNibabelWriter()
    writer.set_data_array(np.zeros((1, 4, 5, 2)))
    writer.set_metadata({"affine": np.eye(4)}, resample=False)
    with pytest.raises(OSError, match="disk full"):
        writer.write(target)
    assert target.read_bytes() == b"old"
    assert listing(tmp_path) == ["case.nii.gz"]
