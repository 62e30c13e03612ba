from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, Lambdad
from torch import nn

from mdl_monai.engines.baselines import run_baselines
from mdl_monai.engines.cohort import FAILED, Cohort, CohortDataset, collate_cases
from mdl_monai.errors import CasesFailedError, InputError
from mdl_monai.handlers.metrics_table import MetricsTable
from mdl_monai.handlers.run_record import RunRecord

RECORDS = [{"case": name, "image": name, "subject": name, "subject_unit": "patient"} for name in "abcdefg"]


def load(record: Mapping[str, Any], refused: str, error: Exception) -> dict[str, Any]:
    if record["case"] in refused:
        raise error
    number = float(ord(record["case"]) - ord("a"))
    return {"image": MetaTensor(torch.full((1, 2, 3), number), meta={"case": record["case"]})}


class Network(nn.Module):
    """Fails for one value."""

    def __init__(self, fails: float = -1.0) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if (image == self.fails).any():
            raise RuntimeError("out of breath")
        return image + 1


def evaluate(
    folder: Path,
    *,
    refused: str = "",
    fails: float = -1.0,
    batch_size: int = 1,
    workers: int = 0,
    error: Exception | None = None,
    unwritable: float = -1.0,
) -> tuple[Cohort, MetricsTable]:
    error = error or InputError("the image is broken", where="there")

    def save(pred: torch.Tensor) -> torch.Tensor:
        if (pred == unwritable).all():
            raise OSError(errno.ENOSPC, "No space left")
        return pred

    cohort = Cohort()
    table = MetricsTable(lambda pred, label: {"mean": float(pred.mean())}, str(folder), RECORDS)
    loader = DataLoader(
        CohortDataset(RECORDS, lambda r: load(r, refused, error)),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate_cases,
    )
    postprocessing = Compose([Lambdad("pred", save)])
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=Network(fails),
        postprocessing=postprocessing,
        iteration_update=cohort,
        val_handlers=[table, RunRecord(str(folder), str(folder), seed=3, cohort=cohort)],
    ).run()
    run_baselines(
        {"half": nn.Identity()},
        loader,
        lambda x, net: net(x) / 2,
        None,
        table,
        torch.device("cpu"),
        cohort=cohort,
    )
    table.write()
    return cohort, table


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_others_are_done_once_each(tmp_path: Path, batch_size: int) -> None:
    cohort, table = evaluate(tmp_path, refused="bfg", batch_size=batch_size)
    assert sorted(cohort.done) == list("acde") and list(cohort.failed) == ["b", "f", "g"]
    assert [row["case"] for row in table.rows if row["method"] == "network"] == list("acde")
    assert [row["case"] for row in table.rows if row["method"] == "half"] == list("acde")
    assert [row["mean"] for row in table.rows] == [1, 3, 4, 5, 0, 1, 1.5, 2]
    with pytest.raises(
        CasesFailedError, match=r"(?s)3 of 7 cases failed.*b: the image is broken.*there.*f: .*g: "
    ):
        cohort.finish()
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["cases_done"] == list("acde") and list(record["cases_failed"]) == list("bfg")
    assert record["ended"] and record["seed"] == 3 and record["versions"]["torch"].startswith("2.")


def test_cases_that_make_no_batch_are_told(tmp_path: Path) -> None:
    items = [
        {"image": MetaTensor(torch.zeros(1, 2, size), meta={"case": case})}
        for case, size in (("a", 3), ("b", 4))
    ]
    told = collate_cases([{FAILED: [("c", "broken")]}, *items])
    assert told.keys() == {FAILED} and [case for case, _ in told[FAILED]] == ["c", "a", "b"]
    assert re.search(r"(?s)no batch.*equal size.*--dataloader#batch_size 1", told[FAILED][1][1])
    assert collate_cases(items[:1])["image"].shape == (1, 1, 2, 3)


@pytest.mark.slow
def test_in_worker_processes_too(tmp_path: Path) -> None:
    assert sorted(evaluate(tmp_path, refused="bf", workers=2)[0].done) == list("acdeg")


def test_a_case_that_the_network_cannot_take_is_one_that_failed(tmp_path: Path) -> None:
    cohort, table = evaluate(tmp_path, fails=3.0)
    assert cohort.failed == {"d": "RuntimeError: out of breath"}
    assert [row["case"] for row in table.rows] == 2 * list("abcefg")


def test_without_a_failure_nothing_is_raised(tmp_path: Path) -> None:
    cohort, _ = evaluate(tmp_path)
    cohort.finish()
    assert sorted(cohort.done) == list("abcdefg")


def test_a_case_alone_that_is_refused_is_wrong_use() -> None:
    cohort = Cohort()
    cohort.failed["a"] = "the image is broken\n  where: there"
    with pytest.raises(InputError, match="^the image is broken\n  where: there$") as caught:
        cohort.finish()
    assert caught.value.exit_code == 2 and CasesFailedError({"a": ""}, 1).exit_code == 1


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_a_full_disk_ends_the_run(tmp_path: Path, where: str) -> None:
    full = OSError(errno.ENOSPC, "No space left")
    options: dict[str, Any] = {"refused": "c", "error": full} if where == "reading" else {"unwritable": 3.0}
    with pytest.raises(InputError, match="(?s)results cannot be written.*No space left.*make room"):
        evaluate(tmp_path, **options)
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["ended"] is None and "cases_done" not in record


@pytest.mark.parametrize("words", [["--dicom_series", "1.2.3"], ["--dicom_series=1.2.3"]])
def test_a_series_that_the_command_names_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run", *words, "--seed", "3"])
    evaluate(tmp_path)
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert "1.2.3" not in text and json.loads(text)["command"][-2:] == ["--seed", "3"]
