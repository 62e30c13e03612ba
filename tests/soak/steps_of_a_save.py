"""A hook before and behind every step of writing a file that passes through Python: writes, syncs, renames, ..."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Hook = Callable[[str, bytes], int]
"""Told a step ("write", "before fsync", "after replace", ...), and the bytes of a write; says how many of these
get to the file before it is called again with "written"."""
STEPS = [(os, "replace"), (os, "fsync"), (os, "unlink"), (torch, "save"), (hashlib, "file_digest")]


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Call `hook` at each step that happens inside of the block."""
    opened = io.open

    class File(io.FileIO):
        def write(self, data: Any, /) -> int:
            content = bytes(data)
            super().write(content[: hook("write", content)])
            hook("written", b"")
            return len(content)

    def open_hooked(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+") or buffering == 0:
            return opened(file, mode, buffering, *rest, **more)
        raw = File(file, mode.replace("b", "").replace("t", ""))
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, *rest, **more)

    def step(name: str, whole: Any) -> Any:
        def around(*arguments: Any, **options: Any) -> Any:
            hook(f"before {name}", b"")
            result = whole(*arguments, **options)
            hook(f"after {name}", b"")
            return result

        return around

    before = [(place, name, getattr(place, name)) for place, name in STEPS]
    try:
        builtins.open = io.open = open_hooked  # type: ignore[assignment]
        for place, name, whole in before:
            setattr(place, name, step(name, whole))
        yield
    finally:
        builtins.open = io.open = opened
        for place, name, whole in before:
            setattr(place, name, whole)
