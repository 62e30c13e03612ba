"""Shared fixtures: where the real data is, a fixed seed and one thread a test process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Read where torch is imported: here, in the workers of pytest-xdist, and in processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """What a bundle's logging.conf did in a test ends with it: tests run in any order, and some read the log."""
    level, handlers = logging.root.level, list(logging.root.handlers)
    yield
    logging.root.setLevel(level)
    logging.disable(logging.NOTSET)
    logging.root.handlers[:] = handlers
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
            # those that write where this test's output went, which is about to be closed
            logger.handlers[:] = [h for h in logger.handlers if getattr(h, "stream", None) is not sys.stderr]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets: `MDL_DATA_ROOT`, or `shared/data` beside the checkout."""
    named = os.environ.get("MDL_DATA_ROOT")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}: set MDL_DATA_ROOT")
    return root
