"""Claim: with 5, 10 and 20 labelled cases in all, Deep Fusion Net is at least as good as a U-Net trained on them.

    python benchmarks/few_labelled_cases.py [OUT] [--data DIR] [--counts 5 10 20]

The cases are the first of a seeded shuffle of the subjects of `train` (hippocampus, below MDL_DATA_ROOT or beside the
checkout), one volume each, so that the smaller sets are part of the larger. Both networks are trained on them alone
by the two bundles' own commands, the last weights are taken, and no other label chooses anything; the U-Net is that
of Deep Fusion Net's features. Their steps take about the same time on one core. The fusion's atlases are the same
cases. Both are evaluated on `test`. A subject is what `dataset.json` calls a `patient`, which
`data_scripts/hippocampus.py` writes; without, each volume is one, and the two sides of one head may both be drawn.

OUT/<method>_<count>/ holds what training and evaluation wrote, and a run goes on behind what is there;
OUT/few_labelled_cases.csv and .png are the table and the plot, intervals over subjects.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mdl_monai.io.records import load_records
from mdl_monai.metrics.summary import summarise

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
FUSION, UNET = "hippocampus_mri_fusion_segmentation", "hippocampus_mri_segmentation"
SEED = 0
METRIC = "dice_mean"


def few(folder: Path, counts: list[int], to: Path) -> Path:
    """A data set with a list `few_<count>` for each count, beside `test` and one more subject to look on."""
    listing = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    by_subject: dict[str, dict[str, Any]] = {}
    for record in load_records(folder, "train", "image", "label"):
        by_subject.setdefault(record["subject"], record)
    subjects = sorted(by_subject)
    random.Random(SEED).shuffle(subjects)
    lists = {f"few_{n}": subjects[:n] for n in counts} | {"looked_on": subjects[max(counts) :][:1]}
    chosen = {
        name: [{k: by_subject[s][k] for k in ("image", "label")} | {"patient": s} for s in some]
        for name, some in lists.items()
    }
    for record in listing["test"]:
        record.update({key: str(folder / record[key]) for key in ("image", "label")})
    to.mkdir(parents=True, exist_ok=True)
    (to / "dataset.json").write_text(
        json.dumps({"labels": listing["labels"], "test": listing["test"], **chosen})
    )
    return to


def run(bundle: str, files: list[str], out: Path, done: str, **options: object) -> None:
    """One `monai.bundle run` that leaves the file `done` in `out`; nothing if it is there."""
    if (out / done).is_file():
        return
    configs = [str(BUNDLES / bundle / "configs" / name) for name in files]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs)]
    options = {"bundle_root": BUNDLES / bundle, "output_dir": out, "progress": False, **options}
    subprocess.run(command + [word for k, v in options.items() for word in (f"--{k}", str(v))], check=True)


def epochs(steps: int, cases: int, batch_size: int) -> int:
    """As many as make so many steps; a training leaves out what does not fill a batch."""
    return max(1, round(steps / max(1, cases // batch_size)))


def compared(data: Path, n: int, out: Path, steps_fusion: int, steps_unet: int) -> list[dict[str, Any]]:
    """Rows of metrics of the methods with n labelled cases."""
    fusion, unet = out / f"fusion_{n}", out / f"unet_{n}"
    common = {"dataset_dir": data, "seed": SEED}
    training = {"train_split": f"few_{n}", "val_split": "looked_on", "val_fraction": 0.15, "amp": True}
    cache = {"cache_dir": out / "cache"}
    last = epochs(steps_fusion, n, 1)
    run(
        FUSION,
        ["train.json"],
        fusion,
        "model.pt",
        resume=True,
        max_epochs=last,
        val_interval=last,
        **common,
        **training,
        **cache,
    )
    last = epochs(steps_unet, n, 4)
    small = {"network_def#network#filters": [16, 32, 64, 96]}
    peer = ["train.json", "dynunet.yaml"]
    run(
        UNET,
        peer,
        unet,
        "model.pt",
        resume=True,
        max_epochs=last,
        val_interval=last,
        **common,
        **training,
        **small,
    )
    tested = ["common.yaml", "inference.yaml", "evaluate.yaml"]
    where = {"split": "test", "n_pictures": 0, **common}
    own = {"ckpt_path": fusion / "model.pt", "atlas_split": f"few_{n}", "baselines": True, **cache}
    run(FUSION, tested, fusion, "metrics.csv", **where, **own)
    run(UNET, [*tested, "dynunet.yaml"], unet, "metrics.csv", ckpt_path=unet / "model.pt", **where, **small)
    rows = []
    for folder, name in ((fusion, "Deep Fusion Net"), (unet, "U-Net")):
        with (folder / "metrics.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        for row in table:
            method = name if row["method"] == table[0]["method"] else row["method"]
            rows.append({"method": method, "subject": row["subject"], METRIC: float(row[METRIC] or "nan")})
    return rows


def plot(table: list[dict[str, Any]], path: Path) -> None:
    """Mean and interval by number of cases, a line a method."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method in dict.fromkeys(row["method"] for row in table):
        own = [row for row in table if row["method"] == method]
        n, mean = [row["cases"] for row in own], [row["mean"] for row in own]
        reach = [
            [row["mean"] - row["ci95_low"] for row in own],
            [row["ci95_high"] - row["mean"] for row in own],
        ]
        axes.errorbar(n, mean, reach, capsize=3, marker="o", label=method.replace("_", " "))
    axes.set(xlabel="labelled cases in all", ylabel="Dice, mean of both labels, test set")
    axes.set_xticks(sorted({row["cases"] for row in table}))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, evaluate, write table and plot, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("output/few_labelled_cases"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--steps_fusion", type=int, default=250)
    parser.add_argument("--steps_unet", type=int, default=700)
    options = parser.parse_args()
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = (options.data or Path(os.environ.get("MDL_DATA_ROOT", beside)) / "hippocampus").resolve()
    if not folder.is_dir():
        sys.exit(f"skipped: no hippocampus set at {folder}; set MDL_DATA_ROOT")
    out: Path = options.out.resolve()
    data = few(folder, options.counts, out / "data")
    table: list[dict[str, Any]] = []
    for n in options.counts:
        rows = compared(data, n, out, options.steps_fusion, options.steps_unet)
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if row["method"] == method]
            table.append({"cases": n, "method": method, **summarise(own, [METRIC], "patient")[METRIC]})
            print(
                "{cases:3d}  {method:16s} {mean:.3f} [{ci95_low:.3f}, {ci95_high:.3f}]".format(**table[-1]),
                flush=True,
            )
    with (out / "few_labelled_cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=table[0])
        writer.writeheader()
        writer.writerows(table)
    plot(table, out / "few_labelled_cases.png")


if __name__ == "__main__":
    main()
