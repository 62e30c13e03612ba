from __future__ import annotations

from pathlib import Path

import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.options import choice, flag, optional, sigma_scale


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


def test_a_scale_is_a_number_or_what_an_evaluation_found(tmp_path: Path) -> None:
    (tmp_path / "reliability.json").write_text('{"error_to_sigma": 0.5, "scale": 3}', encoding="utf-8")
    assert sigma_scale("1.3") == 1.3 and sigma_scale(2) == 2
    assert sigma_scale(tmp_path / "reliability.json") == 1.5


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much", "damaged.json", "list.json"])
def test_what_is_no_scale_is_refused(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("damaged.json").write_text("{", encoding="utf-8")
    Path("list.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="scale of the expected error"):
        sigma_scale(value)
