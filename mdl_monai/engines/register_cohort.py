"""Register a cohort's targets to their atlases beforehand, on several processes or a cluster."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.transforms import Compose
from tqdm import tqdm

from mdl_monai.errors import InputError, find_input_error
from mdl_monai.registration.cohort import CohortReport, run_cohort
from mdl_monai.registration.volume import Volume
from mdl_monai.transforms.atlas_library import Selection
from mdl_monai.transforms.atlases import SELECTION, RegisterAtlasesd, SelectAtlasesd

logger = logging.getLogger(__name__)


def register_cohort(
    records: Sequence[Mapping[str, Any]],
    preprocessing: Compose,
    output_dir: str | Path,
    address: str | None = None,
    workers: int = 2,
    chunk: int = 10,
    progress: bool = True,
) -> CohortReport:
    """Fill the library's cache with every registration that `preprocessing` will ask for.

    A run that was stopped goes on where it was. What became of each pair is written to ``OUTPUT_DIR/pairs.csv``.

    Args:
        records: the targets, each with a ``case``.
        preprocessing: a bundle's, ending in `SelectAtlasesd` and `RegisterAtlasesd`.
        output_dir: for the table.
        address, workers, chunk, progress: as for `run_cohort`.

    Raises:
        InputError: a bad library, no scheduler answers, or no pair could be registered.
    """
    *first, select, step = preprocessing.transforms
    if not isinstance(select, SelectAtlasesd) or not isinstance(step, RegisterAtlasesd):
        raise InputError("the preprocessing does not end in SelectAtlasesd and RegisterAtlasesd")
    library = step.library
    _ = library.aligned  # what is wrong with an atlas is no target's fault
    selections: dict[str, Selection] = {}
    refused: dict[tuple[str, str], str] = {}
    for record in tqdm(records, desc="selecting atlases", disable=not progress):
        try:
            selections[record["case"]] = select(Compose(first)(record))[SELECTION]
        except Exception as error:
            cause = find_input_error(error) or error.__cause__ or error  # MONAI wraps what a transform raises
            told = str(cause) if isinstance(cause, InputError) else f"{type(cause).__name__}: {cause}"
            refused[record["case"], ""] = " ".join(told.split())
    names = [record["case"] for record in library.records]
    work = _Work({r["case"]: r for r in records}, Compose(first), step, selections, names)
    pairs = {case: [names[k] for k in chosen.indices] for case, chosen in selections.items()}
    report = run_cohort(work, pairs, address=address, workers=workers, chunk=chunk, progress=progress)
    report = CohortReport(report.done, {**refused, **report.failed}, report.seconds)
    report.write_csv(Path(output_dir) / "pairs.csv")
    counts = len(report.done), len(report.failed), report.seconds
    logger.info("%d pairs registered, %d failed, %.0f s; see pairs.csv", *counts)
    if not report.done and report.failed:
        raise InputError("no pair could be registered", found=next(iter(report.failed.values())))
    return report


@dataclass
class _Work:
    """What a worker does: one target against some of its atlases."""

    records: dict[str, Mapping[str, Any]]
    preprocessing: Compose
    step: RegisterAtlasesd
    selections: dict[str, Selection]
    names: list[str]

    def __call__(self, target: str, atlases: Sequence[str]) -> dict[str, str | None]:
        image = self.preprocessing(self.records[target])[self.step.keys[0]]
        chosen = self.selections[target]
        wanted = [k for k, index in enumerate(chosen.indices) if self.names[index] in set(atlases)]
        part = Selection(
            [chosen.indices[k] for k in wanted],
            [chosen.scores[k] for k in wanted],
            [chosen.starts[k] for k in wanted],
        )
        found = self.step.registrations(Volume.from_image(image), part)
        return {self.names[k]: end.reason or None for k, end in zip(part.indices, found, strict=True)}
