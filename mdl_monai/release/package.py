"""Wheel and source archive of mdl_monai, built from what is released of its checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mdl_monai
from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path
from mdl_monai.release.archive import release_files

SDIST, WHEEL = (
    f"mdl_monai-{mdl_monai.__version__}.tar.gz",
    f"mdl_monai-{mdl_monai.__version__}-py3-none-any.whl",
)
ARCHIVES = (SDIST, WHEEL)
BUILD = (
    "import sys; from setuptools import build_meta as b; o = sys.argv[1]; b.build_sdist(o); b.build_wheel(o)"
)


def build_package(root: Path, output_dir: Path) -> list[Path]:
    """Build the package in the checkout ``root``, in a copy: leftovers of other builds would get into the wheel.

    Raises:
        InputError: the build fails, gives another version than `mdl_monai.__version__`, or forgets files.
    """
    settings = root / "pyproject.toml"
    files = [f"mdl_monai/{name}" for name in release_files(root / "mdl_monai")]
    with tempfile.TemporaryDirectory() as folder:
        draft, built = Path(folder, "source"), Path(folder, "built")
        for name in [*files, settings.name, "README.md", "LICENSE"]:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, draft / name)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}  # times in the wheel: 1980
        ended = subprocess.run(
            [sys.executable, "-c", BUILD, str(built)],
            cwd=draft,
            env=environment,
            capture_output=True,
            encoding="utf-8",
        )
        if ended.returncode:
            raise InputError("the package does not build", where=root, found=ended.stderr[-2000:])
        names = sorted(path.name for path in built.iterdir())
        if names != sorted(ARCHIVES):
            raise InputError(
                "the package has another version",
                where=settings,
                expected=", ".join(ARCHIVES),
                found=", ".join(names),
            )
        with zipfile.ZipFile(built / WHEEL) as archive:
            forgotten = sorted(set(files) - set(archive.namelist()))
        if forgotten:
            raise InputError(
                "the wheel lacks files of the package", where=settings, found=", ".join(forgotten),
                remedy="name them under tool.setuptools.package-data",
            )  # fmt: skip
        for name in ARCHIVES:
            with atomic_path(output_dir / name) as temporary:
                shutil.copyfile(built / name, temporary)
    return [output_dir / name for name in ARCHIVES]
