"""Claim: the fusion follows its atlases, whatever they are labelled with, and not those that have failed.

    python benchmarks/fusion_follows_its_atlases.py [--weights FILE] [--split test] [--cache_dir DIR] [--output_dir D]

Evaluates the hippocampus fusion bundle on the hippocampus set below MDL_DATA_ROOT, or beside the checkout, with the
atlases of its list `train`, as `make evaluate` does. Dice is the mean over labels, intervals are over cases.

- N of the 10 atlases, those most like the target, have failed without a mark. moved: image and labels shifted by a
  third and mirrored; constant, noise, other anatomy (a head phantom): that for an image, the labels moved.
- label sets never trained on, without the prior: 1 and 2 exchanged, whose output must be that of the original
  library, exchanged; both as one; the anterior third of the hippocampus's length as label 7 and the rest as 9.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

from mdl_monai.metrics.summary import summarise
from mdl_monai.networks.fusion_border import FusionInput, join_fusion_input, split_fusion_input
from mdl_monai.networks.fusion_evidence import undecided_tiles
from mdl_monai.phantoms.head import head_phantom

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "hippocampus_mri_fusion_segmentation"
KINDS = ("moved", "other anatomy", "constant", "noise")
Rows = list[dict[str, Any]]


class Failing:
    """Transform that lets the first N atlases of an input of three labels fail."""

    def __init__(self, n: int, kind: str) -> None:
        self.n, self.kind = n, kind

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Record with the network's input to the same with worse atlases."""
        image = data["image"]
        parts = split_fusion_input(torch.as_tensor(image)[None], (len(image) - 1) // 5, 3)
        images, labels, valid = (torch.as_tensor(x)[0].clone() for x in parts[1:])
        size = tuple(image.shape[1:])
        shift, draw = [n // 3 for n in size], torch.Generator().manual_seed(0)
        for k in range(self.n):
            labels[k], valid[k] = labels[k].roll(shift, (1, 2, 3)).flip(2), 1.0
            if self.kind == "moved":
                images[k] = images[k].roll(shift, (0, 1, 2)).flip(1)
            elif self.kind == "other anatomy":
                images[k] = head_phantom(k, size, (2.0, 2.0, 2.0)).mr
            else:
                images[k] = torch.rand(size, generator=draw) if self.kind == "noise" else 0.0
        labels[: self.n, 0] = 1 - labels[: self.n, 1:].sum(
            1
        )  # beyond its field of view an atlas held no label
        image[:] = join_fusion_input(FusionInput(parts.target, *(x[None] for x in (images, labels, valid))))[
            0
        ]
        return data


def exchanged(label: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """1 becomes 2 and 2 becomes 1."""
    return np.array([0, 2, 1])[label]


def merged(label: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Both are 1."""
    return (label > 0).astype(int)


def anterior_third(label: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The anterior third of the length is 7, the rest 9."""
    y = np.argwhere(label) @ affine[1, :3]
    out = np.zeros_like(label)
    out[label > 0] = np.where(y > y.max() - (y.max() - y.min()) / 3, 7, 9)
    return out


def relabelled(folder: Path, to: Path, how: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Path:
    """The data set with other label maps; the images stay where they are."""
    listing = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    to.mkdir(parents=True, exist_ok=True)
    for records in (value for value in listing.values() if isinstance(value, list)):
        for record in records:
            source = nib.Nifti1Image.from_filename(folder / record["label"])
            values = how(np.asarray(source.dataobj).astype(int), source.affine).astype(np.uint8)
            record["image"] = str(folder / record["image"])
            record["label"] = Path(record["label"]).name
            nib.save(nib.Nifti1Image(values, source.affine), to / record["label"])
    (to / "dataset.json").write_text(json.dumps(listing))
    return to


def evaluate(output_dir: Path, *further: Any, shares: list[float] | None = None, **options: Any) -> Rows:
    """The rows of ``metrics.csv`` of the bundle's evaluation, with `further` transforms behind its own; `shares` gets
    the prior's in each case. What a stopped run left in `output_dir` is taken."""
    kept = output_dir / "shares.json"
    if (output_dir / "metrics.csv").is_file() and (shares is None or kept.is_file()):
        if shares is not None:
            shares.extend(json.loads(kept.read_text(encoding="utf-8")))
        return table(output_dir)
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / f"{name}.yaml" for name in ("common", "inference", "evaluate")])
    parser.update(
        {
            "bundle_root": str(BUNDLE),
            "output_dir": str(output_dir),
            "progress": False,
            "n_pictures": 0,
            **options,
        }
    )
    preprocessing = parser.get_parsed_content("preprocessing")
    preprocessing.transforms = (*preprocessing.transforms, *further)
    evaluator, network = parser.get_parsed_content("evaluator"), parser.get_parsed_content("network")

    found: list[float] = [] if shares is None else shares

    def note(engine: Any) -> None:
        with torch.no_grad():
            parts = network.split(torch.as_tensor(engine.state.batch[0]["image"])[None])
            share = network.fuse(parts, *network.describe(parts), parts.labels)[0, -1]
            tiles = undecided_tiles(parts.labels, parts.valid > 0, network.radius, network.tile)
        found.append(float((share > 0.5).sum() / (tiles.sum() * network.tile**3)))

    if shares is not None:
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, note)
    evaluator.run()
    parser.get_parsed_content("table").write()
    if shares is not None:
        kept.write_text(json.dumps(shares))
    return table(output_dir)


def table(output_dir: Path) -> Rows:
    """Rows of ``metrics.csv``."""
    with (output_dir / "metrics.csv").open() as file:
        return [
            {k: float(v or "nan") if k.startswith("dice") else v for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def read(path: Path) -> np.ndarray:
    """Label map."""
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def told(rows: Rows, metric: str = "dice_mean") -> str:
    """Mean and interval."""
    s = summarise(rows, [metric], "case")[metric]
    return f"{s['mean']:.4f} [{s['ci95_low']:.4f}, {s['ci95_high']:.4f}]"


def parser_of(description: str, name: str, split: str, atlas_split: str) -> argparse.ArgumentParser:
    """What the benchmarks of the fusion are told on the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, default=Path("output") / name)
    parser.add_argument("--weights", default=str(BUNDLE / "models" / "model.pt"))
    parser.add_argument("--split", default=split)
    parser.add_argument("--atlas_split", default=atlas_split)
    parser.add_argument("--cache_dir")
    parser.add_argument("--data", type=Path, help="the hippocampus set")
    return parser


def usual_options(options: argparse.Namespace) -> dict[str, Any]:
    """The evaluation's options of that command line; the run ends where there is no data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = (options.data or Path(os.environ.get("MDL_DATA_ROOT", beside)) / "hippocampus").resolve()
    if not folder.is_dir():
        sys.exit(f"skipped: no hippocampus set at {folder}; set MDL_DATA_ROOT")
    torch.set_num_threads(1)
    told = {"split": options.split, "atlas_split": options.atlas_split, "cache_dir": options.cache_dir}
    return told | {"ckpt_path": options.weights, "dataset_dir": str(folder), "atlas_dir": str(folder)}


def main() -> None:
    """Print one line a variant."""
    parser = parser_of(str(__doc__), "fusion_follows_its_atlases", "test", "train")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of failure")
    options = parser.parse_args()
    usual = usual_options(options)
    folder = Path(usual["dataset_dir"])
    out: Path = options.output_dir
    shares: list[float] = []
    full = evaluate(out / "full", shares=shares, **usual)
    print(
        f"prior on                       {told(full)}, the prior answers {np.mean(shares):.2%} of what is open"
    )
    plain = evaluate(out / "plain", prior=False, **usual)
    print(f"prior off                      {told(plain)}")
    for kind in options.kinds:
        for n in (1, 3, 5):
            rows = evaluate(out / f"{kind}_{n}", Failing(n, kind), **usual)
            lost = np.mean([a["dice_mean"] - b["dice_mean"] for a, b in zip(full, rows, strict=True)])
            print(f"{n} of 10 failed: {kind:14s} {told(rows)}, lost {lost:.4f}", flush=True)
    for how, labels in ((exchanged, [1, 2]), (merged, [1]), (anterior_third, [7, 9])):
        other = str(relabelled(folder, out / how.__name__ / "data", how))
        own = usual | {"dataset_dir": other, "atlas_dir": other, "labels": labels, "prior": False}
        rows = evaluate(out / how.__name__, names={}, **own)
        vote = evaluate(
            out / f"{how.__name__}_vote",
            names={},
            network_def={"_target_": "mdl_monai.networks.majority_vote.MajorityVote", "n_atlases": 10,
                         "n_labels": len(labels) + 1},
            weights=None,
            similarity="nmi",
            similarities={"nmi": "$normalised_mutual_information"},  # a vote has no features
            handlers=["@table"],
            **own,
        )  # fmt: skip
        by_label = ", ".join(f"label {k} {told(rows, f'dice_{k}')}" for k in labels)
        print(f"{how.__name__:30s} {told(rows)} ({by_label}); majority vote {told(vote)}", flush=True)
        if how is exchanged:
            same = all(
                np.array_equal(
                    exchanged(read(path), np.eye(4)), read(out / "exchanged" / "predictions" / path.name)
                )
                for path in (out / "plain" / "predictions").glob("*.nii.gz")
            )
            print(f"  the output is exchanged exactly: {same}")


if __name__ == "__main__":
    main()
