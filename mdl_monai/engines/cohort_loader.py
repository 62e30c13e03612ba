"""A cohort's loader, which outlives its worker processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from monai.data import DataLoader
from torch.utils.data._utils.signal_handling import _remove_worker_pids

from mdl_monai.engines.cohort import FAILED, CohortDataset, collate_cases

# How torch's messages about a killed worker begin, and what is raised by reading from one that is just dying
DIED = ("DataLoader worker", "Pin memory thread")
CUT_OFF = (ConnectionError, EOFError, FileNotFoundError)
KILLED = (
    "the process that loaded it was killed, most often for lack of memory\n"
    "  remedy: give it more memory, or fewer processes: --dataloader#num_workers 1"
)

logger = logging.getLogger(__name__)


class CohortLoader(DataLoader):
    """MONAI's loader of a `CohortDataset`; a worker process that is killed costs no case but the one that killed it.

    What the workers had not handed over is then loaded again, each batch by a process of its own: the one whose
    process dies again is told as failed. After those all go on as before.
    """

    def __init__(self, dataset: CohortDataset, num_workers: int = 0, **options: Any) -> None:
        super().__init__(dataset, num_workers, **{"collate_fn": collate_cases, **options})
        self._records = dataset.data

    def __iter__(self) -> Any:
        """Each batch once, in order."""
        if not self.num_workers:
            yield from super().__iter__()
            return
        todo: list[Any] = list(self.batch_sampler or ())
        suspects = 0
        while todo:
            try:
                for batch in self._load(todo[:1], 1) if suspects else self._load(todo, self.num_workers):
                    todo, suspects = todo[1:], max(suspects - 1, 0)
                    yield batch
            except (RuntimeError, *CUT_OFF) as error:
                if not isinstance(error, CUT_OFF) and not str(error).startswith(DIED):
                    raise
                if not suspects:
                    logger.warning("a worker process was killed; what it was loading is loaded again")
                    suspects = self.num_workers * (self.prefetch_factor or 2)
                    continue
                cases = [(str(self._records[index]["case"]), KILLED) for index in todo[0]]
                todo, suspects = todo[1:], suspects - 1
                yield {FAILED: cases}

    def _load(self, batches: Sequence[Sequence[int]], num_workers: int) -> Any:
        loader = DataLoader(
            self.dataset,
            num_workers,
            batch_sampler=batches,
            collate_fn=self.collate_fn,
            pin_memory=self.pin_memory,
            worker_init_fn=self.worker_init_fn,
            prefetch_factor=self.prefetch_factor,
            multiprocessing_context=self.multiprocessing_context,
        )
        iterator: Any = iter(loader)
        # By a signal torch would raise wherever this process is just then, in the midst of another case. Of workers
        # that it does not watch so, it notices the death where their batch is waited for.
        _remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False
        return iterator
