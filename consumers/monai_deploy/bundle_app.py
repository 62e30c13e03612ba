"""A MONAI Deploy application around one of our bundles: a DICOM study in, a Segmentation object or NIfTI volume out.

::

    python bundle_app.py -i <study> -o <folder> -m <bundle>_v<version>.ts

Which of the two, the bundle's metadata say. The folder of a bundle does as well as its TorchScript file.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators import (
    DICOMDataLoaderOperator,
    DICOMSegmentationWriterOperator,
    DICOMSeriesSelectorOperator,
    DICOMSeriesToVolumeOperator,
    IOMapping,
    MonaiBundleInferenceOperator,
)
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription
from monai.deploy.operators.monai_bundle_inference_operator import get_bundle_config
from pydicom.sr.codedict import codes

from mdl_monai.io.dicom.segments import Segment, segments_of

RULES = json.dumps({"selections": [{"name": "MR", "conditions": {"Modality": "MR"}}]})


class BundleApp(Application):
    """Loader, selector, volume, bundle, writer: the SDK's own operators but for the writer of volumes."""

    def compose(self) -> None:
        """Put the operators together."""
        context = Application.init_app_context(self.argv)
        model, output = Path(context.model_path), Path(context.output_path)
        if (
            model.is_dir()
        ):  # which the SDK takes for a network; the operator loads models/model.pt if there is none
            context.models = None
        metadata = bundle_metadata(model)

        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=RULES, name="selector")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        bundle = MonaiBundleInferenceOperator(
            self,
            app_context=context,
            bundle_path=model,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            name="bundle",
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, bundle, {("image", "image")})
        if metadata["network_data_format"]["outputs"]["pred"]["type"] == "image":
            segments = [_description(segment, metadata) for segment in segments_of(metadata)]
            writer: Operator = DICOMSegmentationWriterOperator(
                self, segment_descriptions=segments, output_folder=output, name="writer"
            )
            self.add_flow(bundle, writer, {("pred", "seg_image")})
            self.add_flow(selector, writer, {("study_selected_series_list", "study_selected_series_list")})
        else:
            writer = VolumeWriter(self, output_folder=output, name="writer")
            self.add_flow(bundle, writer, {("pred", "pred")})
            self.add_flow(volume, writer, {("image", "image")})


class VolumeWriter(Operator):
    """Writes pred.nii.gz: values as the bundle gives them, an array [1, W, H, D], on the grid of the volume."""

    def __init__(self, fragment: Fragment, *args: Any, output_folder: Path, **kwargs: Any) -> None:
        self.output_folder = output_folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Ask for both."""
        spec.input("pred")
        spec.input("image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write."""
        pred: np.ndarray = op_input.receive("pred")
        affine = op_input.receive("image").metadata()["nifti_affine_transform"]
        self.output_folder.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(pred[0], affine), self.output_folder / "pred.nii.gz")


def bundle_metadata(model: Path) -> dict[str, Any]:
    """Metadata of a bundle.

    Raises:
        ValueError: a TorchScript file that was renamed. The SDK finds the config under the file's first name alone,
            and would run the bare network without a word.
    """
    config = get_bundle_config(str(model), ["inference"])
    if config.get("preprocessing") is None:
        with zipfile.ZipFile(model) as archive:
            first = archive.namelist()[0].split("/")[0]
        raise ValueError(f"{model} must have the name it was exported under, {first}{model.suffix}")
    return config["_meta_"]


def _description(segment: Segment, metadata: dict[str, Any]) -> SegmentDescription:
    return SegmentDescription(
        segment_label=segment.name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=segment.structure or codes.SCT.AnatomicalStructure,
        algorithm_name=metadata["name"],
        algorithm_family=codes.DCM.ArtificialIntelligence,
        algorithm_version=metadata["version"],
    )


if __name__ == "__main__":
    BundleApp().run()
