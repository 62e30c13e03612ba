"""One clear error for bad input: what, where, expected against found, and the remedy."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from types import TracebackType


class InputError(ValueError):
    """The user's input cannot be used; `exit_code` is that of a command which it ends.

    Args:
        what: one sentence that names the problem.
        where: the file, folder, record or option that holds it.
        expected: what would have been right.
        found: what was there instead.
        remedy: what the user can do about it.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, where: object = "", expected: object = "", found: object = "", remedy: str = ""
    ) -> None:
        parts = [what]
        for name, value in (("where", where), ("expected", expected), ("found", found), ("remedy", remedy)):
            if str(value):
                parts.append(f"  {name}: {value}")
        super().__init__("\n".join(parts))


class CasesFailedError(InputError):
    """A run did what it could; some cases failed.

    Args:
        failed: the reason by case.
        n_done: cases that were done.
    """

    exit_code = 1

    def __init__(self, failed: Mapping[str, str], n_done: int) -> None:
        self.failed = dict(failed)
        told = [f"{case}: " + reason.replace("\n", "\n  ") for case, reason in failed.items()]
        super().__init__("\n".join([f"{len(failed)} of {len(failed) + n_done} cases failed", *told]))


def find_input_error(error: BaseException | None) -> InputError | None:
    """Return the `InputError` in a chain of causes: MONAI wraps what a transform or a config raises."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, InputError):
            return error
        in_worker = re.search(r"mdl_monai\.errors\.InputError: (.+?)(?=\n\n|\Z)", str(error), re.DOTALL)
        if in_worker:  # a loader's worker process hands over the text of its traceback alone
            return InputError(in_worker[1])
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


_previous_hook = sys.excepthook


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    found = find_input_error(error)
    if found is None:
        _previous_hook(kind, error, trace)
        return
    sys.stdout.flush()
    # torch.distributed's hook, once there is a process group, prints only what a hook that returns has written
    stream = sys.__stderr__ if isinstance(sys.stderr, io.StringIO) and sys.__stderr__ else sys.stderr
    stream.write(f"\nInputError: {found}\n")
    stream.flush()
    # the interpreter takes the exit code of a SystemExit raised in its hook
    raise SystemExit(found.exit_code)


def install_excepthook() -> None:
    """Make an uncaught `InputError` end the process with its message and exit code 2.

    `python -m monai.bundle run` has no place of its own to catch one, so importing `mdl_monai` installs the
    hook; every other exception goes to the hook that was there before.
    """
    sys.excepthook = _excepthook
