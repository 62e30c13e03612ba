"""Functions for the workers of the cohort tests: a module of its own, as workers import it by name."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from mdl_monai.errors import InputError
from mdl_monai.io.content_cache import ContentCache, content_key


def note(path: Path, line: str) -> None:
    """Append a line; whole even with several writers, as it is one short write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


class Work:
    """Stores a result for each pair in `folder` / cache, and notes in `folder` / log.txt what it computes."""

    def __init__(self, folder: Path, ballast: int = 0) -> None:
        self.folder, self.ballast = folder, bytes(ballast)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        note(self.folder / "arrivals.txt", str(os.getpid()))

    def __call__(self, target: str, atlases: Sequence[str]) -> dict[str, str | None]:
        cache = ContentCache(self.folder / "cache")
        reasons: dict[str, str | None] = {}
        for atlas in atlases:
            key = content_key(target, atlas)
            if cache.get(key) is None:
                note(self.folder / "log.txt", f"{target} {atlas} {os.getpid()}")
                reason = self.act(target, atlas)
                if reason is None:
                    cache.put(key, {"pair": np.array(f"{target} {atlas}")})
                reasons[atlas] = reason
            else:
                reasons[atlas] = None
        return reasons

    def act(self, target: str, atlas: str) -> str | None:
        """What the names of the atlas ask for."""
        if atlas == "killed_once" and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if atlas == "fatal":
            os._exit(1)
        if atlas == "raises":
            raise ValueError("no overlap\nof the fields of view")
        if atlas == "refused":
            raise InputError("the image is constant", where=f"{atlas}.nii.gz")
        if atlas == "failed":
            return "folded voxels above the limit"
        if atlas == "slow":
            time.sleep(0.1)
        return None


def threads(target: str, atlases: Sequence[str]) -> dict[str, str]:
    """Threads of each library, where a reason would be."""
    told = f"{torch.get_num_threads()} {sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()}"
    return dict.fromkeys(atlases, f"{told} {os.environ['OMP_NUM_THREADS']}")


def forgetful(target: str, atlases: Sequence[str]) -> dict[str, None]:
    """Tells nothing about the last atlas."""
    return dict.fromkeys(atlases[:-1] or ["another"])


def sleeps(target: str, atlases: Sequence[str]) -> dict[str, None]:
    """Longer than any test."""
    time.sleep(60)
    return dict.fromkeys(atlases)
