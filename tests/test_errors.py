from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from mdl_monai.errors import InputError, NoRoomError, find_input_error


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")


def test_message_says_what_where_expected_found_and_remedy() -> None:
    error = InputError("the mask is empty", where="m.npz", expected="a point", found=0, remedy="draw one")
    assert str(error).splitlines() == [
        "the mask is empty",
        "  where: m.npz",
        "  expected: a point",
        "  found: 0",
        "  remedy: draw one",
    ]


def test_an_uncaught_input_error_ends_with_code_2_and_no_traceback() -> None:
    ended = run("from mdl_monai import InputError\nraise InputError('bad', remedy='mend it')")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr and "bad\n  remedy: mend it" in ended.stderr


def test_a_wrapped_input_error_is_found() -> None:
    ended = run(
        "from mdl_monai import InputError\n"
        "try:\n    raise InputError('deep inside')\n"
        "except InputError as e:\n    raise RuntimeError('applying transform') from e"
    )
    assert (
        ended.returncode == 2 and "deep inside" in ended.stderr and "applying transform" not in ended.stderr
    )


def test_any_other_error_keeps_its_traceback_and_code() -> None:
    ended = run("import mdl_monai\nraise RuntimeError('a bug')")
    assert ended.returncode == 1 and "Traceback" in ended.stderr


def test_an_input_error_in_the_text_of_a_worker_is_found() -> None:
    text = (
        "Caught RuntimeError in DataLoader worker process 0.\nTraceback (most recent call last):\n  ...\n"
        "mdl_monai.errors.InputError: the mask is empty\n  where: m.npz\n\nThe above exception was the direct cause"
    )
    found = find_input_error(RuntimeError(text))
    assert str(found) == "the mask is empty\n  where: m.npz"


def test_a_chain_without_input_error_gives_none() -> None:
    error = RuntimeError("a")
    error.__cause__ = KeyError("b")
    assert find_input_error(error) is None


def test_a_run_of_which_cases_failed_ends_with_1() -> None:
    code = (
        "from mdl_monai.errors import CasesFailedError, install_excepthook\n"
        "install_excepthook()\n"
        "raise CasesFailedError({'a': 'broken\\n  where: there'}, 2)\n"
    )
    ended = run(code)
    assert ended.returncode == 1 and "1 of 3 cases failed\na: broken" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("wrapped", ["not", "cause", "text"])
def test_a_full_disk_is_told_in_a_sentence(wrapped: str) -> None:
    """MONAI's SaveImage hands over the text of a traceback alone."""
    full: Exception = OSError(errno.ENOSPC, "No space left on device", "out/case.nii.gz")
    if wrapped == "cause":
        full = RuntimeError("applying transform").with_traceback(None)
        full.__cause__ = OSError(errno.ENOSPC, "No space left on device", "out/case.nii.gz")
    if wrapped == "text":
        full = RuntimeError("no writer:\nOSError: [Errno 28] No space left on device: 'out/case.nii.gz'\n")
    found = find_input_error(full)
    assert isinstance(found, NoRoomError) and "cannot be written" in str(found)
    assert "where: out/case.nii.gz" in str(found) and "found: No space left on device\n" in str(found)
    assert find_input_error(OSError(errno.ENOENT, "No such file", "out")) is None
