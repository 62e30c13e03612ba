"""500 damaged checkpoints (150 without MDL_SOAK=1): noticed, and the one before is used, or else one clear error."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import Rng, cut, flipped, moved_part, overwritten, pick, with_tail
from soak import counts

from mdl_monai.errors import InputError
from mdl_monai.io.checkpoint_files import DIGESTS, load_checkpoint, previous, save_checkpoint

NEWEST, BEFORE = "checkpoint.pt", previous(Path("checkpoint.pt")).name


def bits(data: bytes, rng: Rng) -> bytes:
    """One bit anywhere, or some in the middle, where the weights lie."""
    return (
        flipped(data, rng, most=1)
        if rng.random() < 0.5
        else flipped(data, rng, len(data) // 3, len(data) // 2)
    )


def emptied(data: bytes, rng: Rng) -> bytes:
    return b""


def zeros(data: bytes, rng: Rng) -> bytes:
    """All of it, or from a place on, as a file system leaves it after a loss of power."""
    return data[: (whole := int(rng.integers(len(data))) * int(rng.integers(2)))] + bytes(len(data) - whole)


DAMAGES: tuple[Callable[[bytes, Rng], bytes], ...] = (
    bits, bits, cut, cut, emptied, zeros, overwritten, with_tail, moved_part,
)  # fmt: skip


def damage(path: Path, rng: Rng) -> str:
    """Change a file, so that it is another one; what was done to it."""
    data, edit = path.read_bytes(), pick(rng, DAMAGES)
    if path.name != DIGESTS and rng.random() < 0.15:
        path.unlink()
        return "deleted"
    while (changed := edit(data, rng)) == data:  # zeros over zeros
        pass
    path.write_bytes(changed)
    return edit.__name__


def damage_digests(path: Path, rng: Rng) -> str:
    """The list of digests too: taken away, or wrong, or the digests under one another's names."""
    listing = path / DIGESTS
    kind = str(pick(rng, ("intact", "intact", "intact", "deleted", "swapped", "damaged")))
    if kind == "deleted":
        listing.unlink()
    elif kind == "swapped":
        (first, one), (second, other) = (line.split("  ") for line in listing.read_text("utf-8").splitlines())
        listing.write_text(f"{second}  {one}\n{first}  {other}\n", encoding="utf-8")
    elif kind == "damaged":
        kind = damage(listing, rng)
    return kind


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, torch.Tensor]]:
    """A folder of two checkpoints, and the weights in them by epoch."""
    folder = tmp_path_factory.mktemp("sound")
    weights = {epoch: torch.randn(30, 41) for epoch in (1, 2, 3)}
    for epoch, tensor in weights.items():
        state = {"epoch": epoch, "network": {"weight": tensor}, "best": 0.5 * epoch, "random": []}
        save_checkpoint(state, folder / NEWEST)
    return folder, weights


def test_no_damaged_checkpoint_is_loaded(
    sound: tuple[Path, dict[int, torch.Tensor]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, weights = sound
    caplog.set_level(logging.WARNING)
    told: Counter[str] = Counter()
    for index in range(counts(150, 500)):
        rng = np.random.default_rng(index)
        work = tmp_path / str(index)
        shutil.copytree(folder, work)
        both, digests = rng.random() < 0.2, damage_digests(work, rng)
        done = [damage(work / name, rng) for name in (NEWEST, BEFORE)[: 1 + both]]
        where = f"case {index}, {done}, digests {digests}"
        files = {path.name: path.read_bytes() for path in work.iterdir()}
        caplog.clear()
        try:
            found = load_checkpoint(work / NEWEST)
        except InputError as error:
            lines = str(error).splitlines()
            assert both or digests not in ("intact", "swapped", "deleted"), f"{where}: {error}"
            assert "whole" in lines[0] and all(name in str(error) for name in ("where", "found", "remedy")), (
                where
            )
            told["refused"] += 1
        else:
            if found is None:
                assert done == ["deleted", "deleted"], where
                told["nothing is there"] += 1
            else:
                state, path = found
                epoch = 2 if path.name == BEFORE else 3
                assert not both or digests not in ("intact", "swapped"), where
                assert state["epoch"] == epoch and torch.equal(state["network"]["weight"], weights[epoch]), (
                    where
                )
                told["the one before" if epoch == 2 else "the newest, whose damage is none"] += 1
        gone = done == ["deleted", "deleted"]  # what nothing tells of, nobody misses
        assert f"{NEWEST} is" in caplog.text or "lacks its digest" in caplog.text or gone, where
        assert {path.name: path.read_bytes() for path in work.iterdir()} == files, (
            f"{where}: something was changed"
        )
        shutil.rmtree(work)
    assert sum(told.values()) == counts(150, 500) and told["the one before"] > 0.5 * counts(150, 500), told
    print(dict(told))  # noqa: T201
