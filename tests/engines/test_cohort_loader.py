"""Worker processes that are killed while they load: every case once all the same, and the one that kills is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DistributedSampler, MetaTensor
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mdl_monai.engines.cohort import FAILED, CohortDataset
from mdl_monai.engines.cohort_loader import CohortLoader
from mdl_monai.errors import InputError

CASES = "abcdefghijk"


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks for dead workers every 5 seconds."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))


def dataset(load: Callable[[str], None]) -> CohortDataset:
    def transform(record: Any) -> dict[str, Any]:
        load(record["case"])
        return {"image": MetaTensor(torch.ones(1, 2, 3), meta={"case": record["case"]})}

    return CohortDataset([{"case": case} for case in CASES], transform)


def loaded(loader: CohortLoader) -> tuple[str, dict[str, str]]:
    """Cases in the order in which they came, and those that failed."""
    done, failed = [], {}
    for batch in loader:
        failed |= dict(batch.pop(FAILED, []))
        if batch:
            done += batch["image"].meta["case"]
    return "".join(done), failed


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("n_workers", "batch_size", "killing"), [(1, 1, "ak"), (2, 1, "cd"), (2, 2, "e")])
def test_the_cases_that_kill_are_told_and_the_others_come_once(
    n_workers: int, batch_size: int, killing: str
) -> None:
    data = dataset(lambda case: dies() if case in killing else None)
    done, failed = loaded(CohortLoader(data, n_workers, batch_size=batch_size))
    together = {
        case for k in killing for case in CASES[CASES.index(k) // batch_size * batch_size :][:batch_size]
    }
    assert set(failed) == together and done == "".join(c for c in CASES if c not in together)
    assert all("killed, most often for lack of memory" in reason for reason in failed.values())


def test_a_worker_that_is_killed_from_without_costs_no_case(tmp_path: Path) -> None:
    def load(case: str) -> None:
        if case in "bg" and not (tmp_path / case).exists():
            (tmp_path / case).touch()
            dies()

    assert loaded(CohortLoader(dataset(load), 2)) == (CASES, {})
    assert {path.name for path in tmp_path.iterdir()} == set("bg")


def test_the_death_of_a_worker_interrupts_no_other_case(tmp_path: Path) -> None:
    """Torch's own loader raises from a signal handler, in the midst of whatever is done with an earlier batch."""

    def load(case: str) -> None:
        if case == "b" and not (tmp_path / case).exists():
            (tmp_path / case).touch()
            dies()

    done = []
    for batch in CohortLoader(dataset(load), 2):
        end = torch.ones(200, 200)
        for _ in range(300):
            end = end @ end / 200
        done += batch["image"].meta["case"]
    assert "".join(done) == CASES


def test_what_no_case_can_help_is_raised() -> None:
    def load(case: str) -> None:
        raise OSError(28, "No space left")

    with pytest.raises(InputError, match="results cannot be written"):
        loaded(CohortLoader(dataset(load), 2))


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_sampler_and_a_batch_size_are_followed(n_workers: int) -> None:
    data = dataset(lambda case: None)
    sampler = DistributedSampler(data, even_divisible=False, num_replicas=2, rank=1, shuffle=False)
    loader = CohortLoader(data, n_workers, sampler=sampler, batch_size=2)
    assert loaded(loader) == ("bdfhj", {}) and len(loader) == 3
