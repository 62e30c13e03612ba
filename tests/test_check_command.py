"""``python -m mdl_monai.check``: one line a finding, an exit code, no traceback, no patient."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mdl_monai.check import main

sys.path.insert(0, str(Path(__file__).parent / "io" / "dicom"))
from dicom_files import Stack


def volume(path: Path, values: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).random((6, 5, 4)) if values is None else values
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 3.0, 4.0, 1.0])), path)
    return path


def dicom(folder: Path, **tags: str) -> list[Path]:
    values = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.uint16)
    return Stack(values, tags={"PatientName": "Secret^Person", "PatientID": "ID77", **tags}).save(folder)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out.splitlines()


def test_every_format_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume(tmp_path / "a.nii.gz")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 6), dtype=np.uint8)).save(
        tmp_path / "b.png"
    )
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["kspace"] = np.ones((2, 6, 5), np.complex64)
    dicom(tmp_path / "study" / "series")
    (tmp_path / "notes.txt").write_text("words", encoding="utf-8")
    code, lines = run(capsys, tmp_path)
    assert code == 0 and len(lines) == 4 and all(line.startswith("ok ") for line in lines)
    assert "a.nii.gz: 6 x 5 x 4, 2 x 3 x 4 mm" in lines[0] and "series: 6 x 5 x 4" in lines[3]


def test_what_is_refused_is_told_in_one_line_and_the_rest_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = volume(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:-5])
    volume(tmp_path / "b.nii", np.zeros((6, 5, 4)))
    volume(tmp_path / "c.nii")
    dicom(tmp_path / "d")[1].unlink()
    code, lines = run(capsys, tmp_path)
    assert code == 1 and [line.split()[0] for line in lines] == ["refused", "refused", "ok", "refused"]
    assert "expected" in lines[0] and "remedy" in lines[0] and "a slice is missing" in lines[3]
    assert run(capsys, tmp_path / "d", "--dicom_allow", "missing_slice")[0] == 0


def test_no_patient_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = dicom(tmp_path / "a")
    for n, file in enumerate(files):
        data = file.read_bytes()
        (tmp_path / f"{n}").mkdir()
        (tmp_path / f"{n}" / "x.dcm").write_bytes(data[: len(data) - 300 * n])
    for file in dicom(tmp_path / "z"):  # where a number should be
        data = file.read_bytes()
        assert b"1.100000000\\0.900000000" in data
        file.write_bytes(data.replace(b"1.100000000\\0.900000000", b"Secret^Person\\Secret^Per"))
    code, lines = run(capsys, tmp_path)
    assert code == 1 and len(lines) == 6 and "damaged: PixelSpacing" in lines[5]
    assert not any("Secret" in line or "ID77" in line for line in lines)


def test_another_modality_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicom(tmp_path / "a")
    assert run(capsys, tmp_path, "--modality", "MR")[0] == 0
    code, lines = run(capsys, tmp_path, "--modality", "CT", "PT")
    assert code == 1 and "another modality; expected: CT or PT; found: MR" in lines[0]


def test_a_data_set_is_checked_by_its_listing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume(tmp_path / "images" / "a.nii.gz")
    volume(tmp_path / "labels" / "a.nii.gz", np.zeros((6, 5, 4)))  # nothing in it, which a label map may have
    volume(tmp_path / "not_listed.nii.gz", np.zeros((6, 5, 4)))
    record = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz", "age": 5, "patient": "Secret"}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"name": "x", "test": [record, record]}), encoding="utf-8"
    )
    code, lines = run(capsys, tmp_path)
    assert code == 0 and len(lines) == 2 and lines[1].endswith("0 labels") and "Secret" not in str(lines)
    record["image"] = "images/gone.nii.gz"
    (tmp_path / "dataset.json").write_text(json.dumps({"test": [record]}), encoding="utf-8")
    code, lines = run(capsys, tmp_path)
    assert code == 1 and "gone.nii.gz: the image file does not exist" in lines[0]
    for text in ("{", "[" * 10**5, "5", '{"test": [{"image": 5}]}'):
        (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
        code, lines = run(capsys, tmp_path)
        assert code == 1 and len(lines) == 1 and lines[0].startswith("refused")


def test_an_empty_folder_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run(capsys, tmp_path)
    assert code == 1 and "no image found" in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [[], ["gone.nii"], [".", "--max_gib", "x"], [".", "--dicom_allow", "x"], [".", "--axes", "5"]],
)
def test_wrong_use_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDL_MAX_GIB", "4")  # set back afterwards
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_the_limit_can_be_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDL_MAX_GIB", "4")
    volume(tmp_path / "a.nii")
    assert run(capsys, tmp_path)[0] == 0
    code, lines = run(capsys, tmp_path, "--max_gib", "1e-7")
    assert code == 1 and "too large" in lines[0]


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"words")
    done = subprocess.run(
        [sys.executable, "-m", "mdl_monai.check", str(tmp_path)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1 and done.stdout.startswith("refused") and "Traceback" not in done.stderr
