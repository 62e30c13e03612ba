"""`python -m monai.bundle run ...` in processes that are forked where MONAI is imported already.

Importing takes longer than most of the runs. A server (multiprocessing's forkserver) does it once and computes
nothing; so each run has a process without a history, its exit code and what it printed, as from a shell.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import warnings
from multiprocessing.connection import wait
from pathlib import Path
from unittest.mock import patch

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["monai.bundle.scripts", "fire", "highdicom", "ignite.handlers.tqdm_logger", "mdl_monai.transforms.load"]
)


def run_monai_bundle(
    words: list[str], environment: dict[str, str], processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run `monai.bundle` with these words: exit code of the first process that failed, output of all.

    Of several processes, the others are killed where one fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder, "stdout"), Path(folder, "stderr"))
        started, code = [], 0
        try:
            with patch.dict(os.environ, environment):  # the server's too, which the first process starts
                for place in _places(processes):
                    process = _context.Process(target=_main, args=(words, environment | place, files))
                    process.start()
                    started.append(process)
            while not code and (running := [p.sentinel for p in started if p.exitcode is None]):
                wait(running)
                code = next((p.exitcode for p in started if p.exitcode), 0)
        finally:
            for process in started:
                process.kill()
                process.join()
        return subprocess.CompletedProcess(words, code, *(file.read_text(encoding="utf-8") for file in files))


def _places(processes: int) -> list[dict[str, str]]:
    """What torchrun tells each of several processes by its environment."""
    if processes == 1:
        return [{}]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    return [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _main(words: list[str], environment: dict[str, str], files: tuple[Path, Path]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(files, start=1):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["monai.bundle", *words]
    warnings.simplefilter(environment["PYTHONWARNINGS"])  # type: ignore[arg-type]
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        raise SystemExit(1) from None
