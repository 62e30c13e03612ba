"""The whole script against a local server with an archive laid out like that of the source."""

import gzip
import hashlib
import io
import itertools
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import hippocampus
import nibabel as nib
import numpy as np
import pytest
from csmri_convert import content_digest
from download import ATTEMPTS
from hippocampus import TASK
from monai.apps import DecathlonDataset
from upstream import FileServer

from mdl_monai.errors import InputError
from mdl_monai.io.records import load_records
from mdl_monai.io.splits import train_val_records

NUMBERS = {"train": [1, 4], "test": [7], "held_out": [3, 12]}
Files = dict[str, bytes]  # contents of the archive, by name within the task's folder
Serve = Callable[[bytes], None]


def name_of(number: int) -> str:
    return f"hippocampus_{number:03d}.nii.gz"


def nifti(array: np.ndarray, spacing: float = 1.0) -> bytes:
    return gzip.compress(nib.Nifti1Image(array, np.diag([spacing, 1.0, 1.0, 1.0])).to_bytes(), mtime=0)


def arrays_of(number: int) -> list[np.ndarray]:
    """Image and label; odd and even sizes, and both types of image that the source has."""
    rng = np.random.default_rng(number)
    shape = (4 + number % 3, 5, 3)
    image = rng.random(shape) * 1e6 if number % 2 else rng.integers(0, 256, shape)
    return [image.astype(np.float32 if number % 2 else np.uint8), rng.integers(0, 3, shape).astype(np.uint8)]


@pytest.fixture
def files() -> Files:
    contents = {"dataset.json": b"{}", "._dataset.json": b"macOS", f"imagesTs/{name_of(2)}": b"unlabelled"}
    for number in (12, 1, 7, 3, 4):
        for folder, array in zip(("imagesTr", "labelsTr"), arrays_of(number), strict=True):
            contents[f"{folder}/{name_of(number)}"] = nifti(array)
            contents[f"{folder}/._{name_of(number)}"] = b"macOS"
    return contents


@pytest.fixture
def known() -> dict:
    def digest(split: str) -> str:
        return content_digest(a for n in NUMBERS[split] for array in arrays_of(n) for a in (array, np.eye(4)))

    splits = ("train", "test")
    return {s: NUMBERS[s] for s in splits} | {"content": {s: digest(s) for s in splits}}


def archive_of(files: Files, *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{TASK}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return buffer.getvalue()


@pytest.fixture
def serve(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Put an archive on the server, and its address and checksum into MONAI's tables."""

    def put(archive: bytes) -> None:
        (server.folder / f"{TASK}.tar").write_bytes(archive)
        monkeypatch.setitem(DecathlonDataset.resource, TASK, f"{server.url}/{TASK}.tar")
        monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(archive).hexdigest())

    return put


def written(root: Path) -> list[str]:
    """Everything in the output folder but the downloads."""
    paths = (p.relative_to(root).as_posix() for p in root.rglob("*"))
    return sorted(path for path in paths if path.split("/")[0] != "downloads")


def check_prepared(root: Path, files: Files) -> None:
    numbers = sorted(itertools.chain(*NUMBERS.values()))
    volumes = [f"{kind}/{name_of(n)}" for kind in ("images", "labels") for n in numbers]
    assert written(root) == sorted(["LICENSE.txt", "dataset.json", "images", "labels", *volumes])
    for path in volumes:
        assert (root / path).read_bytes() == files[path.replace("/", "Tr/")]
    index = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    parts = [index.pop(name) for name in ("fit", "val")]
    assert sorted(r["image"] for part in parts for r in part) == [r["image"] for r in index["train"]]
    assert not {r["patient"] for r in parts[0]} & {r["patient"] for r in parts[1]}
    assert {k: v for k, v in index.items() if k not in NUMBERS} == hippocampus.PROPERTIES
    for split, expected in NUMBERS.items():
        assert [(r["image"], r["label"]) for r in index[split]] == [
            (f"images/{name_of(n)}", f"labels/{name_of(n)}") for n in expected
        ]
    scans = {r["image"]: r["patient"] for split in NUMBERS for r in index[split]}
    sides = [scans[f"images/{name_of(n)}"] for n in (1, 3, 4, 7)]
    assert sides[1] == sides[2] and len(set(sides)) == 3


def test_the_archive_and_its_checksum_come_from_monais_tables() -> None:
    assert DecathlonDataset.resource[TASK].startswith("https://")
    assert DecathlonDataset.resource[TASK].endswith(f"/{TASK}.tar")
    assert len(DecathlonDataset.md5[TASK]) == 32


def test_volumes_are_byte_copies_and_those_outside_the_split_are_held_out(
    server: FileServer, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(archive_of(files))
    root = tmp_path / "hippocampus"
    hippocampus.prepare(root, known)
    check_prepared(root, files)
    licence = (root / "LICENSE.txt").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by-sa/4.0/" in licence and "Vanderbilt" in licence
    assert [r["case"] for r in load_records(root, "train", label_key="label")] == [
        "hippocampus_001",
        "hippocampus_004",
    ]

    (root / "labels" / name_of(7)).unlink()
    hippocampus.prepare(root, known)
    check_prepared(root, files)
    assert len(server.ranges) == 1  # the archive that is there serves the second run


def test_a_cut_download_resumes_in_this_run_or_the_next(
    server: FileServer, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(archive_of(files))
    root = tmp_path / "hippocampus"
    server.cuts = [1000] * (ATTEMPTS + 1)
    with pytest.raises(InputError, match=r"(?s)did not finish.*cut after 3000 bytes.*it resumes"):
        hippocampus.prepare(root, known)
    assert written(root) == []
    hippocampus.prepare(root, known)
    assert server.ranges[-2:] == ["bytes=3000-", "bytes=4000-"]
    check_prepared(root, files)


def test_an_archive_with_another_checksum_is_refused_and_goes(
    server: FileServer, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(archive_of(files))
    (server.folder / f"{TASK}.tar").write_bytes(archive_of(files | {"dataset.json": b"changed"}))
    root = tmp_path / "hippocampus"
    with pytest.raises(InputError, match=f"(?s)checksum of .*{TASK}.tar differs.*source has changed"):
        hippocampus.prepare(root, known)
    assert [p.name for p in root.rglob("*")] == ["downloads"]


def escaping(name: str, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
    return member


@pytest.mark.parametrize(
    "member",
    [
        escaping("../escaped.txt"),
        escaping(f"{TASK}/../../escaped.txt"),
        escaping(f"{TASK}/imagesTr/{name_of(20)}", link="../../../escaped.txt"),
        escaping(f"{TASK}/imagesTr/{name_of(20)}", link="/etc/hostname"),
    ],
)
def test_an_archive_that_reaches_outside_is_refused_and_nothing_is_written(
    member: tarfile.TarInfo, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(archive_of(files, member))
    root = tmp_path / "hippocampus"
    with pytest.raises(InputError, match=r"(?s)cannot be unpacked safely.*nothing was written"):
        hippocampus.prepare(root, known)
    assert written(root) == []
    assert not list(tmp_path.rglob("escaped.txt"))


def test_what_is_no_archive_is_one_clear_error(serve: Serve, known: dict, tmp_path: Path) -> None:
    serve(b"<html>moved</html>" * 100)
    with pytest.raises(InputError, match=rf"(?s)cannot be unpacked.*{TASK}.tar.*delete it"):
        hippocampus.prepare(tmp_path / "hippocampus", known)
    assert written(tmp_path / "hippocampus") == []


@pytest.mark.parametrize(
    ("number", "gone"),
    [
        (7, ["imagesTr", "labelsTr"]),
        (7, ["imagesTr"]),
        (7, ["labelsTr"]),
        (12, ["imagesTr"]),
        (12, ["labelsTr"]),
    ],
)
def test_a_missing_volume_or_label_is_named_and_nothing_is_written(
    number: int, gone: list[str], serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    for folder in gone:
        del files[f"{folder}/{name_of(number)}"]
    serve(archive_of(files))
    with pytest.raises(InputError, match=f"(?s)lacks the image or the label.*1 without.*{name_of(number)}"):
        hippocampus.prepare(tmp_path / "hippocampus", known)
    assert written(tmp_path / "hippocampus") == []


@pytest.mark.parametrize("changed", ["voxel", "type", "spacing", "label"])
def test_other_content_of_a_known_volume_is_refused_and_nothing_is_written(
    changed: str, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    image, label = arrays_of(7)
    if changed == "voxel":
        image[2, 3, 1] += 1
    if changed == "label":
        label[0, 0, 2] = 3
    image = image.astype(np.float64) if changed == "type" else image
    files[f"imagesTr/{name_of(7)}"] = nifti(image, spacing=1.5 if changed == "spacing" else 1.0)
    files[f"labelsTr/{name_of(7)}"] = nifti(label)
    serve(archive_of(files))
    with pytest.raises(InputError, match=r"(?s)hippocampus test has not the content.*nothing was written"):
        hippocampus.prepare(tmp_path / "hippocampus", known)
    assert written(tmp_path / "hippocampus") == []


def test_an_interrupted_run_does_not_look_complete_and_the_next_one_completes_it(
    serve: Serve, files: Files, known: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(archive_of(files))
    root = tmp_path / "hippocampus"
    copies = []
    copyfile = shutil.copyfile

    def copy_seven(source: Path, target: Path) -> None:
        if len(copies) == 7:
            target.write_bytes(b"half a fi")
            raise KeyboardInterrupt
        copies.append(copyfile(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(hippocampus.shutil, "copyfile", copy_seven)
        with pytest.raises(KeyboardInterrupt):
            hippocampus.prepare(root, known)
    left = written(root)
    assert len(left) == 2 + 7 and "dataset.json" not in left and "LICENSE.txt" not in left
    assert all(Path(path).name.startswith("hippocampus_") for path in left if "/" in path)
    hippocampus.prepare(root, known)
    check_prepared(root, files)


def test_a_folder_with_another_data_set_is_left_alone(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(archive_of(files))
    root = tmp_path / "other"
    root.mkdir()
    (root / "dataset.json").write_text('{"train": []}')
    with pytest.raises(InputError, match=r"(?s)holds another data set.*dataset.json.*--output_dir"):
        hippocampus.prepare(root, known)
    assert written(root) == ["dataset.json"]
    assert (root / "dataset.json").read_text(encoding="utf-8") == '{"train": []}'


def test_the_shipped_lists_are_disjoint_and_of_the_stated_sizes() -> None:
    shipped = json.loads(
        Path(hippocampus.__file__).with_name("hippocampus_split.json").read_text(encoding="utf-8")
    )
    assert len(set(shipped["train"])) == 175 and len(set(shipped["test"])) == 43
    assert not set(shipped["train"]) & set(shipped["test"])
    sides = {n + 1 if n % 2 else n - 1 for n in shipped["train"]}
    assert len(sides & set(shipped["test"])) == 12  # as the script says


def test_the_command_reproduces_the_set_that_the_projects_figures_come_from(
    serve: Serve, tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = data_root / "hippocampus"
    if not (real / "dataset.json").is_file():
        pytest.skip(f"the hippocampus set is not in {real}")
    expected = json.loads((real / "dataset.json").read_text(encoding="utf-8"))
    records = [*expected["train"], *expected["test"]]
    files = {
        r[k].replace("/", "Tr/"): (real / r[k]).read_bytes() for r in records for k in ("image", "label")
    }
    other = {f"{folder}/{name_of(999)}": nifti(np.ones((2, 3, 4))) for folder in ("imagesTr", "labelsTr")}
    serve(archive_of(files | other))

    hippocampus.main(["--output_dir", str(tmp_path / "set")])  # checks the shipped digests
    assert "train 175, test 43, held_out 1 volumes" in capsys.readouterr().out
    for name, content in (files | other).items():
        assert (tmp_path / "set" / name.replace("Tr/", "/")).read_bytes() == content
    index = json.loads((tmp_path / "set" / "dataset.json").read_text(encoding="utf-8"))
    assert [r["image"] for r in index.pop("held_out")] == [f"images/{name_of(999)}"]
    default = train_val_records(tmp_path / "set", "train", None, 0.15, 0)
    for name, part in (("fit", "train"), ("val", "val")):
        records = load_records(tmp_path / "set", name)
        assert [r["case"] for r in records] == [r["case"] for r in default[part]] and index.pop(name)
    for split in ("train", "test"):
        assert all(r.pop("patient").startswith("scan_") for r in index[split])
    assert index == expected
