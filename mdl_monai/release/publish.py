"""Make a release of bundles: check them, zip them, export their networks, index them, and build the package.

::

    python -m mdl_monai.release.publish bundles/* [--output_dir dist] [--to PLACE] [--dry_run]

Into the output folder go, for each bundle, `NAME_vVERSION.zip`, the same bytes from the same commit, and the network
as `.ts` (TorchScript; in a bundle its place is models/model.ts), `.pt2` and `.onnx`; for all of them
`model_info.json`, MONAI's index; and the wheel and source archive of mdl_monai.

Nothing is uploaded. `--to github:OWNER/REPO@TAG` or `--to huggingface:OWNER/NAME` prints the commands that do it, and
in the index names the release as the source. With `--dry_run` nothing is written, either: it lists what would be.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import mdl_monai
from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text
from mdl_monai.release import check
from mdl_monai.release.archive import release_files, sha256, write_zip
from mdl_monai.release.exports import export_bundle
from mdl_monai.release.fetch import INDEX
from mdl_monai.release.figures import load_json

ROOT = Path(__file__).resolve().parents[2]  # the checkout, where mdl_monai is not an installed copy
EARLIER = Path("models", INDEX)  # where MONAI looks for it in a repository
BUILD = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1]); b.build_wheel(sys.argv[1])"


def versioned_name(bundle: Path) -> str:
    """Name of the bundle's files in a release, `NAME_vVERSION`.

    Raises:
        InputError: the bundle requires another version of mdl_monai than this one.
    """
    metadata = load_json(bundle / "configs" / "metadata.json")
    required = metadata.get("required_packages_version", {}).get("mdl_monai")
    if required != mdl_monai.__version__:
        raise InputError(
            "the bundle requires another version of mdl_monai than this", where=bundle / "configs" / "metadata.json",
            expected=f"required_packages_version: mdl_monai {mdl_monai.__version__}", found=required,
        )  # fmt: skip
    return f"{bundle.resolve().name}_v{metadata['version']}"


def write_index(zips: Sequence[Path], path: Path, source: str, earlier: Path) -> None:
    """Write MONAI's index of the zips, after what the index of earlier releases holds, if there is one.

    Args:
        zips: the new zips.
        path: the index to write.
        source: address below which the zips will be; empty: they are beside the index.
        earlier: index of earlier releases.

    Raises:
        InputError: a zip is not the one that was released under its version.
    """
    index = load_json(earlier) if earlier.is_file() else {}
    for file in zips:
        entry = {"checksum": sha256(file), "source": f"{source.rstrip('/')}/{file.name}" if source else file.name}
        if index.get(file.stem, entry)["checksum"] != entry["checksum"]:
            raise InputError(
                "this version of the bundle is released with other content", where=earlier, found=file.stem,
                remedy="raise the version in the bundle's metadata.json, and say in its changelog what is new",
            )  # fmt: skip
        index[file.stem] = entry
    atomic_write_text(path, json.dumps(index, indent=4, sort_keys=True) + "\n")


def build_package(root: Path, output_dir: Path) -> list[Path]:
    """Build source archive and wheel of the package in the checkout ``root``, from its released files alone.

    Raises:
        InputError: the build fails, gives another version than `mdl_monai.__version__`, or forgets files.
    """
    files = [f"mdl_monai/{name}" for name in release_files(root / "mdl_monai")]
    with tempfile.TemporaryDirectory() as folder:
        draft, built = Path(folder, "source"), Path(folder, "built")
        for name in [*files, "pyproject.toml", "README.md", "LICENSE"]:  # leftovers of other builds stay behind
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, draft / name)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}  # times in the wheel: 1980
        ended = subprocess.run(
            [sys.executable, "-c", BUILD, str(built)], cwd=draft, env=environment, capture_output=True, text=True
        )
        if ended.returncode:
            raise InputError("the package does not build", where=root, found=ended.stderr[-2000:])
        archives = sorted(built.iterdir())
        wheel = built / f"mdl_monai-{mdl_monai.__version__}-py3-none-any.whl"
        if wheel not in archives:
            raise InputError(
                "pyproject.toml has another version than the package", where=root / "pyproject.toml",
                expected=mdl_monai.__version__, found=", ".join(path.name for path in archives),
            )  # fmt: skip
        with zipfile.ZipFile(wheel) as archive:
            if forgotten := set(files) - set(archive.namelist()):
                raise InputError(
                    "the wheel lacks files of the package", where=root / "pyproject.toml",
                    found=", ".join(sorted(forgotten)), remedy="name them under tool.setuptools.package-data",
                )  # fmt: skip
        for archive_path in archives:
            with atomic_path(output_dir / archive_path.name) as temporary:
                shutil.copyfile(archive_path, temporary)
    return [output_dir / path.name for path in archives]


def commands_of(place: str, zips: Sequence[Path], files: Sequence[Path]) -> tuple[str, list[str]]:
    """Address of the files in a release, and the commands that bring them there.

    Args:
        place: `github:OWNER/REPO@TAG`, `huggingface:OWNER/NAME`, an address, or nothing.
        zips: of the bundles.
        files: all of the release.

    Raises:
        InputError: another place, or several bundles for one repository of Hugging Face.
    """
    if not place or re.fullmatch(r"https?://\S+", place):
        return place, []
    if found := re.fullmatch(r"github:([\w.-]+/[\w.-]+)@([\w.-]+)", place):
        repo, tag = found.groups()
        index = next(path for path in files if path.name == INDEX)
        return f"https://github.com/{repo}/releases/download/{tag}", [
            f"cp {quote(str(index))} {EARLIER}  # commit it, tag the commit {tag}, push both: MONAI reads it there",
            f"gh release create {tag} --repo {repo} --verify-tag --generate-notes {join(map(str, files))}",
            f"# or, if the release exists: gh release upload {tag} --repo {repo} and the same files",
        ]
    if found := re.fullmatch(r"huggingface:([\w.-]+/[\w.-]+)", place):
        if len(zips) != 1:
            raise InputError(
                "a repository of Hugging Face holds one bundle", found=", ".join(path.name for path in zips),
                remedy="publish the bundles one by one, each to a repository of its own",
            )  # fmt: skip
        name, version = zips[0].stem.split("_v")
        push = f"push_to_hf_hub('{found[1]}', '{name}', 'upload', private=False, version='{version}')"
        return "", [
            "pip install huggingface_hub && hf auth login",
            f"python -m zipfile -e {quote(str(zips[0]))} upload",
            f'python -c "from monai.bundle import push_to_hf_hub; {push}"',
        ]
    raise InputError(
        "unknown place for a release", expected="github:OWNER/REPO@TAG, huggingface:OWNER/NAME or an address",
        found=place,
    )  # fmt: skip


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _list_release(bundles: dict[Path, Path], commands: Sequence[str]) -> None:
    """Say what a release would hold."""
    for path, bundle in bundles.items():
        files = release_files(bundle)
        total = sum((bundle / name).stat().st_size for name in files)
        _say(f"{path}  {len(files)} files, {total} bytes")
        for name in files:
            _say(f"    {bundle.resolve().name}/{name}  {(bundle / name).stat().st_size}")
        _say(f"{path.with_suffix('')}.ts, .pt2, .onnx, as far as the network allows")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of bundles")
    parser.add_argument("--output_dir", type=Path, default=Path("dist"), help="where the release goes")
    parser.add_argument("--to", default="", metavar="PLACE", help="github:..., huggingface:... or an address")
    parser.add_argument("--dry_run", action="store_true", help="write nothing, list what would be written")
    options = parser.parse_args(arguments)
