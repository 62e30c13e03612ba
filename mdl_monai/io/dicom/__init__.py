"""DICOM: series as volumes with a checked geometry, results as Segmentation objects and derived series."""
