"""Save what an evaluation wrote as figures of a bundle, with the command, the data and the seed behind them.

::

    python -m mdl_monai.release.record_figures --output_dir OUTPUT_DIR --bundle bundles/NAME --name NAME \\
        --title TITLE --command COMMAND --data DATA --seed SEED

reads OUTPUT_DIR/metrics_summary.json (and baselines_summary.json if it is there), writes
bundles/NAME/docs/figures/NAME.json; `python -m mdl_monai.release.model_card` then renews the card. With
`--against "without augmentation=OTHER_DIR"` (may be repeated) the table compares with another evaluation of the same
cases, with the paired difference.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.metrics.summary import paired_difference, summarise
from mdl_monai.release.figures import check_summary, load_json


def record_figures(
    output_dir: Path,
    bundle: Path,
    name: str,
    *,
    title: str,
    command: str,
    data: str,
    seed: int,
    against: Sequence[str] = (),
) -> Path:
    """Write `docs/figures/<name>.json` of ``bundle`` from the summaries in ``output_dir``; return it."""
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise InputError("the name of the figures is not usable", expected="a-z, 0-9 and _", found=name)
    if not (bundle / "docs").is_dir():
        raise InputError("the bundle has no docs folder", where=bundle)
    source = output_dir / "metrics_summary.json"
    if not source.is_file():
        raise InputError(
            "the evaluation wrote no summary", where=source, remedy="run `make evaluate` into this folder"
        )
    saved: dict[str, Any] = {
        "title": title,
        "command": command,
        "data": data,
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "summary": load_json(source),
    }
    check_summary(saved["summary"], source)
    baselines = output_dir / "baselines_summary.json"
    if baselines.is_file():
        saved["baselines"] = load_json(baselines)
        for method, summary in saved["baselines"].items():
            check_summary(summary, f"{baselines}, {method}")
    for other in against:
        label, _, folder = other.partition("=")
        saved.setdefault("baselines", {})[label] = _compared(output_dir, Path(folder), saved["summary"])
    path = bundle / "docs" / "figures" / f"{name}.json"
    atomic_write_text(path, json.dumps(saved, indent=4) + "\n")
    return path


def _compared(own: Path, other: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Summary of another evaluation of the same cases, and what ours has more, paired by case."""
    rows: list[list[dict[str, Any]]] = []
    for folder in (own, other):
        source = folder / "metrics.csv"
        if not source.is_file():
            raise InputError(
                "the evaluation wrote no table", where=source, remedy="give --against NAME=OUTPUT_DIR"
            )
        with source.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        first = table[0]["method"]  # the network's rows come before those of its baselines
        rows.append(
            [
                {**row, **{metric: float(row[metric] or "nan") for metric in summary}}
                for row in table
                if row["method"] == first
            ]
        )
    if {row["case"] for row in rows[0]} != {row["case"] for row in rows[1]}:
        raise InputError("the two evaluations have other cases", where=other, expected=f"those of {own}")
    unit = next(iter(summary.values()))["unit"]
    difference = paired_difference(rows[0], rows[1], list(summary), unit)
    return {
        metric: {**values, "difference": difference[metric]}
        for metric, values in summarise(rows[1], list(summary), unit).items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.record_figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="what `evaluate` wrote into")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--name", required=True, help="name of the saved file, without .json")
    parser.add_argument("--title", required=True, help="first words of the table's caption")
    parser.add_argument("--command", required=True, help="the command that gave the figures")
    parser.add_argument("--data", required=True, help="the data set and its split")
    parser.add_argument("--seed", type=int, required=True, help="the seed of that command")
    parser.add_argument(
        "--against", action="append", default=[], help="NAME=OUTPUT_DIR of another evaluation"
    )
    options = vars(parser.parse_args(arguments))
    path = record_figures(options.pop("output_dir"), options.pop("bundle"), options.pop("name"), **options)
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
