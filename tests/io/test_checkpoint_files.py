from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.io.checkpoint_files import DIGESTS, load_checkpoint, previous, save_checkpoint, save_tensors


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


def die_while_saving(n: int, path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Of the renames of digests, of the one before, of the new one: the process dies before or after each."""
    steps = iter(range(6))
    whole = os.replace

    def rename(*arguments: Any, **options: Any) -> None:
        if next(steps) == at:
            raise SystemExit
        whole(*arguments, **options)
        if next(steps) == at:
            raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(os, "replace", rename)
        save_checkpoint(state(n), path)


@pytest.mark.parametrize("at", range(6))
def test_a_death_between_any_two_renames_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    path = saved(tmp_path, 2)
    die_while_saving(3, path, monkeypatch, at)
    assert epoch(path) == (3 if at == 5 else 2)
    save_checkpoint(state(4), path)
    assert epoch(path) == 4


@pytest.mark.parametrize("first", range(6))
def test_deaths_in_two_saves_in_a_row_leave_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """The digest of what the first one did not finish must not take the place of that of what is there."""
    for second in range(4):  # where there is nothing to keep under another name, there are two renames
        path = saved(tmp_path / str(second), 2)
        die_while_saving(3, path, monkeypatch, first)
        before = epoch(path)
        die_while_saving(4, path, monkeypatch, second)
        assert epoch(path) in (before, 4)


def test_a_damaged_one_does_not_take_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, 2)
    path.write_bytes(path.read_bytes()[:-1])
    die_while_saving(2, path, monkeypatch, 1)
    assert epoch(path) == 1
    save_checkpoint(state(2), path)
    assert epoch(path) == 2
    path.unlink()
    assert epoch(path) == 1


def test_without_digests_the_sums_in_the_file_tell_a_damage(tmp_path: Path) -> None:
    path = saved(tmp_path, 2)
    (tmp_path / DIGESTS).unlink()
    content = bytearray(path.read_bytes())
    content[content.index(torch.tensor([2.0, 2.0]).numpy().tobytes())] ^= 1  # torch alone would load it
    path.write_bytes(content)
    assert epoch(path) == 1


def test_a_missing_one_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path, 2)
    path.unlink()
    assert epoch(path) == 1
    assert "checkpoint.pt is missing" in caplog.text


def test_a_disk_that_is_full_at_the_sync_leaves_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, 2)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left.*/checkpoint\.pt"):
        save_checkpoint(state(3), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_killed_processes_left_is_taken_away(tmp_path: Path) -> None:
    path = saved(tmp_path, 1)
    (tmp_path / ".0123abcd.checkpoint.pt").write_bytes(b"half")
    (tmp_path / ".mine.checkpoint.pt").write_bytes(b"else")
    save_checkpoint(state(2), path)
    assert {file.name for file in tmp_path.glob(".*")} == {".mine.checkpoint.pt"}


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    for name in ("model.pt", "other_model.pt"):
        save_tensors(state(1), tmp_path / name)
    assert (tmp_path / "model.pt").read_bytes() == (tmp_path / "other_model.pt").read_bytes()


def test_the_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    path = saved(tmp_path, 2)
    lines = (tmp_path / DIGESTS).read_text(encoding="utf-8").splitlines()
    assert [line.split("  ")[1] for line in lines] == [path.name, previous(path).name]
    assert all(len(line.split("  ")[0]) == 64 for line in lines)


def test_a_checkpoint_that_could_run_code_is_refused_without_torchs_advice(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": Path("somewhere")}, path)
    with pytest.raises(InputError, match="could run code") as error:
        load_checkpoint(path)
    assert "weights_only" not in str(error.value)
