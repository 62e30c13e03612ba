"""One clear error for bad input: what, where, expected against found, and the remedy."""

from __future__ import annotations

import errno
import io
import re
import sys
from collections.abc import Mapping
from types import TracebackType

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


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


class NoRoomError(InputError):
    """Nothing can be written any more: what ends a cohort too, for no other case escapes it."""


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
    """Return the `InputError` in a chain of causes: MONAI wraps what a transform or a config raises.

    What the system says of a disk that is full becomes one.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, InputError):
            return error
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return _no_room(error)
        in_worker = re.search(r"mdl_monai\.errors\.InputError: (.+?)(?=\n\n|\Z)", str(error), re.DOTALL)
        if in_worker:  # a loader's worker process hands over the text of its traceback alone
            return InputError(in_worker[1])
        told = re.search(r"OSError: \[Errno (\d+)\] ([^:\n]+)(?:: '(.+)')?", str(error))
        if told and int(told[1]) in NO_ROOM:  # so does MONAI's SaveImage
            return _no_room(OSError(int(told[1]), told[2], told[3]))
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _no_room(error: OSError) -> NoRoomError:
    return NoRoomError(
        "the results cannot be written",
        where=error.filename or "output_dir",
        found=error.strerror,
        remedy="make room, or name another --output_dir, and run again",
    )


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
