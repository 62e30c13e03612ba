"""Wheel and source archive: all that belongs to the package, nothing that another build left behind."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

import mdl_monai
from mdl_monai import InputError
from mdl_monai.release.package import ARCHIVES, SDIST, WHEEL, build_package

ROOT = Path(__file__).resolve().parents[2]


def sources(folder: Path) -> Path:
    """What a build needs of this checkout, with a package of a few files."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in (
        "__init__.py",
        "py.typed",
        "release/__init__.py",
        "release/a.json",
        "release/skeleton/configs/a.conf",
    ):
        (folder / "mdl_monai" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mdl_monai" / name).write_text("")
    return folder


def test_the_archives_hold_all_of_this_package(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    sources(root)
    shutil.copytree(ROOT / "mdl_monai", root / "mdl_monai", dirs_exist_ok=True)
    left = root / "build" / "lib" / "mdl_monai" / "left_over.py"
    left.parent.mkdir(parents=True)
    left.write_text("")
    assert build_package(root, tmp_path / "dist") == [tmp_path / "dist" / name for name in ARCHIVES]
    files = {
        p.relative_to(root).as_posix()
        for p in (root / "mdl_monai").rglob("*")
        if p.is_file() and p.parent.name != "__pycache__"
    }
    assert {
        "mdl_monai/py.typed",
        "mdl_monai/release/metadata_schema.json",
        "mdl_monai/release/skeleton/configs/logging.conf",
    } < files
    with zipfile.ZipFile(tmp_path / "dist" / WHEEL) as wheel:
        assert {name for name in wheel.namelist() if name.startswith("mdl_monai/")} == files
    with tarfile.open(tmp_path / "dist" / SDIST) as archive:
        base = f"mdl_monai-{mdl_monai.__version__}"
        held = {name for name in archive.getnames() if name.startswith(f"{base}/mdl_monai/")}
    assert held >= {f"{base}/{name}" for name in files}
    assert not any("left_over" in name for name in held)
    assert {p.name for p in root.iterdir()} == {
        "mdl_monai",
        "build",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"release/*.json", ', "", r"lacks files of the package.*found: mdl_monai/release/a\.json"),
        ('"release/skeleton/**/*"', "", r"lacks files.*found: mdl_monai/release/skeleton/configs/a\.conf"),
        (f'version = "{mdl_monai.__version__}"', 'version = "9.8"', r"another version.*found: .*9\.8"),
        ("[project]", "[project", "does not build"),
    ],
)
def test_a_package_that_is_not_right_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    root = sources(tmp_path / "checkout")
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert old in text
    (root / "pyproject.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=f"(?s){message}"):
        build_package(root, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()
