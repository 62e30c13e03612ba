"""Of the processes that train together: which one this is, and their random states."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist


def rank() -> int:
    """This process's number; before the group is made, as torchrun gives it; 0 alone, even where a RANK is set."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def world_size() -> int:
    """How many there are; 1 alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(own: Any) -> list[Any]:
    """What each process holds, in their order; every process must ask."""
    if world_size() == 1:
        return [own]
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, own)
    return parts


def random_states() -> list[list[torch.Tensor]]:
    """Torch's random states of all processes: the CPU's, and where CUDA is in use that of its current device."""
    own = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        own.append(torch.cuda.get_rng_state())
    return gathered(own)


def set_random_state(state: list[torch.Tensor]) -> None:
    """Restore one process's state; CUDA's where there was and is one."""
    torch.set_rng_state(state[0])
    if len(state) > 1 and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state[1])
