from __future__ import annotations

import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.options import choice, flag, optional


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


@pytest.mark.parametrize(("name", "expected"), [("none", 1), (None, 1), (" Torch ", 2)])
def test_a_choice_is_found_by_its_name(name: object, expected: int) -> None:
    assert choice(name, {"none": 1, "torch": 2}, "registration") == expected


def test_a_name_that_is_no_choice_is_refused() -> None:
    with pytest.raises(InputError, match="(?s)unknown registration.*none or torch.*found: ants"):
        choice("ants", {"none": 1, "torch": 2}, "registration")
