"""MONAI Deploy's own operators run our bundles, from a DICOM study to a result that is the bundle's own.

Nothing is replaced: the SDK's scheduler (Holoscan) runs without a GPU. The network is the TorchScript file of a
release, or the bundle's folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_app import BundleApp, bundle_metadata
from ignite.engine import Events
from monai.bundle import create_workflow
from monai.deploy.core import Fragment, Image
from monai.deploy.operators import MonaiBundleInferenceOperator
from pydicom import dcmread

from mdl_monai.demo.inputs import write_hippocampus_crops
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.release.exports import write_torchscript

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/metadata.json"))
SEGMENTATION = ROOT / "bundles" / "hippocampus_mri_segmentation"
RECONSTRUCTION = ROOT / "bundles" / "brain_mri_admm_reconstruction"
SYNTHESIS = ROOT / "bundles" / "brain_mr_to_ct_synthesis"

sys.path.insert(0, str(ROOT / "tests" / "io" / "dicom"))
from dicom_files import Stack  # noqa: E402

Export = Callable[[Path], Path]


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM series of the MNI152 brain around a hippocampus: in a drawing the network finds nothing."""
    folder = tmp_path_factory.mktemp("crop")
    record = next(iter(write_hippocampus_crops(folder / "nifti").values()))[0]
    image: Any = nib.load(folder / "nifti" / record["image"])
    return write_series(image.get_fdata(), image.affine[:3, 3], folder / "study")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM series of the middle of a phantom head, 14 slices of 5 mm."""
    phantom = head_phantom(0, (48, 56, 14), (4.0, 4.0, 5.0))
    return write_series(phantom.mr.numpy(), (-96, -112, 3), tmp_path_factory.mktemp("head"), (4.0, 4.0, 5.0))


def write_series(
    image: np.ndarray,
    corner: Any,
    folder: Path,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """An image [X, Y, Z], right-anterior-superior, as stored values 0 to 1000."""
    values = (image / image.max() * 1000).round().astype(np.uint16)
    origin = (-corner[0], -corner[1], corner[2])
    Stack(values.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0]), spacing, origin).save(folder)
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """What `make release` exports."""
    folder = tmp_path_factory.mktemp("release")

    def exported(bundle: Path) -> Path:
        path = folder / f"{bundle.name}_v0.1.0.ts"
        if not path.is_file():
            write_torchscript(bundle, path)
        return path

    return exported


def with_options(bundle: Path, folder: Path, options: dict[str, Any]) -> Path:
    """A copy of the bundle with other options, as its config names them."""
    copy = shutil.copytree(bundle, folder / bundle.name)
    path = copy / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    assert options.keys() <= config.keys()
    path.write_text(json.dumps(config | options), encoding="utf-8")
    return copy


def deploy(model: Path, study: Path, output: Path) -> None:
    """Run the application as its command line does."""
    output.mkdir()
    options = ["-i", str(study), "-o", str(output), "-m", str(model)]
    BundleApp([sys.executable, "bundle_app.py", *options]).run()


def own_result(bundle: Path, study: Path, output: Path) -> Any:
    """The bundle's own inference, `MetaTensor` [1, X, Y, Z]."""
    workflow = create_workflow(
        config_file=str(bundle / "configs" / "inference.json"),
        workflow_type="infer",
        bundle_root=str(bundle),
        dataset_dir=str(study),
        output_dir=str(output),
        device="$torch.device('cpu')",
        progress=False,
        n_pictures=0,
    )
    results = []
    workflow.evaluator.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: results.extend(item["pred"] for item in engine.state.output),
    )
    workflow.run()
    return results[0]


def labels_of(output: Path, study: Path) -> np.ndarray:
    """The label map [X, Y, Z] in the one Segmentation object, by the slices that its frames name."""
    (file,) = output.glob("*.dcm")
    slices = [dcmread(path, stop_before_pixels=True) for path in study.glob("*.dcm")]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    segmentation = highdicom.seg.segread(file)
    assert {ds.StudyInstanceUID for ds in slices} == {segmentation.StudyInstanceUID}
    return segmentation.get_pixels_by_source_instance(
        [ds.SOPInstanceUID for ds in slices], combine_segments=True, assert_missing_frames_are_empty=True
    ).transpose(2, 1, 0)


def assert_same_labels(found: np.ndarray, own: np.ndarray) -> None:
    assert np.unique(own).tolist() == [0, 1, 2]
    assert found.shape == own.shape
    assert np.count_nonzero(found != own) <= 0.005 * np.count_nonzero(own)


@pytest.mark.parametrize("form", ["torchscript", "folder"])
def test_a_study_becomes_a_segmentation_object(form: str, crop: Path, export: Export, tmp_path: Path) -> None:
    deploy(export(SEGMENTATION) if form == "torchscript" else SEGMENTATION, crop, tmp_path / "deploy")
    own = own_result(SEGMENTATION, crop, tmp_path / "own")[0].numpy()
    assert_same_labels(labels_of(tmp_path / "deploy", crop), own)


@pytest.mark.parametrize(
    ("original", "options"),
    [(RECONSTRUCTION, {"sampling_ratio": 0.3}), (SYNTHESIS, {"spacing": [4.0, 4.0, 4.0], "mirror": False})],
    ids=["reconstruction", "synthesis"],
)
def test_an_image_comes_back_in_float_with_its_values(
    original: Path, options: dict[str, Any], head: Path, export: Export, tmp_path: Path
) -> None:
    bundle = with_options(original, tmp_path, options)
    deploy(export(bundle), head, tmp_path / "deploy")
    image: Any = nib.load(tmp_path / "deploy" / "pred.nii.gz")
    own = own_result(bundle, head, tmp_path / "own")
    found, wanted = np.asarray(image.dataobj), own[0].numpy()
    assert found.dtype == np.float32
    assert wanted.max() > 255 and len(np.unique(wanted)) > 256  # so that bytes could not hold it
    assert original == RECONSTRUCTION or wanted.min() < -500
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.ptp(wanted))
    np.testing.assert_allclose(image.affine, own.affine.numpy(), atol=1e-4)


class Port:
    """Keeps what an operator sends."""

    def emit(self, value: Any, name: str) -> None:
        self.value = value


def sent(outputs: dict[str, Any], value: torch.Tensor) -> Any:
    """What the operator makes of a result [C, W, H, D], by the bundle's metadata of its outputs."""
    operator = MonaiBundleInferenceOperator(
        Fragment(), app_context=None, input_mapping=[], output_mapping=[], name="bundle"
    )
    operator._outputs, port = outputs, Port()
    operator._send_output(value, "pred", {}, port, None)
    return port.value


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_label_maps_alone_are_cast_to_bytes(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    outputs = metadata["network_data_format"]["outputs"]
    if outputs["pred"]["format"] == "segmentation":
        labels = sent(outputs, torch.full((1, 2, 3, 4), 2, dtype=torch.int32))
        assert isinstance(labels, Image)
        np.testing.assert_array_equal(labels.asnumpy(), np.full((4, 3, 2), 2, dtype=np.uint8), strict=True)
        return
    image = torch.full((1, 2, 3, 4), 812.5)
    np.testing.assert_array_equal(sent(outputs, image), image.numpy(), strict=True)
    outputs["pred"]["type"] = "image"  # why it is another type
    assert sent(outputs, image).asnumpy().dtype == np.uint8


def test_a_renamed_file_is_refused_with_its_right_name(export: Export, tmp_path: Path) -> None:
    renamed = tmp_path / "model.ts"
    renamed.write_bytes(export(SEGMENTATION).read_bytes())
    with pytest.raises(ValueError, match=r"exported under, hippocampus_mri_segmentation_v0\.1\.0\.ts"):
        bundle_metadata(renamed)
    assert bundle_metadata(export(SEGMENTATION))["name"] == SEGMENTATION.name
