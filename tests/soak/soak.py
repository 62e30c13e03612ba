"""Many cases in child processes of limited memory and time: a crash of a library costs a child, and is told."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

SECONDS, BYTES = 30, 2 * 10**9
"""Of processor time and memory for each case."""


def counts(small: int, full: int) -> int:
    """How many cases: all where MDL_SOAK is 1."""
    return full if os.environ.get("MDL_SOAK") == "1" else small


def soak(kind: str, folder: Path, first: int, count: int, limit_s: float = 3600) -> list[dict]:
    """Results of the cases of a module `kind`_cases, one by one: "right", "refused", or else what went wrong."""
    journal, results = folder / f"{kind}.jsonl", []
    stop = time.monotonic() + limit_s
    while len(results) < count and time.monotonic() < stop:
        arguments = [kind, str(folder), str(first + len(results)), str(first + count)]
        command = [sys.executable, str(Path(__file__)), *arguments]
        journal.unlink(missing_ok=True)
        with (folder / "stderr.txt").open("wb") as stderr:
            child = subprocess.Popen(command, stderr=stderr, stdout=stderr)
            try:
                child.wait(timeout=max(1.0, stop - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
        results += [json.loads(line) for line in lines if line.endswith("}")]
        if time.monotonic() > stop:
            break
        if child.returncode and len(results) < count:
            told = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
            started = first + len(results)
            results.append({"case": started, "result": f"the process ended with {child.returncode}: {told}"})
            if not lines and "Error" in told:
                break
    return results


def faults(results: list[dict]) -> list[str]:
    """The cases that are neither right nor refused, or took too much."""
    return [
        f"case {r['case']} ({r.get('edit')}): {r['result']}, {r.get('seconds', 0):.1f} s"
        for r in results
        if r["result"] not in ("right", "refused") or r["seconds"] > SECONDS or r["bytes"] > BYTES
    ]


def summary(results: list[dict]) -> str:
    kinds = Counter(r["result"] if r["result"] in ("right", "refused") else "fault" for r in results)
    seconds, size = (max((r.get(k, 0) for r in results), default=0) for k in ("seconds", "bytes"))
    return f"{len(results)} cases: {dict(kinds)}, at most {seconds:.2f} s and {size / 1e6:.0f} MB more memory"


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _run(kind: str, folder: Path, first: int, last: int) -> None:
    from mdl_monai.errors import InputError

    cases = importlib.import_module(f"{kind}_cases")
    warnings.simplefilter("ignore")
    work = folder / "case"
    cases.make(0, _empty(work))  # what is loaded late is loaded
    limit = _address_space() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (folder / f"{kind}.jsonl").open("w", encoding="utf-8") as journal:
        for case in range(first, last):
            path, edit = cases.make(case, _empty(work))
            start, told = time.process_time(), ""
            signal.setitimer(signal.ITIMER_PROF, 2 * SECONDS)  # ends the process, also inside of a library
            try:
                cases.check(path)
                result = "right"
            except InputError as error:
                result, told = "refused", str(error).splitlines()[0]
            except Exception as error:
                result = f"{type(error).__name__}: {str(error)[:300]}"
            seconds = time.process_time() - start
            signal.setitimer(signal.ITIMER_PROF, 0)
            size = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            line = {
                "case": case,
                "edit": edit,
                "result": result,
                "told": told,
                "seconds": seconds,
                "bytes": size,
            }
            journal.write(json.dumps(line) + "\n")
            journal.flush()


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
