"""Many pairs of target and atlas on `dask.distributed`: a local cluster, or the scheduler of a real one.

On Slurm, start workers with dask-jobqueue, one process a core, and hand over their scheduler's address::

    from dask_jobqueue import SLURMCluster
    cluster = SLURMCluster(cores=8, processes=8, memory="32GB", walltime="04:00:00")
    cluster.scale(jobs=4)
    run_cohort(function, pairs, address=cluster.scheduler_address)

All workers see the same files and the same cache folder. Dask runs what whoever reaches its ports sends: the local
cluster listens on 127.0.0.1 alone, so keep it to machines whose users trust one another; a real one belongs in a
closed network or on TLS. A script that uses the local cluster calls it under ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mdl_monai.errors import InputError, find_input_error
from mdl_monai.io.atomic import atomic_path
from mdl_monai.registration.cluster import KilledWorker, connected, installed, outcomes

Pair = tuple[str, str]
PairFunction = Callable[[str, Sequence[str]], Mapping[str, str | None]]


@dataclass(frozen=True)
class CohortReport:
    """What became of each pair, in the order in which they were asked for."""

    done: list[Pair]
    """(target, atlas)."""
    failed: dict[Pair, str]
    """Reason by (target, atlas)."""
    seconds: float
    """Wall-clock time."""

    def write_csv(self, path: str | Path) -> None:
        """A table of the columns target, atlas, status (done, failed) and reason, written atomically."""
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("target", "atlas", "status", "reason"))
            writer.writerows((*pair, "done", "") for pair in self.done)
            writer.writerows((*pair, "failed", reason) for pair, reason in self.failed.items())


def run_cohort(
    function: PairFunction,
    pairs: Mapping[str, Sequence[str]],
    *,
    address: str | None = None,
    workers: int = 2,
    chunk: int = 10,
    progress: bool = True,
) -> CohortReport:
    """Call ``function(target, atlases)`` for all `pairs`, a chunk of atlases at a time.

    The function stores its results itself and skips what is stored, so that a pair has one result however often it
    is run. It returns None for each atlas that is done, and the reason for each that failed. It may hold large data
    (a `functools.partial` over the atlas library): they go once to each worker, not with each task.

    A chunk that raises or ends its worker runs again in single pairs, and a single pair whose worker died runs
    once more with nothing beside it: a pair that fails takes no other with it, and has its own reason.

    Args:
        function: picklable; runs in worker processes of one thread each.
        pairs: atlases by target.
        address: of a running scheduler, "tcp://host:8786"; without one, a local cluster is started and stopped.
        workers: processes of the local cluster. They share the machine's memory evenly; one that exceeds its
            share is ended, as by a crash.
        chunk: atlases of one target in a task: bounds a worker's memory, and what is repeated when it dies.
        progress: whether to show a bar.

    Raises:
        InputError: no scheduler answers, it went away, or its workers cannot load the function.
    """
    if min(workers, chunk) < 1:
        raise InputError("workers and chunk count from 1", found=f"workers {workers}, chunk {chunk}")
    start = time.perf_counter()
    todo = {target: list(dict.fromkeys(atlases)) for target, atlases in pairs.items()}
    asked = [(target, atlas) for target, atlases in todo.items() for atlas in atlases]
    reasons: dict[Pair, str | None] = {}
    if asked:
        bar = tqdm(total=len(asked), unit="pair", disable=not progress)
        with bar, connected(address, workers) as client, installed(client, partial(_run, function)) as name:
            bar.set_description("registering" if client.nthreads() else "waiting for workers")
            for size, alone in ((chunk, False), (1, False), (1, True)):
                again: dict[str, list[str]] = {}
                for (target, atlases), outcome in outcomes(client, name, _tasks(todo, size), alone):
                    bar.set_description("registering")
                    if isinstance(outcome, Exception):
                        if len(atlases) > 1 or (isinstance(outcome, KilledWorker) and not alone):
                            again.setdefault(target, []).extend(atlases)
                            continue
                        outcome = {atlases[0]: _reason(outcome)}
                    reasons.update({(target, atlas): reason for atlas, reason in outcome.items()})
                    bar.update(len(outcome))
                todo = again
    failed = {pair: reason for pair in asked if (reason := reasons[pair]) is not None}
    return CohortReport([pair for pair in asked if pair not in failed], failed, time.perf_counter() - start)


def _run(function: PairFunction, target: str, atlases: Sequence[str]) -> dict[str, str | None]:
    reasons = function(target, atlases)
    return {atlas: reasons[atlas] for atlas in atlases}


def _tasks(pairs: Mapping[str, Sequence[str]], size: int) -> Iterator[tuple[str, Sequence[str]]]:
    for target, atlases in pairs.items():
        for first in range(0, len(atlases), size):
            yield target, atlases[first : first + size]


def _reason(error: Exception) -> str:
    if isinstance(error, KilledWorker):
        return "the worker process died each time this pair ran: too little memory, or a crash in native code"
    known = find_input_error(error)
    return " ".join((str(known) if known else f"{type(error).__name__}: {error}").split())
