"""Notice a SIGTERM, as Slurm sends it before it takes a machine away, and act on it between two steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

import torch
import torch.distributed as dist

from mdl_monai.handlers.processes import world_size


class Preemption:
    """From `watch` on, a SIGTERM is remembered instead of ending the process."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Callable[..., object] | int | None = None

    def watch(self) -> None:
        """Begin; elsewhere than in the main thread, Python lets nobody listen."""
        if threading.current_thread() is threading.main_thread():
            self._asked = False
            self._before = signal.signal(signal.SIGTERM, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def asked(self) -> bool:
        """Whether this process, or one of those that train together, was asked to end."""
        if world_size() == 1:
            return self._asked
        flag = torch.tensor(float(self._asked), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def unwatch(self) -> None:
        """Let a SIGTERM do again what it did before."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def end(self) -> None:
        """End the process by the signal that it was sent, as its sender expects."""
        self.unwatch()
        os.kill(os.getpid(), signal.SIGTERM)
