"""A bundle compared with what was released: what differs is named, and nothing of it is followed or run."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from mdl_monai import InputError
from mdl_monai.release.archive import write_zip
from mdl_monai.release.fetch import INDEX
from mdl_monai.release.verify import MAX_LINES, main

NAME, VERSION = "head_mr_identity", "0.1.0"
KEY = f"{NAME}_v{VERSION}"


@pytest.fixture
def release(skeleton: Path, tmp_path: Path) -> Path:
    """A folder with the skeleton's zip and its index."""
    folder = tmp_path / "release"
    write_zip(skeleton, folder / f"{KEY}.zip")
    checksum = hashlib.sha256((folder / f"{KEY}.zip").read_bytes()).hexdigest()
    entry = {"checksum": checksum, "source": f"{KEY}.zip"}
    (folder / INDEX).write_text(json.dumps({KEY: entry}), encoding="utf-8")
    return folder


def digest(release: Path) -> str:
    return hashlib.sha256((release / f"{KEY}.zip").read_bytes()).hexdigest()


def ways(release: Path) -> dict[str, list[str]]:
    """The ways to name the release."""
    source, sha256 = ["--source", str(release)], ["--digest", digest(release)]
    return {
        "source": source,
        "digest": sha256,
        "both": [*source, *sha256],
        "version": [*source, "--version", VERSION],
    }


@pytest.mark.parametrize("way", ["source", "digest", "both", "version"])
def test_an_untouched_bundle_is_as_it_was_released(
    release: Path, skeleton_copy: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(skeleton_copy), *ways(release)[way]]) == 0
    assert capsys.readouterr().out == f"{NAME} is as it was released\n"


@pytest.mark.parametrize(
    "name",
    [
        "configs/inference.json",
        "configs/train.yaml",
        "configs/metadata.json",
        "configs/logging.conf",
        "models/model.pt",
    ],
)
def test_one_changed_byte_is_named_wherever_it_is(
    release: Path, skeleton_copy: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((skeleton_copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (skeleton_copy / name).write_bytes(content)
    status = (release / f"{KEY}.zip").stat()
    os.utime(skeleton_copy / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main([str(skeleton_copy), *ways(release)["version"]]) == 1
    assert capsys.readouterr().out == f"changed     {name}\n{NAME} is not as it was released\n"
    assert main([str(skeleton_copy), *ways(release)["digest"]]) == 1


def test_missing_additional_and_linked_files_are_named(
    release: Path, skeleton_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (skeleton_copy / "LICENSE").unlink()
    for name in (".git/config", "configs/__pycache__/a.pyc", "scripts/new.py"):
        (skeleton_copy / name).parent.mkdir(exist_ok=True)
        (skeleton_copy / name).write_text("x")
    (skeleton_copy / "configs" / "train.yaml").rename(tmp_path / "train.yaml")
    (skeleton_copy / "configs" / "train.yaml").symlink_to(tmp_path / "train.yaml")
    (skeleton_copy / "docs" / "more").symlink_to("/")
    os.mkfifo(skeleton_copy / "models" / "pipe")
    assert main([str(skeleton_copy), *ways(release)["both"]]) == 1
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert sorted(lines) == [
        "additional  .git/config",
        "additional  configs/__pycache__/a.pyc",
        "additional  scripts/new.py",
        "missing     LICENSE",
        "no file     configs/train.yaml",
        "no file     docs/more",
        "no file     models/pipe",
    ]
    assert main([str(skeleton_copy), *ways(release)["digest"]]) == 1


def test_the_findings_fit_on_a_page_and_hold_no_control_characters(
    release: Path, skeleton_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (skeleton_copy / "\x1b[2J\n").write_text("x")
    for n in range(100):
        (skeleton_copy / f"more{n}").write_text("x")
    assert main([str(skeleton_copy), "--source", str(release)]) == 1
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert len(lines) == MAX_LINES + 2 and lines[-2] == f"and {101 - MAX_LINES} more"
    assert "\x1b" not in "".join(lines) and lines[0].startswith(r"'additional  \x1b[2J\n")


def test_the_digest_goes_before_the_index(release: Path, skeleton_copy: Path) -> None:
    with pytest.raises(InputError, match="the zip is not the one that was released"):
        main([str(skeleton_copy), "--source", str(release), "--digest", "0" * 64])


def test_git_in_the_bundle_is_not_asked(
    release: Path, skeleton_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of a checkout can name commands."""
    (tmp_path / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for way in ways(release).values():
        main([str(skeleton_copy), *way])
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "--digest", "0"], "no such folder: nowhere"),
        (["."], "name the release by --source, --digest or both"),
    ],
)
def test_wrong_use_ends_with_exit_code_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and re.search(told, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [("{", "cannot be read as JSON"), ('{"version": "9"}', "does not list this version")],
)
def test_a_version_that_is_not_to_be_had_is_wrong_use(
    release: Path, skeleton_copy: Path, metadata: str, told: str
) -> None:
    (skeleton_copy / "configs" / "metadata.json").write_text(metadata)
    with pytest.raises(InputError, match=told) as caught:
        main([str(skeleton_copy), "--source", str(release)])
    assert caught.value.exit_code == 2
    assert main([str(skeleton_copy), "--source", str(release), "--version", VERSION]) == 1
