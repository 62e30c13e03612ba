"""Make a release of bundles: check and zip them, export their networks, index them, build the package.

::

    python -m mdl_monai.release.publish bundles/* [--output_dir dist] [--to PLACE] [--dry_run]

Into the output folder go, for each bundle, `NAME_vVERSION.zip`, the same bytes from the same commit, and its network
as `.ts` (TorchScript; in a bundle it would be models/model.ts), `.pt2` and `.onnx`, as far as the network allows; for
all of them `model_info.json`, MONAI's index, after what models/model_info.json has of earlier releases; and wheel and
source archive of mdl_monai. The release is made from the last commit, so everything must be committed.

Nothing is uploaded. PLACE is where a person is going to put the files, and printed are the commands to type:

    github:OWNER/REPO@TAG   gh release create TAG ..., after the index is committed as models/model_info.json
    huggingface:OWNER/NAME  MONAI's push_to_hf_hub, from Python: its command line lacks it; one bundle each
    https://...             none: copy the files there

For the first and the last, the index names the address as the bundles' source. `--dry_run` writes nothing, and lists
what would go where.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import mdl_monai
from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.io.checkpoint_files import sha256
from mdl_monai.release import check
from mdl_monai.release.archive import release_files, write_zip
from mdl_monai.release.exports import SUFFIXES, export_bundle
from mdl_monai.release.fetch import INDEX
from mdl_monai.release.figures import load_json
from mdl_monai.release.package import ARCHIVES, build_package

ROOT = Path(__file__).resolve().parents[2]  # a checkout, unless mdl_monai is an installed copy
EARLIER = Path("models", INDEX)  # where MONAI looks for the index of a repository


def versioned_name(bundle: Path) -> str:
    """Name of the bundle's files in a release, NAME_vVERSION.

    Raises:
        InputError: the bundle needs another version of mdl_monai than this one.
    """
    path = bundle / "configs" / "metadata.json"
    metadata = load_json(path)
    needed = metadata.get("required_packages_version", {}).get("mdl_monai")
    if needed != mdl_monai.__version__:
        raise InputError(
            "the bundle needs another mdl_monai than this", where=path, found=needed,
            expected=f"{mdl_monai.__version__} in required_packages_version",
        )  # fmt: skip
    return f"{bundle.resolve().name}_v{metadata['version']}"


def write_index(path: Path, zips: Sequence[Path], source: str, earlier: Path) -> None:
    """Write MONAI's index: that of ``earlier`` releases, if there is one, and the new zips with their addresses.

    Raises:
        InputError: a zip is not the one that was released under its name.
    """
    index = load_json(earlier) if earlier.is_file() else {}
    for file in zips:
        address = f"{source.rstrip('/')}/{file.name}" if source else file.name
        entry = {"checksum": sha256(file), "source": address}
        if index.get(file.stem, entry)["checksum"] != entry["checksum"]:
            raise InputError(
                "this version of the bundle was released with other content", where=earlier, found=file.stem,
                remedy="raise the version in its metadata.json, and say in the changelog what is new",
            )  # fmt: skip
        index[file.stem] = entry
    atomic_write_text(path, json.dumps(index, indent=4, sort_keys=True) + "\n")


def source_of(place: str) -> str:
    """Address at which the files will be; empty if they will not be files at an address.

    Raises:
        InputError: no such kind of place.
    """
    if found := re.fullmatch(r"github:([\w.-]+/[\w.-]+)@([\w.-]+)", place):
        return f"https://github.com/{found[1]}/releases/download/{found[2]}"
    if place and not re.fullmatch(r"https?://\S+|huggingface:[\w.-]+/[\w.-]+", place):
        raise InputError(
            "unknown place for a release", found=place,
            expected="github:OWNER/REPO@TAG, huggingface:OWNER/NAME or https://...",
        )  # fmt: skip
    return place if place.startswith("http") else ""


def commands(place: str, files: Sequence[Path]) -> list[str]:
    """What a person types to bring the files of a release to its place.

    Raises:
        InputError: several bundles for one repository of Hugging Face.
    """
    kind, _, address = place.partition(":")
    zips = [path for path in files if path.suffix == ".zip"]
    if kind == "github":
        repository, tag = address.split("@")
        index = next(str(path) for path in files if path.name == INDEX)
        return [
            f"mkdir -p {EARLIER.parent} && cp {shlex.quote(index)} {EARLIER}",
            f"# commit that, tag the commit {tag}, push both: MONAI reads the index there",
            f"gh release create {tag} --repo {repository} --verify-tag --generate-notes "
            f"{shlex.join(map(str, files))}",
            f"# if the release exists, with the same files: gh release upload {tag} --repo {repository} ...",
        ]
    if kind == "huggingface":
        if len(zips) != 1:
            raise InputError(
                "a repository of Hugging Face holds one bundle", found=f"{len(zips)} bundles",
                remedy="publish them one by one",
            )  # fmt: skip
        name, version = zips[0].stem.rsplit("_v", 1)
        call = f"push_to_hf_hub('{address}', '{name}', 'upload', private=False, version='{version}')"
        return [
            "pip install huggingface_hub && hf auth login",
            f"python -m zipfile -e {shlex.quote(str(zips[0]))} upload",
            f'python -c "from monai.bundle import push_to_hf_hub; {call}"',
        ]
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of bundles")
    parser.add_argument("--output_dir", type=Path, default=Path("dist"), help="where the release goes")
    parser.add_argument("--to", default="", metavar="PLACE", help="where a person will put it, see above")
    parser.add_argument("--dry_run", action="store_true", help="write nothing, list what would go where")
    options = parser.parse_args(arguments)
    source, output_dir = source_of(options.to), options.output_dir
    zips = {output_dir / f"{versioned_name(bundle)}.zip": bundle for bundle in options.bundles}
    planned = [path.with_name(path.stem + suffix) for path in zips for suffix in (".zip", *SUFFIXES)]
    planned += [output_dir / INDEX]
    # what would be refused is refused before the work is done
    contents = {path: release_files(bundle) for path, bundle in zips.items()}
    if has_sources := (ROOT / "pyproject.toml").is_file():
        release_files(ROOT / "mdl_monai")
        planned += [output_dir / name for name in ARCHIVES]
    to_type = commands(options.to, planned)
    if options.dry_run:
        for path, names in contents.items():
            _say(f"{path} would hold {', '.join(map(str, names))}")
        for path in planned:
            _say(f"{path} would go to {options.to or output_dir}")
    else:
        if check.main(list(map(str, options.bundles))):
            return 1
        for path, bundle in zips.items():
            write_zip(bundle, path)
        write_index(output_dir / INDEX, list(zips), source, EARLIER)
        for path in (*zips, output_dir / INDEX):
            _say_written(path)
        for path, bundle in zips.items():
            for export, remark in export_bundle(bundle, path.with_suffix("")):
                _say_written(export, remark)
        if has_sources:
            for path in build_package(ROOT, output_dir):
                _say_written(path)
        to_type = commands(options.to, [path for path in planned if path.is_file()])
    _say("\n".join(["", "To upload it, type", *to_type] if to_type else ["", "Nothing is uploaded."]))
    return 0


def _say_written(path: Path, remark: str = "") -> None:
    size = f"{path.stat().st_size} bytes, SHA-256 {sha256(path)}" if path.is_file() else ""
    _say("  ".join(filter(None, (str(path), size, remark))))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # MONAI warns in the log of what is reported here
    sys.exit(main())
