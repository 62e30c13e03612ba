"""Flattened configs, new-bundle skeleton, checks and generated tables."""
