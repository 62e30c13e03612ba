"""Options as they come from a command line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mdl_monai.errors import InputError

T = TypeVar("T")

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def flag(value: object) -> bool:
    """A yes-or-no option as a bool: the command line hands `--baselines true` over as the string "true".

    Raises:
        InputError: for anything but true, false, yes, no, 1 and 0.
    """
    word = str(value).strip().lower()
    if word not in _WORDS:
        raise InputError("a yes-or-no option has another value", expected="true or false", found=value)
    return _WORDS[word]


def optional(value: str | None) -> str | None:
    """An option that may be left out: `--mask_file null` comes as the string "null" and means None."""
    return None if value is None or str(value).strip().lower() in ("", "null", "none") else value


def choice(name: object, choices: Mapping[str, T], option: str) -> T:
    """What an option names among several: `--registration none` comes as the string "none", or as None.

    Raises:
        InputError: a name that is none of them.
    """
    key = str(name).strip().lower()
    if key not in choices:
        raise InputError(f"unknown {option}", expected=" or ".join(choices), found=name)
    return choices[key]


def sigma_scale(value: object) -> float:
    """Factor on an expected error: a number, or a ``reliability.json`` that tells how far it was off.

    Raises:
        InputError: neither a number above 0 nor such a file.
    """
    try:
        factor = float(str(value))
    except ValueError:
        try:
            told = json.loads(Path(str(value)).read_text(encoding="utf-8"))
            factor = float(told["error_to_sigma"]) * float(told["scale"])  # of a run that had one already
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                "the scale of the expected error cannot be read", where=value, found=type(error).__name__,
                expected="a number, or the reliability.json of an evaluation with OVERLAY=uncertainty",
            ) from error  # fmt: skip
    if not 0 < factor < math.inf:
        raise InputError("the scale of the expected error is not above 0", expected="a number", found=value)
    return factor
