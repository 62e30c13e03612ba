"""60 disks without room (24 without MDL_SOAK=1), under all that the product writes: whole files, one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from soak import counts


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_full_disk_leaves_whole_files_and_tells_it_in_a_sentence(tmp_path: Path) -> None:
    cases = counts(24, 60)
    command = [sys.executable, str(Path(__file__).with_name("full_disk.py")), str(tmp_path), str(cases)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=3600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    result = json.loads(ended.stdout.splitlines()[-1])
    assert not result["faults"], result
    refused = sum(count for kind, count in result["told"].items() if kind.endswith("refused"))
    assert result["cases"] == cases and refused > cases // 2, result
