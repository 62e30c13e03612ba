"""Registration of atlases to a target: affine, deformable, selection, failures, cohorts."""
