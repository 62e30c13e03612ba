"""A bundle as `new_bundle` writes it, made once; tests that change it take a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mdl_monai.release.new_bundle import new_bundle


@pytest.fixture(scope="session")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_bundle("head_mr_identity", 'Maps an "image" to itself', tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def skeleton_copy(skeleton: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(skeleton, tmp_path / skeleton.name))
