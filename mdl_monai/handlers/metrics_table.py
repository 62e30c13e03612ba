"""Metrics by case into `metrics.csv`, and their summary."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from mdl_monai.handlers.processes import gathered, rank
from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.metrics.summary import paired_difference, summarise

Row = dict[str, Any]
COLUMNS = ("case", "subject", "method", "file")


class MetricsTable:
    """Evaluator handler that computes metrics by case and writes them when `write` is called.

    Args:
        metric: function of (pred, label), one case each, channel first, giving ``{metric key: figure}``; the label
            is None in a run without references.
        output_dir: receives ``metrics.csv``, ``metrics_summary.json`` and, with baselines,
            ``baselines_summary.json``.
        records: the records of the data set in its order: their case, subject and file.
        method: name of the network in the table; `run_baselines` sets it for each baseline.
        file_key: key of the image file in a record.
        keys: of prediction and reference in the evaluator's output.
    """

    def __init__(
        self,
        metric: Callable[[Any, Any], Mapping[str, float]],
        output_dir: str,
        records: Sequence[Mapping[str, Any]],
        method: str = "network",
        file_key: str = "image",
        keys: tuple[str, str] = ("pred", "label"),
    ) -> None:
        self.metric, self.output_dir, self.keys = metric, Path(output_dir), keys
        self.records = {record["case"]: record for record in records}
        self.file_key = file_key
        self.network_method = self.method = method
        self.rows: list[Row] = []
        self._started = 0.0
        self._seconds = math.nan

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI evaluator whose output is decollated and postprocessed."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._stop)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def _start(self, engine: Engine) -> None:
        _wait(engine)
        self._started = time.perf_counter()

    def _stop(self, engine: Engine) -> None:
        _wait(engine)
        self._seconds = time.perf_counter() - self._started

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        items = output if isinstance(output, list) else [output]
        pred_key, label_key = self.keys
        for item in items:
            case = item[pred_key].meta["case"]
            record = self.records[case]
            self.rows.append(
                {
                    "case": case,
                    "subject": record["subject"],
                    "method": self.method,
                    "file": str(record[self.file_key]),
                    **self.metric(item[pred_key], item.get(label_key)),
                    "time_s": self._seconds / len(items),
                }
            )

    def write(self) -> None:
        """Write table and summaries; with several processes, the first writes the rows of all."""
        rows = _gathered(self.rows)
        if rows is None or not rows:
            return
        metrics = [key for key in rows[0] if key not in COLUMNS]
        unit = str(next(iter(self.records.values()))["subject_unit"])
        text = io.StringIO()
        writer = csv.DictWriter(text, [*COLUMNS, *metrics], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write_text(self.output_dir / "metrics.csv", text.getvalue())
        by_method: dict[str, list[Row]] = {}
        for row in rows:
            by_method.setdefault(row["method"], []).append(row)
        own = by_method.pop(self.network_method)
        _write_json(self.output_dir / "metrics_summary.json", summarise(own, metrics, unit))
        if not by_method:
            (self.output_dir / "baselines_summary.json").unlink(missing_ok=True)  # of an earlier run
            return
        baselines: dict[str, Any] = {}
        for method, theirs in by_method.items():
            difference = paired_difference(own, theirs, metrics, unit)
            baselines[method] = {
                metric: {**summary, "difference": difference[metric]}
                for metric, summary in summarise(theirs, metrics, unit).items()
            }
        _write_json(self.output_dir / "baselines_summary.json", baselines)


def _wait(engine: Engine) -> None:
    """Let queued CUDA work end, so that the clock sees it."""
    device = getattr(engine.state, "device", None)
    if device is not None and torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _gathered(rows: list[Row]) -> list[Row] | None:
    """All processes' rows, a case and method once, on the first process; None on the others."""
    parts = gathered(rows)
    if rank() != 0:
        return None
    return list({(row["method"], row["case"]): row for part in parts for row in part}.values())


def _write_json(path: Path, content: Any) -> None:
    """JSON has no NaN: an undefined figure is null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    atomic_write_text(path, json.dumps(clean(content), indent=2, allow_nan=False) + "\n")
