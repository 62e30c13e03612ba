"""Options as they come from a command line."""

from __future__ import annotations

from mdl_monai.errors import InputError

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
