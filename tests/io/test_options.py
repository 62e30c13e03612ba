from __future__ import annotations

import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.options import flag, optional


@pytest.mark.parametrize(("value", "expected"), [("true", True), (True, True), ("False", False), (0, False)])
def test_words_and_bools_are_understood(value: object, expected: bool) -> None:
    assert flag(value) is expected


def test_anything_else_is_refused() -> None:
    with pytest.raises(InputError, match="(?s)yes-or-no.*found: maybe"):
        flag("maybe")


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("null", None), ("None", None), ("a.npz", "a.npz")]
)
def test_null_means_left_out(value: str | None, expected: str | None) -> None:
    assert optional(value) == expected
