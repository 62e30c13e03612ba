"""The whole script against a local server with an archive laid out like that of the source."""

import gzip
import hashlib
import io
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pytest
import synthrad
from download import ATTEMPTS
from monai.bundle import ConfigParser
from scipy.ndimage import binary_erosion
from synthrad import ARCHIVE, KINDS, VIEWS
from upstream import FileServer

from mdl_monai.errors import InputError
from mdl_monai.io.records import load_records
from mdl_monai.io.splits import train_val_records
from mdl_monai.phantoms.head import head_phantom

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "brain_mr_to_ct_synthesis" / "configs"
KNOWN = {"train": ["1BA005", "1BC010"], "val": ["1BB003"], "test": ["1BA001"]}
SPLIT = KNOWN | {"held_out": ["1BA032", "1BB008"]}
PATIENTS = sorted(p for split in SPLIT.values() for p in split)
Files = dict[str, bytes]  # contents of the archive, by name
Serve = Callable[[bytes], None]


def volumes_of(patient: str) -> dict[str, nib.Nifti1Image]:
    """MR, CT and outline of a small head, as the source stores them: axes to the left, back and top."""
    number = PATIENTS.index(patient)
    head = head_phantom(number, (24 + number % 2, 27 - number % 2, 21 + number % 3), (8.0, 8.0, 8.0))
    arrays = {"mr": head.mr * 900, "ct": head.ct.round(), "mask": head.tissue > 0}
    types = {"mr": np.float32, "ct": np.int16, "mask": np.uint8}
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    return {
        kind: nib.Nifti1Image(
            arrays[kind].numpy()[::-1, ::-1].astype(types[kind]), turn @ head.affine.numpy()
        )
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def volumes() -> dict[str, dict[str, nib.Nifti1Image]]:
    return {patient: volumes_of(patient) for patient in PATIENTS}


@pytest.fixture
def files(volumes: dict[str, dict[str, nib.Nifti1Image]]) -> Files:
    contents = {"Task1/": b"", "Task1/brain/": b"", "Task1/brain/overview/1_brain_train.xlsx": b"table"}
    for patient, images in volumes.items():
        contents[f"Task1/brain/{patient}/"] = b""
        contents[f"Task1/brain/overview/{patient}_train.png"] = b"picture"
        for kind, image in images.items():
            contents[f"Task1/brain/{patient}/{kind}.nii.gz"] = gzip.compress(image.to_bytes(), mtime=0)
    return contents | {f"Task1/pelvis/1PA001/{kind}.nii.gz": b"pelvis" for kind in KINDS}


def archive_of(files: Files) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def serve(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Put an archive on the server, and its address and checksum into the script."""

    def put(archive: bytes) -> None:
        (server.folder / ARCHIVE).write_bytes(archive)
        source = (f"{server.url}/{ARCHIVE}", hashlib.md5(archive).hexdigest())
        monkeypatch.setattr(synthrad, "SOURCE", source)

    return put


def written(root: Path) -> list[str]:
    """Every file in the output folder but the downloads."""
    paths = (p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    return sorted(path for path in paths if path.split("/")[0] != "downloads")


def check_volumes(root: Path, files: Files) -> None:
    names = [f"images/{p}_{kind}.nii.gz" for p in PATIENTS for kind in KINDS]
    assert [w for w in written(root) if not w.startswith("slices")] == sorted(
        ["LICENSE.txt", "dataset.json", *names]
    )
    for p in PATIENTS:
        for kind in KINDS:
            copy = root / "images" / f"{p}_{kind}.nii.gz"
            assert copy.read_bytes() == files[f"Task1/brain/{p}/{kind}.nii.gz"]
    index = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    for split, patients in SPLIT.items():
        assert index.pop(split) == [
            {"patient": p, "centre": p[2], **{k: f"images/{p}_{k}.nii.gz" for k in KINDS}} for p in patients
        ]
    assert index == synthrad.PROPERTIES


def refuse(root: Path, match: str) -> None:
    with pytest.raises(InputError, match=f"(?s){match}.*nothing was written"):
        synthrad.prepare(root, slices=True, known=KNOWN)
    assert written(root) == []


def test_the_source_is_zenodos_record_with_its_md5() -> None:
    address, md5 = synthrad.SOURCE
    assert address.startswith("https://zenodo.org/") and "/7260705/" in address and ARCHIVE in address
    assert len(md5) == 32


def test_volumes_are_byte_copies_and_patients_outside_the_split_are_held_out(
    server: FileServer, serve: Serve, files: Files, tmp_path: Path
) -> None:
    serve(archive_of(files))
    root = tmp_path / "set"
    assert synthrad.prepare(root, known=KNOWN) == SPLIT
    check_volumes(root, files)
    assert not (root / "slices").exists()
    licence = (root / "LICENSE.txt").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by-nc/4.0/" in licence and "7260705" in licence
    both = train_val_records(root, "train", "val", 0.1, 0, "mr", ["ct", "mask"])
    assert {part: [r["subject"] for r in both[part]] for part in both} == {s: KNOWN[s] for s in both}

    (root / "images" / "1BA001_ct.nii.gz").unlink()
    synthrad.prepare(root, known=KNOWN)
    check_volumes(root, files)
    assert len(server.ranges) == 1  # the archive that is there serves the second run


def world_values(image: Any) -> dict[tuple[float, ...], float]:
    """Value by place in mm."""
    voxels = np.argwhere(np.ones(image.shape, bool))
    places = nib.affines.apply_affine(image.affine, voxels).round(3)
    return dict(zip(map(tuple, places.tolist()), np.asanyarray(image.dataobj)[tuple(voxels.T)], strict=True))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("patient", PATIENTS[:2])
def test_slices_are_the_volumes_middle_in_space_and_in_the_arrays_of_the_figures_copy(
    axes: str, patient: str
) -> None:
    stored = volumes_of(patient)["ct"]
    array = np.asanyarray(stored.dataobj)
    x, y, z = (n // 2 for n in array.shape)
    expected = {"axial": array[:, :, z], "coronal": array[:, y], "sagittal": array[x]}
    everywhere = world_values(stored)
    slices = synthrad.middle_slices(synthrad.reoriented(stored, axes))
    assert slices.keys() == VIEWS.keys() == expected.keys()
    for view, image in slices.items():
        assert np.array_equal(np.asanyarray(image.dataobj), expected[view][..., None])
        assert image.get_data_dtype() == np.int16
        assert np.linalg.det(image.affine) > 0  # right-handed, as the copy's are
        for place, value in world_values(image).items():
            assert everywhere[place] == value


def test_the_set_of_slices_has_the_form_of_the_figures_copy(
    serve: Serve, files: Files, tmp_path: Path
) -> None:
    serve(archive_of(files))
    root = tmp_path / "set"
    synthrad.prepare(root, slices=True, known=KNOWN)
    check_volumes(root, files)
    names = [f"images/{p}_{v}_{k}.nii.gz" for p in PATIENTS for v in VIEWS for k in KINDS]
    assert written(root / "slices") == sorted(["LICENSE.txt", "dataset.json", *names])
    index = json.loads((root / "slices" / "dataset.json").read_text(encoding="utf-8"))
    for split, patients in SPLIT.items():
        assert [(r["patient"], r["view"]) for r in index[split]] == [(p, v) for p in patients for v in VIEWS]
    assert index["test"][1] == {
        "patient": "1BA001",
        "centre": "A",
        "view": "coronal",
        **{k: f"images/1BA001_coronal_{k}.nii.gz" for k in KINDS},
    }
    for kind, volume in volumes_of("1BA001").items():
        expected = np.asanyarray(volume.dataobj)[:, volume.shape[1] // 2, :, None]
        image = nib.Nifti1Image.from_filename(root / "slices" / "images" / f"1BA001_coronal_{kind}.nii.gz")
        assert np.array_equal(np.asanyarray(image.dataobj), expected)
        assert image.get_data_dtype() == volume.get_data_dtype()


@pytest.mark.parametrize("folder", ["", "slices"])
def test_the_bundle_reads_both_sets(folder: str, serve: Serve, files: Files, tmp_path: Path) -> None:
    serve(archive_of(files))
    synthrad.prepare(tmp_path / "set", slices=True, known=KNOWN)
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ("common", "inference", "evaluate")])
    parser.update({"dataset_dir": str(tmp_path / "set" / folder), "split": "test", "amp": False})
    parser.update({"view": "sagittal"} if folder else {})
    dataset = parser.get_parsed_content("dataset")
    assert len(dataset) == 1 and dataset.data[0]["subject"] == "1BA001"
    item = dataset[0]
    image, label = item["image"], item["label"]
    assert image.min() == -1 and image.max() == 1
    assert label.shape[0] == 2 and label[0].min() < -900 and label[0].max() > 500
    assert set(np.unique(label[1])) == {0, 1}


def test_a_cut_download_resumes_in_this_run_or_the_next(
    server: FileServer, serve: Serve, files: Files, tmp_path: Path
) -> None:
    serve(archive_of(files))
    root = tmp_path / "set"
    server.cuts = [1000] * (ATTEMPTS + 1)
    with pytest.raises(InputError, match=r"(?s)did not finish.*cut after 3000 bytes.*it resumes"):
        synthrad.prepare(root, known=KNOWN)
    assert written(root) == []
    synthrad.prepare(root, known=KNOWN)
    assert server.ranges[-2:] == ["bytes=3000-", "bytes=4000-"]
    check_volumes(root, files)


def test_an_archive_with_another_checksum_is_refused_and_goes(
    server: FileServer, serve: Serve, files: Files, tmp_path: Path
) -> None:
    serve(archive_of(files))
    (server.folder / ARCHIVE).write_bytes(archive_of(files | {"Task1/more": b"changed"}))
    root = tmp_path / "set"
    with pytest.raises(InputError, match=f"(?s)checksum of .*{ARCHIVE} differs.*source has changed"):
        synthrad.prepare(root, known=KNOWN)
    assert [p.name for p in root.rglob("*")] == ["downloads"]


def test_what_is_no_archive_is_one_clear_error(serve: Serve, tmp_path: Path) -> None:
    serve(b"<html>moved</html>" * 100)
    refuse(tmp_path / "set", rf"cannot be read.*{ARCHIVE}.*delete it")


@pytest.mark.parametrize(
    ("patient", "gone"), [("1BA005", KINDS), ("1BA001", ["ct"]), ("1BB003", ["mask"]), ("1BB008", ["mr"])]
)
def test_a_missing_file_is_named_and_nothing_is_written(
    patient: str, gone: list[str], serve: Serve, files: Files, tmp_path: Path
) -> None:
    for kind in gone:
        del files[f"Task1/brain/{patient}/{kind}.nii.gz"]
    serve(archive_of(files))
    refuse(tmp_path / "set", f"lacks a file.*6 patients.*{len(gone)} missing.*{patient}/{gone[0]}")


def test_names_that_leave_the_folder_are_passed_over(serve: Serve, files: Files, tmp_path: Path) -> None:
    names = ["../1BA999/mr.nii.gz", "Task1/brain/1BA998/../mr.nii.gz", "/Task1/brain/1BA997/mr.nii.gz"]
    serve(archive_of(files | dict.fromkeys(names, b"escaped")))
    synthrad.prepare(tmp_path / "set", known=KNOWN)
    check_volumes(tmp_path / "set", files)
    assert not list(tmp_path.rglob("*99*"))


def test_an_interrupted_run_does_not_look_complete_and_the_next_one_completes_it(
    serve: Serve, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(archive_of(files))
    root = tmp_path / "set"
    copies = []
    copyfileobj = shutil.copyfileobj

    def copy_seven(source: Any, target: Any) -> None:
        if len(copies) == 7:
            target.write(b"half a fi")
            raise KeyboardInterrupt
        copies.append(copyfileobj(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(synthrad.shutil, "copyfileobj", copy_seven)
        with pytest.raises(KeyboardInterrupt):
            synthrad.prepare(root, slices=True, known=KNOWN)
    left = [Path(path) for path in written(root)]
    assert len(left) == 7 * (1 + len(VIEWS)) and all(path.name.startswith("1B") for path in left)
    synthrad.prepare(root, slices=True, known=KNOWN)
    check_volumes(root, files)
    assert len(load_records(root / "slices", "held_out", "mr", ["ct", "mask"])) == 6


@pytest.mark.parametrize("folder", ["", "slices"])
def test_a_folder_with_another_data_set_is_left_alone(
    folder: str, serve: Serve, files: Files, tmp_path: Path
) -> None:
    serve(archive_of(files))
    other = tmp_path / "set" / folder / "dataset.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"train": []}')
    with pytest.raises(InputError, match=r"(?s)holds another data set.*dataset.json.*--output_dir"):
        synthrad.prepare(tmp_path / "set", slices=True, known=KNOWN)
    assert written(tmp_path / "set") == [other.relative_to(tmp_path / "set").as_posix()]
    assert other.read_text(encoding="utf-8") == '{"train": []}'


def shipped() -> dict[str, list[str]]:
    return json.loads(Path(synthrad.__file__).with_name("synthrad_split.json").read_text(encoding="utf-8"))


def test_the_command_uses_the_shipped_lists(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = shipped()
    assert {split: len(lists[split]) for split in lists} == {"train": 125, "val": 18, "test": 18}
    names = [p for split in lists.values() for p in split]
    assert len(set(names)) == 161
    some = {k: gzip.compress(v.to_bytes()) for k, v in volumes_of("1BA001").items()}
    serve(archive_of({f"Task1/brain/{p}/{k}.nii.gz": some[k] for p in [*names, "1BC999"] for k in KINDS}))
    synthrad.main(["--output_dir", str(tmp_path / "set")])
    assert "train 125, val 18, test 18, held_out 1 patients" in capsys.readouterr().out
    assert [r["patient"] for r in load_records(tmp_path / "set", "held_out", "mr")] == ["1BC999"]


@pytest.fixture
def copy_slices(data_root: Path) -> tuple[dict, Callable[[str], np.ndarray]]:
    """The figures' copy: its index, and a way to read a slice of it."""
    real = data_root / "brain_mr_ct"
    if not (real / "dataset.json").is_file():
        pytest.skip(f"the set of MR-CT slices is not in {real}")

    def read(name: str) -> np.ndarray:
        return np.asanyarray(nib.Nifti1Image.from_filename(real / name).dataobj)[..., 0]

    return json.loads((real / "dataset.json").read_text(encoding="utf-8")), read


def test_the_shipped_lists_are_those_of_the_figures_copy(copy_slices: tuple[dict, Callable]) -> None:
    index, _ = copy_slices
    assert {split: sorted({r["patient"] for r in index[split]}) for split in shipped()} == shipped()
    assert sum(len(index[split]) for split in shipped()) == 3 * 161 - 16  # as the script says


def test_the_views_of_the_figures_copy_cross_at_the_index_that_is_taken_here(
    copy_slices: tuple[dict, Callable],
) -> None:
    index, read = copy_slices
    by_patient: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for r in index["test"]:
        by_patient[r["patient"]][r["view"]] = read(r["ct"]) * (read(r["mask"]) > 0)
    whole = [views for views in by_patient.values() if len(views) == 3]
    assert len(whole) >= 14
    for views in whole:
        axial, coronal, sagittal = (views[v] for v in ("axial", "coronal", "sagittal"))
        middle = np.array([*axial.shape, coronal.shape[1]]) // 2

        def agreement(
            x: int, y: int, z: int, a: np.ndarray = axial, c: np.ndarray = coronal, s: np.ndarray = sagittal
        ) -> float:
            lines = [(a[:, y], c[:, z]), (a[x], s[:, z]), (c[x], s[y])]
            return float(np.mean([np.corrcoef(first, second)[0, 1] for first, second in lines]))

        around = {shift: agreement(*(middle + shift)) for shift in itertools.product((-1, 0, 1), repeat=3)}
        assert max(around, key=around.__getitem__) == (0, 0, 0)
        assert around[0, 0, 0] > 0.99


def test_the_face_has_low_y_in_the_figures_copy_though_its_affines_call_high_y_anterior(
    copy_slices: tuple[dict, Callable],
) -> None:
    index, read = copy_slices
    for r in (r for r in index["test"] if r["view"] == "sagittal"):
        inside = binary_erosion(read(r["mask"]) > 0, iterations=20)
        cavities = inside & (read(r["ct"]) < -300)  # nose, sinuses and throat
        assert np.argwhere(cavities)[:, 0].mean() < np.argwhere(inside)[:, 0].mean()
