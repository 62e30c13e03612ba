"""The whole script against a local server whose files are laid out like those upstream."""

import json
from pathlib import Path

import csmri
import csmri_sources
import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io
from csmri_convert import centred_kspace, content_digest, network_digest, peak_one, peak_uint16, signature
from PIL import Image
from upstream import FileServer, cell_of

from mdl_monai.errors import InputError

SHAPE = (8, 8)


def scans() -> list[str]:
    return [scan for group in csmri_sources.OPEN_MS_SPLIT.values() for scan in group]


def kept_slices(scan: str) -> list[int]:
    return [z for z in range(csmri_sources.OPEN_MS_SLICES) if (scan, z) not in csmri_sources.OPEN_MS_LEFT_OUT]


def small_sets() -> dict:
    """What is to be prepared, at 8 x 8 pixels."""
    rng = np.random.default_rng(0)
    images = {
        "brain50": rng.integers(0, 256, (50, *SHAPE)).astype(np.uint8),
        "chest_train": np.stack([peak_one(rng.random(SHAPE)) for _ in range(100)]).astype(np.float32),
        "chest_test": np.stack([peak_one(rng.random(SHAPE)) for _ in range(50)]).astype(np.float32),
    }
    images |= {
        scan: np.stack([peak_uint16(rng.integers(0, 999, SHAPE)) for _ in kept_slices(scan)])
        for scan in scans()
    }
    complex_images = [peak_one(rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)) for _ in range(21)]
    types = np.array(["X_org", "Convo", "loss"])
    networks = {
        name: {
            "types": types,
            "000_X_org_0": rng.random((8, 2), np.float32),
            "001_Convo_0": rng.random((8, 2)),
        }
        for name in csmri_sources.WEIGHTS
    }
    return {
        "images": images,
        "siat": np.stack([centred_kspace(image) for image in complex_images])[:, None],
        "eight_coil": (rng.normal(size=(1, 3, 9, 7)) + 0j).astype(np.complex64),
        "masks": {name: rng.random(SHAPE) > 0.5 for name in csmri_sources.MASKS},
        "weights": {
            name: {k: v.astype(np.float32) if k != "types" else v for k, v in net.items()}
            for name, net in networks.items()
        },
    }


def real_sets(root: Path) -> dict:
    """The prepared sets of the data folder."""
    lists = json.loads((root / "dataset.json").read_text(encoding="utf-8"))

    def load(name: str) -> np.ndarray:
        return np.asanyarray(nib.load(root / name).dataobj)

    groups = {"brain50": "brain50_test", "chest_train": "chest_train", "chest_test": "chest_test"}
    images = {name: np.stack([load(r["image"]) for r in lists[split]]) for name, split in groups.items()}
    for scan in scans():
        images[scan] = np.stack([load(f"open_ms/{scan}_T1W_z{z}.nii.gz") for z in kept_slices(scan)])
    with (
        h5py.File(root / "siat/siat_visible.h5") as siat,
        h5py.File(root / "siat/eight_coil_undersampled.h5") as coils,
    ):
        return {
            "images": images,
            "siat": siat["kspace"][:],
            "eight_coil": coils["kspace"][:],
            "masks": dict(np.load(root / "masks.npz")),
            "weights": {n: dict(np.load(root / f"published_weights/{n}.npz")) for n in csmri_sources.WEIGHTS},
        }


def image_of(kspace: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace.astype(np.complex128)), norm="ortho"))


def content_of(sets: dict) -> dict:
    images = sets["images"]
    return {
        **{name: content_digest(images[name]) for name in ("brain50", "chest_train", "chest_test")},
        "open_ms": {scan: content_digest([images[scan]]) for scan in scans()},
        "siat": [signature(peak_one(image_of(k[0]))).tolist() for k in sets["siat"]],
        "eight_coil": content_digest([sets["eight_coil"]]),
        "masks": {name: content_digest([mask]) for name, mask in sets["masks"].items()},
        "weights": {name: network_digest(net) for name, net in sets["weights"].items()},
    }


def write_upstream(folder: Path, sets: dict) -> None:
    """Lay the sets out as their authors do: PNG, MATLAB, NIfTI volumes on their side, and more slices."""

    def place(path: str) -> Path:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        return folder / path

    images = sets["images"]
    for n, image in enumerate(images["brain50"], start=1):
        Image.fromarray(image).save(
            place(f"{csmri_sources.ISTA}/data/BrainImages_test/brain_test_{n:02d}.png")
        )
    for name, pattern in (
        ("chest_train", f"{csmri_sources.ADMM_TRAIN}/data/ChestTrain/im-{{:02d}}.mat"),
        ("chest_test", f"{csmri_sources.ADMM_TEST}/data/Chest_data/chest_data{{:02d}}.mat"),
    ):
        for n, image in enumerate(images[name], start=1):
            scipy.io.savemat(place(pattern.format(n)), {"im_ori": image.astype(np.float64)})
    for scan in scans():
        volume = np.ones((*images[scan].shape[1:], csmri_sources.OPEN_MS_SLICES), dtype=np.uint16)
        volume[..., kept_slices(scan)] = np.moveaxis(np.rot90(images[scan], 1, axes=(1, 2)), 0, -1)
        path = f"{csmri_sources.OPEN_MS}/longitudinal/raw/patient{scan[1:3]}/study{scan[-1]}_T1W.nii.gz"
        nib.save(nib.Nifti1Image(volume, np.eye(4)), place(path))
    shape = sets["siat"].shape[-2:]
    complex_images = [3.7 * image_of(k[0]) for k in sets["siat"]]
    complex_images[4:4] = [np.eye(*shape) * (n + 1j) + n for n in range(10)]
    for n, image in enumerate(complex_images, start=1):
        scipy.io.savemat(place(f"{csmri_sources.SIAT}/test_data_31/test_data_{n:02d}.mat"), {"Img": image})
    np.save(place(f"{csmri_sources.SIGPY}/data/cartesian_ksp.npy"), sets["eight_coil"][0])
    for name, path in csmri_sources.MASKS.items():
        scipy.io.savemat(place(path), {"mask": sets["masks"][name].astype(np.float64)})
    for name, path in csmri_sources.WEIGHTS.items():
        layers = np.empty((1, len(sets["weights"][name]["types"])), dtype=object)
        for n, kind in enumerate(sets["weights"][name]["types"]):
            arrays = [v for k, v in sets["weights"][name].items() if k.startswith(f"{n:03d}_")]
            layers[0, n] = {"type": str(kind), "weights": cell_of(*arrays)} if arrays else {"type": str(kind)}
        scipy.io.savemat(place(path), {"net": {"layers": layers}})


def check_prepared(root: Path, sets: dict) -> None:
    """Every file holds what it has to."""

    def load(name: str) -> np.ndarray:
        return np.asanyarray(nib.load(root / name).dataobj)

    names = {
        "brain50": [f"brain50/{n:02d}" for n in range(50)],
        "chest_train": [f"chest/train_{n:03d}" for n in range(100)],
        "chest_test": [f"chest/test_{n:02d}" for n in range(50)],
        **{scan: [f"open_ms/{scan}_T1W_z{z}" for z in kept_slices(scan)] for scan in scans()},
    }
    for group, files in names.items():
        got = np.stack([load(f"{name}.nii.gz") for name in files])
        assert got.dtype == sets["images"][group].dtype
        np.testing.assert_array_equal(got, sets["images"][group], err_msg=group)
    with h5py.File(root / "siat/siat_visible.h5") as file:
        assert file["kspace"].dtype == np.complex64
        np.testing.assert_allclose(file["kspace"][:], sets["siat"], atol=2e-5)
    with h5py.File(root / "siat/eight_coil_undersampled.h5") as file:
        np.testing.assert_array_equal(file["kspace"][:], sets["eight_coil"])
    masks = np.load(root / "masks.npz")
    assert list(masks) == list(sets["masks"])
    for name, mask in sets["masks"].items():
        assert masks[name].dtype == bool
        np.testing.assert_array_equal(masks[name], mask)
    for name, net in sets["weights"].items():
        assert network_digest(dict(np.load(root / f"published_weights/{name}.npz"))) == network_digest(net)


def test_all_sets_are_prepared_then_verified_without_the_server(server: FileServer, tmp_path: Path) -> None:
    sets = small_sets()
    write_upstream(server.folder, sets)
    out = tmp_path / "csmri"
    lock = csmri.prepare(out, list(csmri.SETS), host=server.url, content=content_of(sets))
    check_prepared(out, sets)
    assert len(lock.first_used) == 50 + 150 + 6 + 31 + 1 + 13 + 13

    lists = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    patients = {s: {r["patient"] for r in lists[f"open_ms_{s}"]} for s in ("train", "val", "test")}
    assert patients == {"train": {"p01", "p04", "p12"}, "val": {"p03"}, "test": {"p19"}}
    assert all(
        (out / path).is_file()
        for rows in lists.values()
        for r in rows
        for k, path in r.items()
        if k != "patient"
    )

    requests = len(server.ranges)
    again = csmri.prepare(out, ["brain50", "masks"], host=server.url, content=content_of(sets))
    assert len(server.ranges) == requests and again.first_used == []
    assert json.loads((out / "dataset.json").read_text(encoding="utf-8")) == lists


def test_content_that_differs_is_refused_and_nothing_of_its_set_is_written(
    server: FileServer, tmp_path: Path
) -> None:
    sets = small_sets()
    write_upstream(server.folder, sets)
    content = content_of(sets) | {"chest_test": "0" * 64}
    with pytest.raises(
        InputError, match=r"(?s)prepared set chest_test has not the content.*nothing was written"
    ):
        csmri.prepare(tmp_path / "csmri", ["masks", "chest"], host=server.url, content=content)
    assert sorted(p.name for p in (tmp_path / "csmri").iterdir()) == [
        "checksums.json",
        "dataset.json",
        "downloads",
        "masks.npz",
    ]


def test_the_command_ends_with_one_clear_error_where_the_source_is_gone(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"(?s)server refused.*mask_10.mat.*HTTP 404"):
        csmri.main(["--output_dir", str(tmp_path / "csmri"), "--sets", "masks", "--host", server.url])
    with pytest.raises(SystemExit):
        csmri.main(["--output_dir", str(tmp_path / "csmri"), "--sets", "brain51"])
    assert "invalid choice: 'brain51'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_content_is_that_of_the_real_sets_and_their_layout_is_reproduced(
    server: FileServer, tmp_path: Path, data_root: Path
) -> None:
    root = data_root / "csmri"
    if not (root / "published_weights").is_dir():
        pytest.skip(f"the CS-MRI sets are not in {root}")
    sets = real_sets(root)
    write_upstream(server.folder, sets)
    csmri.prepare(tmp_path / "csmri", list(csmri.SETS), host=server.url)  # checks the shipped content
    check_prepared(tmp_path / "csmri", sets)
    expected = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "csmri" / "dataset.json").read_text(encoding="utf-8")) == expected
