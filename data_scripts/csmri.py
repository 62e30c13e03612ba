"""Download and prepare the CS-MRI sets: brain50, chest, open MS, SIAT, eight-coil, masks, published weights.

    python data_scripts/csmri.py --output_dir DIR [--sets brain50 chest open_ms siat eight_coil masks weights]

Sources, licences and the layout that is written:

- brain50/NN.nii.gz (uint8, test): jianzhangcs/ISTA-Net-PyTorch, which states no licence; the test slices of
  the ADMM-Net and ISTA-Net papers.
- chest/{train,test}_NN.nii.gz (float32, peak 1): yangyan92/Deep-ADMM-Net, MIT. The split is the authors' and
  is not by patient: tests 33 to 42 neighbour trains 15 to 23.
- open_ms/pPP_sS_T1W_zZZ.nii.gz (uint16, peak 65535): muschellij2/open_ms_data, longitudinal/raw, CC-BY; slice
  Z of the raw T1 image of patient P at study S, split by patient.
- siat/siat_visible.h5 (complex64 k-space): yqx7150/EDAEPRec, whose code says "non-commercial use only".
- siat/eight_coil_undersampled.h5: mikgroup/sigpy-mri-tutorial, BSD-3.
- masks.npz, published_weights/*.npz: yangyan92/Deep-ADMM-Net and yangyan92/ADMM-CSNet, MIT.

Trust. The sources publish no checksums. Each download's SHA-256 is recorded in DIR/checksums.json on first
use and demanded ever after (delete an entry to accept a new file). Independently of that, the *content* of
each prepared set is compared, before anything of it is written, with a digest over the decoded arrays of the
set that the project's figures come from (csmri_content.json). SIAT slices are recognised by coarse means
instead, since their last bits depend on the FFT. An interrupted download resumes.

Not verified, for want of a connection where this was written: that the addresses still answer; how the slices
lie in the open MS volumes (all eight in-plane orientations are tried against the digest; slice Z is taken as
index Z of the third axis); which version of the eight-coil file is meant; the structure of the network files
and the scale of the chest images, known from the authors' code alone. Where one of these is wrong, the
content check says so and nothing is written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from csmri_convert import (
    centred_kspace,
    check_content,
    content_digest,
    network_arrays,
    network_digest,
    oriented,
    peak_one,
    peak_uint16,
    read_mat,
    select_by_signature,
)
from csmri_sources import (
    ADMM_TEST,
    ADMM_TRAIN,
    ISTA,
    MASKS,
    OPEN_MS,
    OPEN_MS_LEFT_OUT,
    OPEN_MS_SLICES,
    OPEN_MS_SPLIT,
    SIAT,
    SIGPY,
    WEIGHTS,
)
from download import ChecksumLock
from PIL import Image
from tqdm import tqdm

from mdl_monai.io.atomic import atomic_path, atomic_write_text

HOST = "https://raw.githubusercontent.com"
Get = Callable[[str], Path]  # downloads a source path and returns the local file
Lists = dict[str, list[dict[str, str]]]


def _save_slices(root: Path, images: dict[str, np.ndarray]) -> None:
    for name, image in images.items():
        with atomic_path(root / name) as temporary:
            nib.save(nib.Nifti1Image(image, np.eye(4)), temporary)


def _save_kspace(path: Path, kspace: np.ndarray, **attributes: str) -> None:
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("kspace", data=kspace)
        file.attrs.update(attributes)


def _save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def prepare_brain50(get: Get, root: Path, content: dict) -> Lists:
    """50 PNG files as they are."""
    paths = [get(f"{ISTA}/data/BrainImages_test/brain_test_{n:02d}.png") for n in range(1, 51)]
    images = {f"brain50/{n:02d}.nii.gz": np.array(Image.open(p).convert("L")) for n, p in enumerate(paths)}
    check_content("brain50", content_digest(images.values()), content["brain50"])
    _save_slices(root, images)
    return {"brain50_test": [{"image": name} for name in images]}


def prepare_chest(get: Get, root: Path, content: dict) -> Lists:
    """MATLAB images in the authors' order, peak 1."""
    sources = {
        "train": {f"{n:03d}": f"{ADMM_TRAIN}/data/ChestTrain/im-{n + 1:02d}.mat" for n in range(100)},
        "test": {f"{n:02d}": f"{ADMM_TEST}/data/Chest_data/chest_data{n + 1:02d}.mat" for n in range(50)},
    }
    images = {
        split: {
            f"chest/{split}_{n}.nii.gz": peak_one(read_mat(get(path), "im_ori")).astype(np.float32)
            for n, path in files.items()
        }
        for split, files in sources.items()
    }
    for split in images:
        name = f"chest_{split}"
        check_content(name, content_digest(images[split].values()), content[name])
    _save_slices(root, images["train"] | images["test"])
    return {f"chest_{split}": [{"image": name} for name in files] for split, files in images.items()}


def prepare_open_ms(get: Get, root: Path, content: dict) -> Lists:
    """Axial slices of raw T1 images, each scaled to its own peak."""
    lists: Lists = {}
    images: dict[str, np.ndarray] = {}
    for split, scans in OPEN_MS_SPLIT.items():
        lists[f"open_ms_{split}"] = []
        for scan in scans:
            patient, study = scan.split("_")
            path = get(f"{OPEN_MS}/longitudinal/raw/patient{patient[1:]}/study{study[1:]}_T1W.nii.gz")
            volume = np.moveaxis(
                np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj), -1, 0
            )  # [Z, X, Y]
            kept = [z for z in range(OPEN_MS_SLICES) if (scan, z) not in OPEN_MS_LEFT_OUT and z < len(volume)]
            slices = oriented(
                scan, np.stack([peak_uint16(volume[z]) for z in kept]), content["open_ms"][scan]
            )
            names = [f"open_ms/{scan}_T1W_z{z}.nii.gz" for z in kept]
            images |= dict(zip(names, slices, strict=True))
            lists[f"open_ms_{split}"] += [{"image": name, "patient": patient} for name in names]
    _save_slices(root, images)
    return lists


def prepare_siat(get: Get, root: Path, content: dict) -> Lists:
    """The k-space of those of the 31 complex test slices that this project uses, peak magnitude 1."""
    paths = [get(f"{SIAT}/test_data_31/test_data_{n:02d}.mat") for n in range(1, 32)]
    images = [peak_one(read_mat(path, "Img").astype(np.complex128)) for path in paths]
    images = select_by_signature(images, np.array(content["siat"]))
    kspace = np.stack([centred_kspace(image) for image in images])[:, None]
    layout = "slices, coils, rows, columns; centred, orthonormal FFT of fully sampled complex images"
    _save_kspace(root / "siat/siat_visible.h5", kspace, layout=layout)
    return {"siat_visible": [{"kspace": "siat/siat_visible.h5"}]}


def prepare_eight_coil(get: Get, root: Path, content: dict) -> Lists:
    """A measured, undersampled 8-coil slice as it is."""
    kspace = np.load(get(f"{SIGPY}/data/cartesian_ksp.npy")).astype(np.complex64)[None]
    check_content("eight_coil", content_digest([kspace]), content["eight_coil"])
    _save_kspace(root / "siat/eight_coil_undersampled.h5", kspace)
    return {"eight_coil_undersampled": [{"kspace": "siat/eight_coil_undersampled.h5"}]}


def prepare_masks(get: Get, root: Path, content: dict) -> Lists:
    """All masks in one file, bool, DC in the centre."""
    masks = {name: read_mat(get(path), "mask") != 0 for name, path in MASKS.items()}
    for name, mask in masks.items():
        check_content(f"mask {name}", content_digest([mask]), content["masks"][name])
    _save_npz(root / "masks.npz", masks)
    return {}


def prepare_weights(get: Get, root: Path, content: dict) -> Lists:
    """The authors' trained networks as plain arrays, for equivalence tests."""
    networks = {name: network_arrays(read_mat(get(path), "net")) for name, path in WEIGHTS.items()}
    for name, arrays in networks.items():
        check_content(f"weights {name}", network_digest(arrays), content["weights"][name])
    for name, arrays in networks.items():
        _save_npz(root / f"published_weights/{name}.npz", arrays)
    return {}


SETS = {
    "brain50": prepare_brain50,
    "chest": prepare_chest,
    "open_ms": prepare_open_ms,
    "siat": prepare_siat,
    "eight_coil": prepare_eight_coil,
    "masks": prepare_masks,
    "weights": prepare_weights,
}


def prepare(output_dir: Path, sets: list[str], host: str = HOST, content: dict | None = None) -> ChecksumLock:
    """Download, check and write the named sets, and add their lists to ``dataset.json``."""
    content = content or json.loads(
        Path(__file__).with_name("csmri_content.json").read_text(encoding="utf-8")
    )
    lock = ChecksumLock(output_dir / "checksums.json")
    index = output_dir / "dataset.json"
    for name in sets:
        with tqdm(desc=name, unit=" files") as bar:

            def get(path: str, bar: tqdm = bar) -> Path:
                bar.update()
                return lock.fetch(f"{host}/{path}", f"downloads/{path}")

            lists = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
            try:
                lists |= SETS[name](get, output_dir, content)
            finally:
                lock.save()
            atomic_write_text(index, json.dumps(lists, indent=1) + "\n")
    return lock


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--host", default=HOST, help="a mirror of raw.githubusercontent.com")
    options = parser.parse_args(arguments)
    lock = prepare(options.output_dir, options.sets, options.host)
    print(f"prepared {', '.join(options.sets)} in {options.output_dir}; content as expected")
    if lock.first_used:
        print(f"{len(lock.first_used)} files had no known checksum: trusted on first use, see {lock.path}")


if __name__ == "__main__":
    main()
