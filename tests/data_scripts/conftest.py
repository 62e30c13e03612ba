"""Data scripts are run by path; their folder is put where Python puts it then, first in the search path."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from upstream import FileServer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "data_scripts"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "upstream"
    folder.mkdir()
    with FileServer(folder) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
