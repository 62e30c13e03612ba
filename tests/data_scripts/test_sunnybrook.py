"""The whole script against a local server with archives laid out like those of the source."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import contourpy
import nibabel as nib
import numpy as np
import pytest
import sunnybrook
from download import ATTEMPTS
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from sunnybrook_convert import coarse_picture, rasterised, size_and_place
from upstream import FileServer

from mdl_monai.errors import InputError
from mdl_monai.io.records import load_records
from mdl_monai.io.splits import train_val_records

SHAPE = (36, 27)  # columns, rows: x, y
SLICES = {
    "SC-HF-I-01": ["0009", "0048"],
    "SC-HF-NI-34": ["0007"],
    "SC-N-02": ["0010", "0101"],
    "SC-HYP-12": ["0003", "0020"],
    "SC-N-11": ["0004"],
}
SPLIT = {"train": ["SC-HF-I-01", "SC-HF-NI-34"], "test": ["SC-N-02"], "held_out": ["SC-HYP-12", "SC-N-11"]}
IN_IMAGES = {patient: f"SCD00{k:02d}01" for k, patient in enumerate(SLICES, 1)}
SPACING = (1.25, 1.40625)  # of x, of y
Files = dict[str, dict[str, bytes]]  # contents of the archives, by name of the archive and in it


def random_of(patient: str, number: str) -> np.random.Generator:
    return np.random.default_rng([*f"{patient}{number}".encode()])


def image_of(patient: str, number: str) -> np.ndarray:
    """Grey values [X, Y]: a pattern of the patient and some noise of the slice."""
    rough = random_of(patient, "").integers(0, 900, (9, 9))
    pattern = np.kron(rough, np.ones((4, 3), int))
    return (pattern + random_of(patient, number).integers(0, 90, SHAPE)).astype(np.int16)


def corners_of(patient: str, number: str) -> tuple[int, int, int, int]:
    """A rectangle's first and last column and row."""
    x, y = random_of(patient, number).integers(3, 12, 2)
    return x, x + 14, y, y + 9


def label_of(patient: str, number: str) -> np.ndarray:
    x0, x1, y0, y1 = corners_of(patient, number)
    label = np.zeros(SHAPE, np.uint8)
    label[x0 : x1 + 1, y0 : y1 + 1] = 1
    return label


def contour_text(points: np.ndarray) -> bytes:
    return "".join(f"{x:.2f} {y:.2f} \r\n" for x, y in points).encode()


def contour_of(patient: str, number: str) -> bytes:
    """Around the rectangle's pixels, half a pixel from their centres."""
    x0, x1, y0, y1 = corners_of(patient, number) + np.array([-0.5, 0.5, -0.5, 0.5])
    return contour_text(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))


def dicom(image: np.ndarray, spacing: tuple[float, float] = SPACING) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    data.Columns, data.Rows = image.shape
    data.PixelSpacing = [spacing[1], spacing[0]]  # DICOM: between rows, then between columns
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelData = image.T.astype("<i2").tobytes()
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def contour_name(patient: str, number: str, kind: str = "icontour") -> str:
    return f"SCD_ManualContours/{patient}/contours-manual/IRCCI-expert/IM-0001-{number}-{kind}-manual.txt"


def image_name(patient: str, number: str, series: str = "CINESAX_300") -> str:
    return f"{IN_IMAGES[patient]}/{series}/IM-0003-{number}.dcm"


def archive_of(patient: str) -> str:
    return f"SCD_IMAGES_{list(SLICES).index(patient) + 1:02d}.zip"


@pytest.fixture
def files() -> Files:
    contents: Files = {name: {} for name in sunnybrook.SOURCES if name.endswith(".zip")}
    contours = contents[sunnybrook.CONTOURS]
    contours["SCD_ManualContours/README.txt"] = b"about"
    for patient, numbers in SLICES.items():
        images = contents[archive_of(patient)]
        for number in numbers:
            contours[contour_name(patient, number)] = contour_of(patient, number)
            contours[contour_name(patient, number, "ocontour")] = b"1 1\n9 1\n9 9\n"
            folder, name = contour_name(patient, number).rsplit("/", 1)
            contours[f"__MACOSX/{folder}/._{name}"] = b"macOS"
            images[image_name(patient, number)] = dicom(image_of(patient, number))
        images[image_name(patient, "0002")] = dicom(image_of(patient, "0002"))  # a phase without contour
        images[image_name(patient, numbers[0], "CINELAX_301")] = b"another series"
    return contents


@pytest.fixture
def known() -> dict:
    def entry(patient: str) -> dict:
        numbers = SLICES[patient]
        picture = coarse_picture([image_of(patient, n) for n in numbers])
        return {
            "picture": np.rint(picture / picture.max() * 255).astype(np.uint8).tobytes().hex(),
            "slices": {n: size_and_place(label_of(patient, n)).tolist() for n in numbers},
        }

    return {split: {patient: entry(patient) for patient in SPLIT[split]} for split in ("train", "test")}


def table_of(patients: list[str]) -> bytes:
    """With the byte-order mark and the short numbers of the source."""
    rows = [f"{IN_IMAGES[p]},{p.replace('-0', '-')},Female,61,Healthy" for p in patients]
    return "\r\n".join(["\ufeffPatientID,OriginalID,Gender,Age,Pathology", *rows, ""]).encode()


Serve = Callable[..., None]


@pytest.fixture
def serve(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Put the archives and the table on the server, and their addresses and checksums into the script."""

    def put(files: Files, **raw: bytes) -> None:
        contents = {sunnybrook.PATIENTS: table_of(list(SLICES))}
        for name, members in files.items():
            buffer = io.BytesIO()
            with ZipFile(buffer, "w") as archive:
                for member, content in members.items():
                    archive.writestr(member, content)
            contents[name] = buffer.getvalue()
        for name, content in (contents | raw).items():
            (server.folder / name).write_bytes(content)
            source = (f"{server.url}/{name}", hashlib.sha256(content).hexdigest())
            monkeypatch.setitem(sunnybrook.SOURCES, name, source)

    return put


def written(root: Path) -> list[str]:
    """Everything in the output folder but the downloads."""
    paths = (p.relative_to(root).as_posix() for p in root.rglob("*"))
    return sorted(path for path in paths if path.split("/")[0] != "downloads")


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.Nifti1Image.from_filename(path)
    return np.asanyarray(image.dataobj), np.asarray(image.affine)


def check_prepared(root: Path) -> None:
    names = sorted(f"{patient}_{n}.nii.gz" for patient, numbers in SLICES.items() for n in numbers)
    pairs = [f"{folder}/{name}" for folder in ("images", "labels") for name in names]
    assert written(root) == sorted(["dataset.json", "images", "labels", *pairs])
    index = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    for split, patients in SPLIT.items():
        assert index[split] == [
            {"patient": p, "image": f"images/{p}_{n}.nii.gz", "label": f"labels/{p}_{n}.nii.gz"}
            for p in patients
            for n in SLICES[p]
        ]
    for patient, numbers in SLICES.items():
        for n in numbers:
            for folder, expected in (("images", image_of(patient, n)), ("labels", label_of(patient, n))):
                array, affine = decoded(root / folder / f"{patient}_{n}.nii.gz")
                assert array.dtype == expected.dtype and np.array_equal(array, expected)
                np.testing.assert_allclose(affine, np.diag([*SPACING, 8, 1]))


def refuse(root: Path, known: dict, match: str) -> None:
    with pytest.raises(InputError, match=f"(?s){match}.*nothing was written"):
        sunnybrook.prepare(root, known)
    assert written(root) == []


def star(corners: int, inner: float, outer: float, centre: tuple[float, float]) -> np.ndarray:
    angles = np.arange(2 * corners) * np.pi / corners
    radii = np.where(np.arange(2 * corners) % 2, inner, outer)
    return np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], -1)


def test_a_label_has_the_area_and_the_centre_of_its_contour() -> None:
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ellipse = np.stack([70.3 + 41 * np.cos(angles), 40.6 + 23 * np.sin(angles)], -1)
    label = rasterised(ellipse, (131, 84))
    assert label.dtype == np.uint8 and set(np.unique(label)) == {0, 1}
    assert label.sum() == pytest.approx(np.pi * 41 * 23, rel=2e-3)
    np.testing.assert_allclose(size_and_place(label)[1:], (70.3, 40.6), atol=0.03)

    corners, inner, outer = 7, 21.0, 38.5  # not convex
    area = corners * inner * outer * np.sin(np.pi / corners)
    label = rasterised(star(corners, inner, outer, (45.2, 41.7)), (92, 85))
    assert label.sum() == pytest.approx(area, rel=4e-3)
    np.testing.assert_allclose(size_and_place(label)[1:], (45.2, 41.7), atol=0.15)


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("start", [0, 2])
def test_edges_through_pixel_centres_count_once_and_areas_stay_exact(turn: int, start: int) -> None:
    rectangle = np.roll(np.array([(2, 3), (7, 3), (7, 5), (2, 5)]), start, 0)[::turn]
    expected = np.zeros((11, 9), np.uint8)
    expected[2:7, 3:5] = 1
    assert np.array_equal(rasterised(rectangle, (11, 9)), expected)

    cut = [(5, 0), (5, 4), (2, 7)]  # splits the grid's square in two polygons that share these edges
    left, right = [*cut, (2, 8), (0, 8), (0, 0)], [*cut, (2, 8), (10, 8), (10, 0)]
    halves = [rasterised(np.roll(np.array(part), start, 0)[::turn], (11, 9)) for part in (left, right)]
    whole = np.zeros((11, 9), np.uint8)
    whole[:10, :8] = 1
    assert np.array_equal(halves[0] + halves[1], whole)
    assert halves[0].any() and halves[1].any()


def test_vertices_on_half_pixels_enclose_the_pixels_between_them() -> None:
    label = rasterised(np.array([(1.5, 2.5), (6.5, 2.5), (6.5, 4.5), (1.5, 4.5)]), (9, 7))
    assert np.argwhere(label).min(0).tolist() == [2, 3] and np.argwhere(label).max(0).tolist() == [6, 4]
    assert label.sum() == 10


def test_the_coarse_picture_does_not_change_with_the_scale_of_any_slice() -> None:
    first, second = image_of("SC-N-02", "0010"), image_of("SC-N-11", "0004")
    expected = coarse_picture([first, second])
    assert expected.shape == (8, 8)
    np.testing.assert_allclose(coarse_picture([first, 9 * second]), expected)


def test_slices_become_pairs_in_the_lists_of_their_patients(
    server: FileServer, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(files)
    root = tmp_path / "sunnybrook"
    sunnybrook.prepare(root, known)
    check_prepared(root)
    default = train_val_records(root, "train", None, 0.15, 0, label_key="label")
    for name, part in (("fit", "train"), ("val", "val")):
        assert load_records(root, name, label_key="label") == default[part] != []

    (root / "labels" / "SC-N-02_0101.nii.gz").unlink()
    sunnybrook.prepare(root, known)
    check_prepared(root)
    assert len(server.ranges) == len(sunnybrook.SOURCES)  # the files that are there serve the second run


def test_archives_within_a_folder_of_their_name_are_read_alike(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve({a: {f"{a.removesuffix('.zip')}/{name}": c for name, c in files[a].items()} for a in files})
    sunnybrook.prepare(tmp_path / "sunnybrook", known)
    check_prepared(tmp_path / "sunnybrook")


def test_a_cut_download_of_a_later_archive_resumes_in_the_next_run(
    server: FileServer, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(files)
    root = tmp_path / "sunnybrook"
    server.cuts = [10**9] + [1000] * ATTEMPTS
    with pytest.raises(InputError, match=r"(?s)did not finish.*SCD_IMAGES_02.*it resumes"):
        sunnybrook.prepare(root, known)
    assert written(root) == []
    sunnybrook.prepare(root, known)
    assert server.ranges[1 + ATTEMPTS] == "bytes=3000-"
    check_prepared(root)


@pytest.mark.parametrize("name", ["SCD_IMAGES_03.zip", sunnybrook.CONTOURS, sunnybrook.PATIENTS])
def test_a_file_with_another_checksum_is_refused_and_goes(
    name: str, server: FileServer, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(files)
    (server.folder / name).write_bytes(b"changed")
    root = tmp_path / "sunnybrook"
    with pytest.raises(InputError, match=f"(?s)checksum of .*{name} differs.*source has changed"):
        sunnybrook.prepare(root, known)
    assert written(root) == [] and not list(root.rglob(f"{name}*"))


@pytest.mark.parametrize(("patient", "number"), [("SC-HF-I-01", "0048"), ("SC-HF-NI-34", "0007")])
def test_a_known_slice_without_contour_is_named(
    patient: str, number: str, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    del files[sunnybrook.CONTOURS][contour_name(patient, number)]
    serve(files)
    refuse(
        tmp_path / "set", known, f"known slice has no contour.*5 slices of 3 .*found: 1, .*{patient}_{number}"
    )


def test_a_contour_of_an_unknown_slice_of_a_known_patient_is_refused(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    files[sunnybrook.CONTOURS][contour_name("SC-N-02", "0002")] = contour_of("SC-N-02", "0010")
    serve(files)
    refuse(tmp_path / "set", known, r"contour of an unknown slice.*found: 1, among them SC-N-02_0002")


def test_a_known_contour_without_image_is_named(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    del files[archive_of("SC-HF-I-01")][image_name("SC-HF-I-01", "0048")]
    serve(files)
    refuse(tmp_path / "set", known, "contour has no image.*found: 1, among them SC-HF-I-01_0048")


def test_a_patient_beside_the_lists_keeps_the_slices_that_are_whole(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    del files[archive_of("SC-HYP-12")][image_name("SC-HYP-12", "0003")]
    serve(files)
    lists = sunnybrook.prepare(tmp_path / "set", known)
    assert [r["image"] for r in lists["held_out"] if r["patient"] == "SC-HYP-12"] == [
        "images/SC-HYP-12_0020.nii.gz"
    ]


def test_a_patient_who_is_not_in_the_table_has_no_images(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(files, **{sunnybrook.PATIENTS: table_of([p for p in SLICES if p != "SC-HYP-12"])})
    assert {r["patient"] for r in sunnybrook.prepare(tmp_path / "one", known)["held_out"]} == {"SC-N-11"}
    serve(files, **{sunnybrook.PATIENTS: table_of([p for p in SLICES if p != "SC-HF-I-01"])})
    refuse(tmp_path / "two", known, r"contour has no image.*among them SC-HF-I-01_")


def test_a_table_without_the_names_is_refused(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(files, **{sunnybrook.PATIENTS: b"PatientID,Gender\r\nSCD0000101,Male\r\n"})
    refuse(
        tmp_path / "set", known, r"lacks a column.*scd_patientdata.csv.*OriginalID.*found: PatientID, Gender"
    )


def test_of_several_series_that_is_taken_which_looks_like_the_known_one(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    for number in [*SLICES["SC-HF-I-01"], "0002", "0003", "0004"]:  # more images than the right series
        images = files[archive_of("SC-HF-I-01")]
        images[image_name("SC-HF-I-01", number, "CINESAX_900")] = dicom(image_of("SC-N-11", number))
    serve(files)
    sunnybrook.prepare(tmp_path / "set", known)
    check_prepared(tmp_path / "set")


def test_of_a_patient_outside_the_lists_the_series_with_the_most_images_is_taken(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    images = files[archive_of("SC-N-11")]
    images[image_name("SC-N-11", "0004", "CINESAX_900")] = dicom(image_of("SC-N-02", "0010"))
    for number in ("0004", "0005", "0006"):  # the most, but no short-axis series
        images[image_name("SC-N-11", number, "PERF_303")] = dicom(image_of("SC-N-02", "0010"))
    for number in ("0003", "0004", "0005", "0006"):  # the most, but not all slices with a contour
        image = dicom(image_of("SC-N-02", "0010"))
        files[archive_of("SC-HYP-12")][image_name("SC-HYP-12", number, "CINESAX_900")] = image
    serve(files)
    sunnybrook.prepare(tmp_path / "set", known)
    check_prepared(tmp_path / "set")


@pytest.mark.parametrize("change", ["another patient", "mirrored", "turned"])
def test_images_that_do_not_look_like_the_known_ones_are_refused(
    change: str, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    for number in SLICES["SC-N-02"]:
        image = image_of("SC-N-11" if change == "another patient" else "SC-N-02", number)
        image = {"mirrored": image[::-1], "turned": image[::-1, ::-1]}.get(change, image)
        files[archive_of("SC-N-02")][image_name("SC-N-02", number)] = dicom(image)
    serve(files)
    refuse(tmp_path / "set", known, r"images of SC-N-02 are not those.*at least 0.97.*1 series compared")


@pytest.mark.parametrize("scale", [lambda g: g * 2, lambda g: (g * 255.0 / g.max()).astype(np.int16)])
def test_scaled_grey_values_still_look_alike(
    scale: Callable, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    for number in SLICES["SC-N-02"]:
        image = scale(image_of("SC-N-02", number))
        files[archive_of("SC-N-02")][image_name("SC-N-02", number)] = dicom(image)
    serve(files)
    lists = sunnybrook.prepare(tmp_path / "set", known)
    array, _ = decoded(tmp_path / "set" / lists["test"][1]["image"])
    assert np.array_equal(array, scale(image_of("SC-N-02", "0101")))


@pytest.mark.parametrize("change", ["shifted", "larger", "transposed"])
def test_a_known_label_of_another_size_or_place_is_refused(
    change: str, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    x0, x1, y0, y1 = corners_of("SC-N-02", "0101") + np.array([-0.5, 0.5, -0.5, 0.5])
    x0, x1 = {"shifted": (x0 + 2, x1 + 2), "larger": (x0 - 4, x1 + 4)}.get(change, (x0, x1))
    points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    points = points[:, ::-1] if change == "transposed" else points
    files[sunnybrook.CONTOURS][contour_name("SC-N-02", "0101")] = contour_text(points)
    serve(files)
    refuse(tmp_path / "set", known, r"contour of SC-N-02_0101 is not the one.*within 1.5 pixels of")


@pytest.mark.parametrize(
    "text", [b"", b"1 1\n5 5\n", b"1 1 1\n5 1 1\n5 5 1\n", b"1 1\n5 nan\n5 5\n", b"x y\n"]
)
def test_what_is_no_contour_is_named(
    text: bytes, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    files[sunnybrook.CONTOURS][contour_name("SC-N-11", "0004")] = text
    serve(files)
    refuse(tmp_path / "set", known, r"not a contour.*ManualContours.zip.*SC-N-11.*IM-0001-0004-icontour")


@pytest.mark.parametrize("points", [[(4.1, 4.1), (4.9, 4.1), (4.5, 4.9)], [(90, 90), (99, 90), (99, 99)]])
def test_a_contour_around_no_pixel_is_named(
    points: list, serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    files[sunnybrook.CONTOURS][contour_name("SC-N-11", "0004")] = contour_text(np.array(points))
    serve(files)
    refuse(tmp_path / "set", known, r"encloses no pixel.*SC-N-11.*IM-0001-0004-icontour")


def test_what_is_no_image_is_named(serve: Serve, files: Files, known: dict, tmp_path: Path) -> None:
    files[archive_of("SC-N-11")][image_name("SC-N-11", "0004")] = b"no DICOM"
    serve(files)
    refuse(
        tmp_path / "set", known, r"not a DICOM image.*SCD_IMAGES_05.zip, SCD000501/CINESAX_300/IM-0003-0004"
    )


def test_what_is_no_archive_is_one_clear_error(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(files, **{"SCD_IMAGES_04.zip": b"<html>moved</html>" * 100})
    refuse(tmp_path / "set", known, r"archive cannot be read.*SCD_IMAGES_04.zip.*delete it")


def test_an_archive_that_reaches_outside_writes_nothing_there(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    patient, number = "SC-HYP-12", "0003"
    image, contour = image_name(patient, number), contour_name(patient, number)
    files[archive_of(patient)] |= {"../../escaped.dcm": b"", f"{tmp_path}/escaped.txt": b""}
    files[sunnybrook.CONTOURS][f"../../{contour}"] = files[sunnybrook.CONTOURS].pop(contour)
    files[archive_of(patient)][f"/{image}"] = files[archive_of(patient)].pop(image)
    serve(files)
    before = sorted(tmp_path.rglob("*"))
    root = tmp_path / "a" / "set"
    sunnybrook.prepare(root, known)
    check_prepared(root)
    assert sorted(p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "a")) == before

    climbing = "SC-../../../escaped-01"  # a patient's name that is a path
    files[sunnybrook.CONTOURS][contour_name(climbing, number)] = contour_of(patient, number)
    serve(files)
    sunnybrook.prepare(tmp_path / "a" / "second", known)
    check_prepared(tmp_path / "a" / "second")
    assert not list(tmp_path.rglob("escaped*"))


def test_an_interrupted_run_does_not_look_complete_and_the_next_one_completes_it(
    serve: Serve, files: Files, known: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(files)
    root = tmp_path / "sunnybrook"
    saved: list[Path] = []
    save = nib.save

    def save_five(image: nib.Nifti1Image, path: Path) -> None:
        if len(saved) == 5:
            path.write_bytes(b"half a fi")
            raise KeyboardInterrupt
        saved.append(path)
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(sunnybrook.nib, "save", save_five)
        with pytest.raises(KeyboardInterrupt):
            sunnybrook.prepare(root, known)
    left = written(root)
    assert len(left) == 2 + 5 and "dataset.json" not in left
    assert all(Path(path).name.startswith("SC-") for path in left if "/" in path)
    sunnybrook.prepare(root, known)
    check_prepared(root)


def test_a_folder_with_another_data_set_is_left_alone(
    serve: Serve, files: Files, known: dict, tmp_path: Path
) -> None:
    serve(files)
    root = tmp_path / "other"
    root.mkdir()
    (root / "dataset.json").write_text('{"train": []}')
    with pytest.raises(InputError, match=r"(?s)holds another data set.*dataset.json.*--output_dir"):
        sunnybrook.prepare(root, known)
    assert written(root) == ["dataset.json"]
    assert (root / "dataset.json").read_text(encoding="utf-8") == '{"train": []}'


def test_the_sources_are_those_of_the_cardiac_atlas_project() -> None:
    assert [name for name in sunnybrook.SOURCES if "IMAGES" in name] == [
        f"SCD_IMAGES_{n:02d}.zip" for n in range(1, 6)
    ]
    addresses = {url for url, _ in sunnybrook.SOURCES.values()}
    assert len(addresses) == 7
    assert all(url.startswith("https://www.cardiacatlas.org/share/download.php?id=") for url in addresses)
    assert all(len(bytes.fromhex(sha256)) == 32 for _, sha256 in sunnybrook.SOURCES.values())


def test_the_command_reproduces_the_lists_that_the_projects_figures_come_from(
    serve: Serve,
    tmp_path: Path,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = data_root / "cardiac_sunnybrook"
    if not (real / "dataset.json").is_file():
        pytest.skip(f"the Sunnybrook set is not in {real}")
    expected = json.loads((real / "dataset.json").read_text(encoding="utf-8"))
    records = [*expected["train"], *expected["test"]]
    patients = list(dict.fromkeys(r["patient"] for r in records))
    files: Files = {name: {} for name in sunnybrook.SOURCES if name.endswith(".zip")}
    for record in records:
        image, label = (decoded(real / record[key])[0] for key in ("image", "label"))
        number = record["image"].removesuffix(".nii.gz")[-4:]
        (outline,) = contourpy.contour_generator(z=label.T).lines(0.5)  # half way between the pixels
        files[sunnybrook.CONTOURS][contour_name(record["patient"], number)] = contour_text(outline)
        name = f"SCD{patients.index(record['patient']):07d}/CINESAX_4/IM-0004-{number}.dcm"
        files["SCD_IMAGES_01.zip"][name] = dicom(image.astype(np.int16) * 3)
    table = "".join(f"SCD{k:07d},{patient}\n" for k, patient in enumerate(patients))
    serve(files, **{sunnybrook.PATIENTS: f"PatientID,OriginalID\n{table}".encode()})

    monkeypatch.setattr(
        "os.fsync", lambda _: None
    )  # a thousand files; whether they outlive a crash matters not
    root = tmp_path / "set"
    sunnybrook.main(["--output_dir", str(root)])  # checks against the shipped sizes, places and pictures
    assert "train 260, test 266, held_out 0 slices" in capsys.readouterr().out
    index = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    assert {s: index[s] for s in ("train", "test")} == {s: expected[s] for s in ("train", "test")}
    assert (len(index["fit"]), len(index["val"])) == (
        len(index["train"]) - len(index["val"]),
        len(index["val"]),
    )
    assert len({r["patient"] for r in index["val"]}) == 2 and index["held_out"] == []
    for record in records:
        assert np.array_equal(decoded(root / record["label"])[0], decoded(real / record["label"])[0])
        found, stored = decoded(root / record["image"])[0], decoded(real / record["image"])[0]
        assert np.array_equal(found, stored.astype(np.int16) * 3)
