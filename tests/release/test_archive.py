"""Zips of bundles: the same bytes from the same files, and what git holds alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from mdl_monai import InputError
from mdl_monai.io.checkpoint_files import sha256
from mdl_monai.release.archive import large_files, release_files, write_zip


def git(folder: Path, *arguments: str) -> None:
    settings = ("user.name=n", "user.email=e@example.org", "core.hooksPath=/dev/null", "commit.gpgsign=false")
    command = ["git", "-C", str(folder)]
    for setting in settings:
        command += ["-c", setting]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run([*command, *arguments], check=True, capture_output=True, env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `project/thing` with files in two levels, one of them hidden."""
    folder = tmp_path / "project" / "thing"
    for name in ("b.txt", "a/z.pt", "a.txt", ".hidden", "a/__pycache__/m.cpython-311.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 40)
    return folder


@pytest.fixture
def checkout(folder: Path) -> Path:
    """The folder in a git checkout that ignores *.tmp and ignored/, all committed."""
    root = folder.parent
    git(root, "init", "-q")
    (root / ".gitignore").write_text("*.tmp\nignored/\n__pycache__/\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "all")
    return folder


def names(folder: Path) -> list[str]:
    return [str(name) for name in release_files(folder)]


def test_zip_is_the_same_whenever_and_wherever_it_is_made(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / folder.name
    for name in ("a/z.pt", "a.txt", "b.txt"):  # in another order, of other times and permissions
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, copy / name)
        os.utime(copy / name, (1e9, 1e9))
        (copy / name).chmod(0o600)
    write_zip(folder, tmp_path / "1.zip")
    write_zip(copy, tmp_path / "2.zip")
    assert sha256(tmp_path / "1.zip") == sha256(tmp_path / "2.zip")
    (copy / "a.txt").write_text("other")
    write_zip(copy, tmp_path / "2.zip")
    assert sha256(tmp_path / "1.zip") != sha256(tmp_path / "2.zip")


def test_zip_holds_the_files_below_the_folders_name(folder: Path, tmp_path: Path) -> None:
    write_zip(folder, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == ["thing/a/z.pt", "thing/a.txt", "thing/b.txt"]
        assert archive.read("thing/a/z.pt") == (folder / "a" / "z.pt").read_bytes()
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}


def test_in_a_checkout_the_committed_files_count(checkout: Path) -> None:
    assert names(checkout) == ["a/z.pt", "a.txt", "b.txt"]
    (checkout / "output.tmp").write_text("ignored by git")
    assert names(checkout) == ["a/z.pt", "a.txt", "b.txt"]


@pytest.mark.parametrize("name", ["b.txt", "new.txt"])
def test_what_is_not_committed_is_refused(checkout: Path, name: str) -> None:
    (checkout / name).write_text("changed")
    with pytest.raises(InputError, match=rf"(?s)differs from the last commit.*{name}"):
        release_files(checkout)


def test_changes_elsewhere_in_the_checkout_do_not_matter(checkout: Path) -> None:
    (checkout.parent / "other.txt").write_text("new")
    assert len(names(checkout)) == 3


def test_a_folder_that_git_ignores_is_taken_as_it_is(checkout: Path) -> None:
    ignored = Path(shutil.move(checkout, checkout.parent / "ignored" / "thing"))
    assert names(ignored) == ["a/z.pt", "a.txt", "b.txt"]


def test_variables_of_a_hook_do_not_mislead(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert len(names(checkout)) == 3


def test_without_git_all_files_count(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "new.txt").write_text("x")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names(checkout) == ["a/z.pt", "a.txt", "b.txt", "new.txt"]


def test_a_checkout_that_git_does_not_read_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho 'fatal: detected dubious ownership' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(InputError, match="(?s)git does not read the checkout.*dubious ownership"):
        release_files(folder)


def test_large_files_that_git_ignores_are_released_too(checkout: Path) -> None:
    (checkout / "large_files.yml").write_text("large_files:\n- path: a/big.tmp\n  url: https://example.org\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "list")
    with pytest.raises(InputError, match=r"(?s)a large file of the bundle is missing.*a/big\.tmp"):
        release_files(checkout)
    (checkout / "a" / "big.tmp").write_text("big")
    assert names(checkout) == ["a/big.tmp", "a/z.pt", "a.txt", "b.txt", "large_files.yml"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "large_files: 3",
        "large_files: [a]",
        "a: [",
        "[" * 600,
        "large_files: [{url: x}]",
        "large_files: [{path: 3}]",
        "large_files: [{path: !!python/object/apply:os.getcwd []}]",
    ],
)
def test_a_list_of_large_files_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "large_files.yaml").write_text(text)
    with pytest.raises(InputError, match=r"(?s)list of large files cannot be read.*large_files\.yaml"):
        large_files(folder)
