from __future__ import annotations

import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.limits import MAX_BYTES, MAX_GIB, max_bytes, refuse_large


def test_the_limit_is_of_bytes_and_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MAX_GIB, raising=False)
    assert refuse_large((3, 5, 7), 4, "here") == 420 and max_bytes() == MAX_BYTES
    assert refuse_large((MAX_BYTES // 4,), 4, "here") == MAX_BYTES
    with pytest.raises(InputError, match=r"(?s)too large.*at most 4 GiB.*8 GiB.*MDL_MAX_GIB"):
        refuse_large((2, MAX_BYTES // 4), 4, "here")
    monkeypatch.setenv(MAX_GIB, "8")
    assert refuse_large((2, MAX_BYTES // 4), 4, "here") == 2 * MAX_BYTES


def test_sizes_of_any_width_do_not_overflow() -> None:
    with pytest.raises(InputError, match="too large"):
        refuse_large((2**32, 2**32, 2**32), 8, "here")


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_GIB, text)
    with pytest.raises(InputError, match="MDL_MAX_GIB is no size"):
        max_bytes()
