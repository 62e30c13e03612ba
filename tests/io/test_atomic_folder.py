from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_folder


def never(_: Path) -> bool:
    return False


def always(_: Path) -> bool:
    return True


def contents(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): f.read_text(encoding="utf-8") for f in folder.rglob("*") if f.is_file()
    }


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_or_empty_folder_is_filled_without_debris(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "out" / "case"
    if exists:
        target.mkdir(parents=True)
    with atomic_folder(target, never) as temporary:
        (temporary / "a").write_text("1")
        (temporary / "sub").mkdir()
        (temporary / "sub" / "b").write_text("2")
        assert not contents(target) if exists else not target.exists()
    assert contents(tmp_path / "out") == {"case/a": "1", "case/sub/b": "2"}
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["case"]


def test_an_old_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "case"
    for names in ("abc", "cd"):
        with atomic_folder(target, lambda folder: folder == target) as temporary:
            for name in names:
                (temporary / name).write_text(names)
    assert contents(tmp_path) == {"case/c": "cd", "case/d": "cd"}


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_folder_and_no_debris(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "a").write_text("old")
    with pytest.raises(type(error)), atomic_folder(tmp_path / "case", always) as temporary:
        (temporary / "a").write_text("new")
        raise error
    assert contents(tmp_path) == {"case/a": "old"}


def test_a_failing_rename_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "case"
    target.mkdir()
    (target / "a").write_text("old")
    rename = Path.rename

    def fails_once(path: Path, to: Path) -> Path:
        if ".new." in path.name:
            raise OSError("disk full")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(OSError, match="disk full"), atomic_folder(target, always) as temporary:
        (temporary / "a").write_text("new")
    assert contents(tmp_path) == {"case/a": "old"}


def make_file(target: Path) -> None:
    target.write_text("mine", encoding="utf-8")


def make_folder(target: Path) -> None:
    target.mkdir()
    (target / "a").write_text("mine")


def make_link(target: Path) -> None:
    make_folder(target.with_name("elsewhere"))
    target.symlink_to(target.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("make", "may_replace"), [(make_file, always), (make_folder, never), (make_link, always)]
)
def test_what_may_not_be_replaced_stays(
    tmp_path: Path, make: Callable[[Path], None], may_replace: Callable[[Path], bool]
) -> None:
    make(tmp_path / "case")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="something else"), atomic_folder(tmp_path / "case", may_replace):
        raise AssertionError("not reached")
    assert contents(tmp_path) == before


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "case", never):
        pass
    assert not list(tmp_path.iterdir())
