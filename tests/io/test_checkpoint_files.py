from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.io.checkpoint_files import DIGESTS, load_checkpoint, previous, save_checkpoint


def state(n: int) -> dict[str, Any]:
    return {"epoch": n, "weights": torch.full((40, 5), float(n))}


def saved(folder: Path, n: int) -> Path:
    path = folder / "checkpoint.pt"
    for i in range(1, n + 1):
        save_checkpoint(state(i), path)
    return path


def epoch(path: Path) -> int:
    found = load_checkpoint(path)
    assert found is not None and (found[0]["weights"] == found[0]["epoch"]).all()
    return found[0]["epoch"]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.pt") is None


def test_the_newest_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    path = saved(tmp_path, 3)
    assert epoch(path) == 3
    path.unlink()
    assert epoch(path) == 2
    assert {p.name for p in tmp_path.iterdir()} == {previous(path).name, DIGESTS}


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_one_is_noticed_and_the_one_before_is_used(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    path, rng = saved(tmp_path, 2), random.Random(seed)
    content = bytearray(path.read_bytes())
    if seed % 2:
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    assert epoch(path) == 1
    assert "checkpoint.pt is damaged" in caplog.text


def test_two_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, 2)
    for file in (path, previous(path)):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"(?s)no checkpoint here is whole.*previous.*--resume false"):
        load_checkpoint(path)


def test_a_file_without_a_digest_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, 1)
    (tmp_path / DIGESTS).unlink()
    assert epoch(path) == 1
    assert "lacks its digest" in caplog.text


@pytest.mark.parametrize("at", range(6))
def test_a_death_between_any_two_renames_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Of digests, of the one before, of the new one: the process dies before or after each."""
    path = saved(tmp_path, 2)
    steps = iter(range(6))

    def dying(name: str) -> Any:
        whole = getattr(os, name)

        def rename(*arguments: Any, **options: Any) -> Any:
            if next(steps) == at:
                raise SystemExit
            result = whole(*arguments, **options)
            if next(steps) == at:
                raise SystemExit
            return result

        return rename

    monkeypatch.setattr(os, "replace", dying("replace"))
    with pytest.raises(SystemExit):
        save_checkpoint(state(3), path)
    monkeypatch.undo()
    assert epoch(path) == (3 if at == 5 else 2)
    save_checkpoint(state(4), path)
    assert epoch(path) == 4


def test_the_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    path = saved(tmp_path, 2)
    lines = (tmp_path / DIGESTS).read_text(encoding="utf-8").splitlines()
    assert [line.split("  ")[1] for line in lines] == [path.name, previous(path).name]
    assert all(len(line.split("  ")[0]) == 64 for line in lines)
