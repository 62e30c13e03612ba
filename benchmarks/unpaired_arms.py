"""Claim: without pairs, both CycleGANs beat the look-up table; what the structure constraint adds is the last line.

    python benchmarks/unpaired_arms.py --arm CycleGAN OUT OUT --arm "structure-constrained" OUT OUT

Each OUT is the output folder of `make evaluate` of one seed of that arm, on the same list; the first with
`--baselines true`. Prints a Markdown table: mean [95 % interval over patients] of each run, and the paired
differences of the arms, each case's figures averaged over the seeds.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from mdl_monai.metrics.summary import paired_difference, summarise

DECIMALS = {"mae": 0, "psnr": 1, "ssim": 3, "ssim_high_gradient": 3, "bone_dice": 3}
Rows = list[dict[str, Any]]


def rows_of(folder: Path) -> dict[str, Rows]:
    """Rows of metrics.csv by method, the network's first."""
    methods: dict[str, Rows] = {}
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            figures = {metric: float(row[metric]) for metric in DECIMALS}
            methods.setdefault(row["method"], []).append(
                {"case": row["case"], "subject": row["subject"], **figures}
            )
    return methods


def averaged(runs: list[Rows]) -> Rows:
    """Each case's figures, averaged over runs."""
    by_case = [{row["case"]: row for row in run} for run in runs]
    return [
        row | {metric: sum(run[row["case"]][metric] for run in by_case) / len(runs) for metric in DECIMALS}
        for row in runs[0]
    ]


def line(name: str, rows: Rows, against: Rows | None = None) -> str:
    """A line of the table; of the paired difference if there is something to compare with."""
    metrics, sign = list(DECIMALS), "" if against is None else "+"
    found = (
        summarise(rows, metrics, "patient")
        if against is None
        else paired_difference(rows, against, metrics, "patient")
    )
    cells = [
        f"{s['mean']:{sign}.{n}f} [{s['ci95_low']:{sign}.{n}f}, {s['ci95_high']:{sign}.{n}f}]"
        for s, n in ((found[metric], n) for metric, n in DECIMALS.items())
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arm", nargs="+", action="append", required=True, metavar=("NAME", "OUT"))
    arms = {name: [rows_of(Path(folder)) for folder in folders] for name, *folders in parser.parse_args().arm}
    networks = {name: [next(iter(run.values())) for run in runs] for name, runs in arms.items()}
    table = next(iter(arms.values()))[0]["lookup_table"]
    print(
        "| arm | MAE [HU] | PSNR [dB] | SSIM | SSIM, high gradient | Dice, bone |\n|---|---|---|---|---|---|"
    )
    print(line("look-up table", table))
    for name, runs in networks.items():
        for seed, rows in enumerate(runs):
            print(line(f"{name}, seed {seed}", rows))
    mean = {name: averaged(runs) for name, runs in networks.items()}
    for name, rows in mean.items():
        print(line(f"{name} minus look-up table", rows, table))
    first, last = next(iter(mean)), list(mean)[-1]
    print(line(f"**{last} minus {first}**", mean[last], mean[first]))


if __name__ == "__main__":
    main()
