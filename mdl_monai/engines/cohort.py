"""An evaluation that goes on past a case that cannot be used, and says so at its end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import Dataset
from monai.data.utils import list_data_collate

from mdl_monai.errors import CasesFailedError, InputError, NoRoomError, find_input_error
from mdl_monai.handlers.processes import gathered

FAILED = "failed_cases"  # key in a batch: (case, reason) of what preprocessing refused

logger = logging.getLogger(__name__)


class CohortDataset(Dataset):
    """Records and their preprocessing; a case that this refuses becomes an item that tells why."""

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            return {FAILED: [(str(self.data[index]["case"]), _reason(error))]}


def collate_cases(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """MONAI's batch of the items that are whole, and under `FAILED` what is told of the others.

    Items that make no batch, as they differ in size, are told as failed too.
    """
    whole = [item for item in items if FAILED not in item]
    failed = [told for item in items for told in item.get(FAILED, [])]
    batch: dict[str, Any] = {}
    try:
        batch = list_data_collate(whole) if whole else {}
    except (RuntimeError, TypeError) as error:
        found = str(error).strip().partition("\n")[0]
        reason = InputError(
            "it makes no batch with others", found=found, remedy="set --dataloader#batch_size 1"
        )
        failed += [(case, str(reason)) for item in whole for case in _cases(item)]
    return {**batch, FAILED: failed} if failed else batch


class Cohort:
    """``iteration_update`` of a MONAI evaluator: a case that fails is noted, and the next one follows.

    What no other case could escape either, such as a full disk, ends the run as ever.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: dict[str, str] = {}

    def __call__(self, engine: Any, batch: dict[str, Any]) -> Any:
        """One iteration; its output is an empty list if nothing of the batch can be used."""
        self._note(batch.pop(FAILED, []))
        if not batch:
            return _nothing(engine)
        cases = _cases(batch)
        try:
            output = engine._iteration(engine, batch)
        except Exception as error:
            reason = _reason(error)
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            self._note([(case, reason) for case in cases])
            return _nothing(engine)
        self.done += cases
        return output

    def again(self, engine: Any, batch: dict[str, Any]) -> Any:
        """An iteration of another method on the cases that were done; here nothing may fail."""
        batch.pop(FAILED, None)
        if not batch or set(_cases(batch)) & self.failed.keys():
            return _nothing(engine)
        return engine._iteration(engine, batch)

    def _note(self, told: Sequence[tuple[str, str]]) -> None:
        for case, reason in told:
            self.failed[case] = reason
            logger.error("%s failed, the run goes on: %s", case, reason.splitlines()[0])

    def all_cases(self) -> tuple[list[str], dict[str, str]]:
        """Of all processes: the cases that were done, and the others with their reasons."""
        parts = gathered((self.done, self.failed))
        done = sorted({case for some, _ in parts for case in some})
        return done, {case: reason for _, some in parts for case, reason in sorted(some.items())}

    def finish(self) -> None:
        """Tell of the cases that failed; nothing if there are none.

        Raises:
            InputError: no case at all could be used.
            CasesFailedError: some could not.
        """
        done, failed = self.all_cases()
        if failed and not done and len(set(failed.values())) == 1:
            raise InputError(next(iter(failed.values())))
        if failed:
            raise CasesFailedError(failed, len(done))


def _cases(batch: dict[str, Any]) -> list[str]:
    meta = next(value.meta for value in batch.values() if "case" in getattr(value, "meta", {}))
    return [str(case) for case in ([meta["case"]] if isinstance(meta["case"], str) else meta["case"])]


def _nothing(engine: Any) -> list[Any]:
    engine.state.batch = []
    return []


def _reason(error: Exception) -> str:
    """Why a case failed.

    Raises:
        NoRoomError: nothing can be written any more, which is not the case's fault.
    """
    found = find_input_error(error)
    if isinstance(found, NoRoomError):
        raise found from error
    if found is not None:
        return str(found)
    first: BaseException = error
    while first.__cause__ is not None:  # MONAI tells only which transform it was
        first = first.__cause__
    return f"{type(first).__name__}: {first}"
