"""A dask cluster, local or by its scheduler's address, whose workers hold a function."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import SimpleITK as sitk
import torch

from mdl_monai.errors import InputError

try:
    import dask
    from distributed import Client, LocalCluster, Security, Worker, WorkerPlugin, as_completed, get_worker
    from distributed.comm import connect
    from distributed.scheduler import KilledWorker
except ImportError as error:
    raise InputError(
        "a cohort needs dask.distributed", found=error, remedy="pip install 'mdl_monai[cohort]'"
    ) from error

__all__ = ["KilledWorker", "connected", "installed", "outcomes"]

Call = TypeVar("Call", bound=tuple[Any, ...])

CONNECT_SECONDS = 10.0
LOCAL_CONFIG = {
    "distributed.scheduler.allowed-failures": 0,  # the caller finds out which task it was
    "distributed.scheduler.worker-ttl": None,  # a long call of native code is no death
    "distributed.scheduler.no-workers-timeout": "10 minutes",  # then tasks fail, where they would wait for ever
    # Dask would give a worker up that, after this time, is just starting again after its second death.
    "distributed.deploy.lost-worker-timeout": "365 days",
    "distributed.worker.memory.pause": False,  # it waits for memory that only dask's own data would give back
}


@contextmanager
def connected(address: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at `address`, or of a local cluster of `workers` processes that ends with it.

    Raises:
        InputError: no scheduler answers there.
    """
    if address is None:
        with (
            dask.config.set(LOCAL_CONFIG),
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                # the scheduler's status pages would else take port 8787, which a second run finds taken
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    try:
        # First without a `Client`: one that reaches nobody cannot be closed in order. In a thread of its own, as
        # a notebook's has a running loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _reach(address)).result()
    except (OSError, ValueError) as error:
        raise InputError(
            "no dask scheduler answers",
            where=address,
            found=error,
            remedy="give the address of a running one (tcp://host:8786), or none for a local cluster",
        ) from error
    with Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client:
        yield client


async def _reach(address: str) -> None:
    comm = await connect(address, timeout=CONNECT_SECONDS, **Security().get_connection_args("client"))
    await comm.close()


class _Held(WorkerPlugin):
    """Dask hands a plugin once to each worker, also to those that start or are started again later."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def setup(self, worker: Worker) -> None:
        torch.set_num_threads(1)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


@contextmanager
def installed(client: Client, function: Callable[..., Any]) -> Iterator[str]:
    """The name under which all workers hold `function`, with one thread for each call of it.

    Raises:
        InputError: the workers lack a module that the function needs, or it cannot be pickled.
    """
    name = f"mdl_monai-{uuid.uuid4().hex}"
    try:
        try:
            client.register_plugin(_Held(function), name=name)
        except Exception as error:  # dask hands over the text alone of what a worker raises here
            raise InputError(
                "the workers cannot load the work",
                found=error,
                remedy="install mdl_monai and what the function needs where the workers run",
            ) from error
        yield name
    finally:
        if client.status == "running":
            with suppress(Exception):  # what is left behind takes memory alone; the results count
                client.unregister_worker_plugin(name)


def outcomes(
    client: Client, name: str, calls: Iterable[Call], alone: bool
) -> Iterator[tuple[Call, Any | Exception]]:
    """Call the function `name` with the arguments in each of `calls`; what it returned or raised, as they end.

    Args:
        alone: whether nothing else runs beside a call, so that a worker's death (`KilledWorker`) is its own.

    Raises:
        InputError: the scheduler went away.
    """
    for batch in ([call] for call in calls) if alone else [calls]:
        futures = {client.submit(_call, name, *call, pure=False): call for call in batch}
        for future in as_completed(futures, loop=client.loop):
            outcome: Any
            try:
                outcome = future.result()
            except Exception as error:
                outcome = error
            lost = future.cancelled()
            future.release()  # or a dying worker that still holds the outcome has it computed again
            if lost:
                raise InputError(
                    "the scheduler went away in the middle of the run",
                    remedy="start it and the run again: what is stored is not computed again",
                )
            yield futures[future], outcome


def _call(name: str, *arguments: Any) -> Any:
    held: Any = get_worker().plugins[name]
    return held.function(*arguments)
