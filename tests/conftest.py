"""Shared fixtures: where the real data is, a fixed seed and one thread a test process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets: `MDL_DATA_ROOT`, or `shared/data` beside the checkout."""
    named = os.environ.get("MDL_DATA_ROOT")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}: set MDL_DATA_ROOT")
    return root
