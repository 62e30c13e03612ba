"""Self-contained `train.json` and `inference.json` of a bundle, generated from its commented YAML sources.

Most consumers of MONAI bundles open exactly one of these two JSON files, people read and edit the YAML::

    python -m mdl_monai.release.flatten bundles/NAME
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_write_text

SOURCES = {"train.json": ("common.yaml", "train.yaml"), "inference.json": ("common.yaml", "inference.yaml")}

_NUMBER_AS_TEXT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def flatten_config(bundle: Path, name: str) -> str:
    """Return the text of the flattened config ``name``, a key of `SOURCES`; files are merged in their order.

    Raises:
        InputError: a source is missing, is not YAML, extends a key that does not exist, or holds something
            that would not be the same in JSON.
    """
    files = [bundle / "configs" / source for source in SOURCES[name]]
    for file in files:
        if not file.is_file():
            raise InputError(f"{name} is generated from {file.name}, which is missing", where=file)
    where = " + ".join(str(file) for file in files)
    parser = ConfigParser()
    try:
        with warnings.catch_warnings():
            # MONAI only warns where `+key` finds nothing to extend
            warnings.simplefilter("error", UserWarning)
            parser.read_config(files)
    except (yaml.YAMLError, UserWarning, ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(f"the sources of {name} cannot be merged: {error}", where=where) from error
    config = {key: value for key, value in parser.get().items() if key != ConfigParser.meta_key}
    for key, text in _numbers_as_text(config):
        raise InputError(
            "YAML reads this number as text",
            where=f"{where}, {key}",
            found=text,
            remedy="write the mantissa with a point and the exponent with a sign, such as 1.0e-3",
        )
    try:
        dumped = json.dumps(config, indent=4, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot hold a value of its sources: {error}", where=where) from error
    if json.loads(dumped) != config:
        raise InputError(
            f"{name} would differ from its sources: JSON has only text as keys",
            where=where,
            remedy="quote the keys that are numbers",
        )
    return dumped


def drifted(bundle: Path) -> list[Path]:
    """Return the flattened configs of ``bundle`` that are missing or not what their sources give."""
    paths = [bundle / "configs" / name for name in SOURCES]
    return [
        path
        for path in paths
        if not path.is_file() or path.read_text(encoding="utf-8") != flatten_config(bundle, path.name)
    ]


def _numbers_as_text(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(config, str) and _NUMBER_AS_TEXT.fullmatch(config):
        yield key, config
    elif isinstance(config, dict | list):
        for name, value in config.items() if isinstance(config, dict) else enumerate(config):
            yield from _numbers_as_text(value, f"{key}#{name}" if key else str(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.flatten",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of bundles")
    for bundle in parser.parse_args(arguments).bundles:
        for name in SOURCES:
            atomic_write_text(bundle / "configs" / name, flatten_config(bundle, name))
            sys.stdout.write(f"{bundle / 'configs' / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
