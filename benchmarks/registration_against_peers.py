"""Claim: ten atlases are registered to one 3D target, at equal or better Dice, in a third of SimpleITK demons' time.

Needs the hippocampus set below MDL_DATA_ROOT, or beside the checkout. Targets and atlases are of its list `train`.
All methods get the same atlases, the same affine maps and one thread; the seconds are CPU time.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from monai.transforms import Compose, ScaleIntensityRangePercentilesd

from mdl_monai.io.records import load_records
from mdl_monai.networks.majority_vote import majority_vote
from mdl_monai.registration.batched import BatchedDeformable
from mdl_monai.registration.demons import SitkDemons
from mdl_monai.registration.folding import folded_share
from mdl_monai.registration.geometry import in_voxels
from mdl_monai.registration.greedy import GreedyDeformable
from mdl_monai.registration.register import Deformable, warp
from mdl_monai.registration.volume import Volume
from mdl_monai.transforms.atlas_library import AtlasLibrary
from mdl_monai.transforms.atlases import one_hot
from mdl_monai.transforms.load_label import LoadImageAndLabeld

TARGETS = 8
ATLASES = 10
LABELS = (1, 2)


def dice(found: torch.Tensor, label: torch.Tensor) -> float:
    """Mean over both labels."""
    return float(
        np.mean(
            [
                2 * ((found == k) & (label == k)).sum() / ((found == k).sum() + (label == k).sum())
                for k in LABELS
            ]
        )
    )


def main() -> None:
    """Print Dice of the majority vote, CPU seconds a target, ratio to demons, and folded voxels of each method."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MDL_DATA_ROOT", beside)) / "hippocampus"
    if not folder.is_dir():
        sys.exit(f"skipped: no hippocampus set at {folder}; set MDL_DATA_ROOT")
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    methods: dict[str, Deformable | None] = {
        "affine alone": None,
        "demons, 20 iterations": SitkDemons(iterations=20),
        "demons, 50 iterations": SitkDemons(iterations=50),
        "demons, 100 iterations": SitkDemons(iterations=100),
        "greedy": GreedyDeformable(),
        "batched, 4 iterations at full resolution": BatchedDeformable(iterations=(20, 20, 4)),
        "batched": BatchedDeformable(),
    }
    normalise = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True)
    load = Compose([LoadImageAndLabeld("image", "label", LABELS, (3,)), normalise])
    records = load_records(folder, "train", "image", "label")[:: 175 // TARGETS][:TARGETS]
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    with tempfile.TemporaryDirectory() as cache:
        library = AtlasLibrary(folder, "train", load, cache_dir=cache)
        for record in records:
            number = int(record["case"][-3:])
            sides = [  # volumes 2k - 1 and 2k are the two sides of one head
                k
                for k, r in enumerate(library.records)
                if (int(r["case"][-3:]) + 1) // 2 == (number + 1) // 2
            ]
            made = load(record)
            target, label = (Volume.from_image(made[key]) for key in ("image", "label"))
            chosen = library.select(target, ATLASES, exclude=sides)
            atlases = [library[k] for k in chosen.indices]
            images = [a.image for a in atlases]
            maps = torch.stack(
                [library.affine(target, a, s) for a, s in zip(images, chosen.starts, strict=True)]
            )
            for name, method in methods.items():
                start = time.process_time()
                fields = list(method(target, images, maps)) if method else [None] * ATLASES
                seconds = time.process_time() - start
                warped = [
                    warp(target, m, u, a.label, one_hot(a.label.values, LABELS))
                    for m, u, a in zip(maps, fields, atlases, strict=True)
                ]
                vote = majority_vote(
                    torch.stack([w for w, _ in warped])[None], torch.stack([v for _, v in warped])[None]
                )
                folds = [
                    float(folded_share(in_voxels(u, target.affine).movedim(-1, 0)[None]))
                    for u in fields
                    if u is not None
                ]
                results[name].append(
                    (dice(vote[0].argmax(0), label.values), seconds, float(np.mean(folds or [0.0])))
                )
    reference = np.mean([seconds for _, seconds, _ in results["demons, 50 iterations"]])
    for name, values in results.items():
        score, seconds, folded = np.mean(values, axis=0)
        ratio = f"{reference / seconds:.1f} times as fast as 50 iterations of demons" if methods[name] else ""
        print(f"{name}: Dice {score:.4f}, {seconds:.2f} s for {ATLASES} atlases, folded {folded:.4%} {ratio}")


if __name__ == "__main__":
    main()
