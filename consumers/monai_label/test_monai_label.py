"""MONAI Label 0.8.5's own bundle tasks, for inference and training, run our bundles.

Not its app around them, which cannot be imported beside pydicom 3, and so beside no release of this package: its
pydicom-seg 0.4.1 imports a private module of pydicom 2. An empty package is installed in SAM 2's place
(requirements.txt), and conftest.py covers for a torchvision that does not fit torch. All else is as the index has it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from copy_bundle import copy_bundle
from monai.bundle import create_workflow
from monailabel.datastore.local import LocalDatastore
from monailabel.tasks.infer.bundle import BundleConstants, BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask

from mdl_monai.demo.inputs import write_hippocampus_crops, write_phantom_hippocampi
from mdl_monai.phantoms.head import head_phantom

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SEGMENTATION = "hippocampus_mri_segmentation"
SYNTHESIS = "brain_mr_to_ct_synthesis"
FUSION = "hippocampus_mri_fusion_segmentation"


def infer(
    bundle: Path, image: Path, folder: Path, **request: Any
) -> tuple[np.ndarray, nib.Nifti1Image, dict[str, Any]]:
    """What the inference task answers: values, file, and what it says of them."""
    task = BundleInferTask(str(bundle), {})
    request = {"result_extension": ".nii.gz", **request}  # as 3D Slicer asks for one; else there is no file
    file, params = task({"model": bundle.name, "image": str(image), "device": "cpu", **request})
    kept = Path(shutil.move(file, folder))
    result = nib.load(kept)
    return np.asarray(result.dataobj), result, params


def workflow_result(bundle: Path, image: Path, folder: Path, **options: Any) -> nib.Nifti1Image:
    """What the bundle's own inference writes for the same file."""
    alone = folder / "alone"
    alone.mkdir()
    shutil.copy(image, alone / image.name)
    create_workflow(
        config_file=str(bundle / "configs" / "inference.json"),
        workflow_type="infer",
        bundle_root=str(bundle),
        dataset_dir=str(alone),
        output_dir=str(folder / "own"),
        device="$torch.device('cpu')",
        progress=False,
        n_pictures=0,
        **options,
    ).run()
    return nib.load(next((folder / "own" / "predictions").iterdir()))


def real_crop(folder: Path) -> Path:
    """A T1 MR crop around the right hippocampus of the MNI152 mean brain, in which the network finds both labels."""
    write_hippocampus_crops(folder / "crops")
    studies = folder / "studies"
    studies.mkdir()
    return Path(shutil.copy(folder / "crops" / "mni152_right.nii.gz", studies))


@pytest.fixture(autouse=True)
def work_in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a bundle writes beside its result goes to its output_dir, relative by default."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("request_", [{}, {"result_dtype": "uint8"}])
def test_inference_gives_the_labels_of_the_bundles_own(tmp_path: Path, request_: dict[str, str]) -> None:
    image = real_crop(tmp_path)
    found, file, params = infer(BUNDLES / SEGMENTATION, image, tmp_path, **request_)
    own = workflow_result(BUNDLES / SEGMENTATION, image, tmp_path)
    assert set(np.unique(found)) == {0, 1, 2}
    np.testing.assert_array_equal(found, np.asarray(own.dataobj))
    np.testing.assert_allclose(file.affine, own.affine, atol=1e-4)
    assert params["label_names"] == {"anterior": 1, "posterior": 2}


def test_training_writes_weights_that_the_next_inference_uses(tmp_path: Path) -> None:
    image = real_crop(tmp_path)
    lists = write_phantom_hippocampi(tmp_path / "phantoms")
    final = image.parent / "labels" / "final"  # where MONAI Label keeps what a person has confirmed
    final.mkdir(parents=True)
    for record in [record for records in lists.values() for record in records][:6]:
        shutil.copy(tmp_path / "phantoms" / record["image"], image.parent)
        shutil.copy(tmp_path / "phantoms" / record["label"], final / record["image"])
    bundle = copy_bundle(BUNDLES / SEGMENTATION, tmp_path / "model")
    weights = bundle / "models" / "model.pt"
    before = torch.load(weights, weights_only=True)
    untrained, _, _ = infer(bundle, image, tmp_path)
    datastore = LocalDatastore(str(image.parent), extensions=["*.nii.gz"], auto_reload=False)
    for _ in range(2):  # a second training starts from the first one's weights
        request = {"model": SEGMENTATION, "device": "cpu", "max_epochs": 1, "val_split": 0.2}
        BundleTrainTask(str(bundle), {})(request, datastore)
        after = torch.load(weights, weights_only=True)
        assert any(not torch.equal(before[key], after[key]) for key in before)
        before = after
    split = json.loads((weights.parent / "split.json").read_text(encoding="utf-8"))
    cases = {case for subjects in split.values() for named in subjects.values() for case in named}
    assert len(cases) == 6 and all(split.values()) and split.keys() == {"train", "val"}
    trained, _, _ = infer(bundle, image, tmp_path)
    own = workflow_result(bundle, image, tmp_path)
    np.testing.assert_array_equal(trained, np.asarray(own.dataobj))
    assert (trained != untrained).any()


def test_synthesis_comes_back_in_hu(tmp_path: Path) -> None:
    head = head_phantom(0, (52, 52, 24), (4.0, 4.0, 6.0))
    image = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(head.mr.numpy(), head.affine.numpy()), image)
    options = {"spacing": [4.0, 4.0, 6.0], "mirror": False}  # coarse, to be quick; the result is no evidence
    bundle = copy_bundle(BUNDLES / SYNTHESIS, tmp_path / "model", image_key="image", **options)
    found, file, _ = infer(bundle, image, tmp_path)
    own = workflow_result(BUNDLES / SYNTHESIS, image, tmp_path, **options)
    assert found.dtype == np.float32 and np.ptp(found) > 500
    np.testing.assert_allclose(found, np.asarray(own.dataobj), atol=1.01)  # the bundle writes whole HU
    np.testing.assert_allclose(file.affine, own.affine, atol=1e-4)


def test_label_fusion_finds_its_atlases(tmp_path: Path) -> None:
    lists = write_phantom_hippocampi(tmp_path / "atlases")
    (tmp_path / "atlases" / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    image = Path(shutil.copy(tmp_path / "atlases" / lists["demo"][0]["image"], tmp_path))
    options = {"atlas_dir": str(tmp_path / "atlases"), "n_atlases": 2, "registration": "none"}
    bundle = copy_bundle(BUNDLES / FUSION, tmp_path / "model", **options)
    found, _, _ = infer(bundle, image, tmp_path)
    own = workflow_result(BUNDLES / FUSION, image, tmp_path, **options, n_fusion_pictures=0)
    assert set(np.unique(found)) == {0, 1, 2}
    np.testing.assert_array_equal(found, np.asarray(own.dataobj))


@pytest.mark.parametrize("name", [SEGMENTATION, SYNTHESIS, FUSION, "cardiac_mri_fusion_segmentation"])
def test_inference_configs_have_the_keys_of_the_task(name: str) -> None:
    constants, task = BundleConstants(), BundleInferTask(str(BUNDLES / name), {})
    for keys in (constants.key_preprocessing(), constants.key_postprocessing(), constants.key_inferer()):
        assert any(task.bundle_config.get(key) for key in keys)
    assert task.is_valid() and (task.key_image, task.key_pred) == ("image", "pred")


def test_the_training_config_has_the_keys_of_the_task() -> None:
    config = BundleTrainTask(str(BUNDLES / SEGMENTATION), {}).bundle_config
    for key in (
        "network",
        "device",
        "train#trainer#max_epochs",
        "train#dataset#data",
        "validate#dataset#data",
    ):
        assert config.get(key) is not None, key
    assert all("_target_" in handler for handler in config["train#handlers"])
    # MONAI Label puts a handler of its own before them: nothing may count on a place among them
    assert "@train#handlers#" not in json.dumps(config.config)
