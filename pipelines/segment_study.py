"""A DICOM study in; a segmentation as DICOM, its volumes and a picture out.

python pipelines/segment_study.py STUDY OUTPUT_DIR [--dicom_series 5]
"""

import sys

from monai.bundle import create_workflow

bundle, (study, output_dir, *options) = "bundles/hippocampus_mri_segmentation", sys.argv[1:]
workflow = create_workflow(
    config_file=f"{bundle}/configs/inference.json",
    workflow_type="infer",
    bundle_root=bundle,
    dataset_dir=study,
    output_dir=output_dir,
    write_dicom=True,
    **dict(zip((key.removeprefix("--") for key in options[::2]), options[1::2], strict=True)),
)
workflow.run()
workflow.finalize()
