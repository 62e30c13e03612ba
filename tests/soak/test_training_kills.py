"""200 kills in a training (16 without MDL_SOAK=1): resumed, it ends in the same bits as one that nobody killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from soak import counts


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_training_that_is_killed_ends_in_the_same_bits(tmp_path: Path) -> None:
    kills = counts(16, 200)
    command = [sys.executable, str(Path(__file__).with_name("killed_training.py")), str(tmp_path), str(kills)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=3600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    result = json.loads(ended.stdout.splitlines()[-1])
    assert not result["faults"], result
    assert result["kills"] == kills and result["inside_a_save"] == kills // 4, result
    assert result["told"]["resumed from a checkpoint"] > kills // 4, result
