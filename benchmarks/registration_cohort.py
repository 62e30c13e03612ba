"""Claim: the cost of a cohort is linear in its pairs of target and atlas: 10, 100 and 400 pairs on two processes.

Needs the hippocampus set below MDL_DATA_ROOT, or beside the checkout, and mdl_monai[cohort]. The library is aligned
before, as it is once for all cohorts. Each size starts its processes and its cache anew.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from monai.transforms import Compose, ScaleIntensityRangePercentilesd

from mdl_monai.engines.register_cohort import register_cohort
from mdl_monai.io.content_cache import ContentCache
from mdl_monai.io.records import load_records
from mdl_monai.registration.batched import BatchedDeformable
from mdl_monai.transforms.atlas_library import AtlasLibrary
from mdl_monai.transforms.atlases import RegisterAtlasesd, SelectAtlasesd
from mdl_monai.transforms.load_label import LoadImageAndLabeld

LABELS = (1, 2)


def main() -> None:
    """Print seconds and seconds a pair for each size, and what the cache takes."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MDL_DATA_ROOT", beside)) / "hippocampus"
    if not folder.is_dir():
        sys.exit(f"skipped: no hippocampus set at {folder}; set MDL_DATA_ROOT")
    normalise = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True)
    load = Compose([LoadImageAndLabeld("image", "label", LABELS, (3,)), normalise])
    records = load_records(folder, "train", "image", "label")
    with tempfile.TemporaryDirectory() as scratch:
        library = AtlasLibrary(folder, "train", load, cache_dir=Path(scratch, "library"), progress=False)
        _ = library.aligned
        for targets in (1, 10, 40):
            library.cache = ContentCache(Path(scratch, f"cache{targets}"))
            steps = [
                SelectAtlasesd("image", library, 10),
                RegisterAtlasesd("image", library, LABELS, 10, deformable=BatchedDeformable()),
            ]
            start = time.perf_counter()
            report = register_cohort(
                records[:targets], Compose([load, *steps]), scratch, workers=2, progress=False
            )
            seconds = time.perf_counter() - start
            size = sum(p.stat().st_size for p in library.cache.folder.rglob("*.npz")) / 1e6
            print(
                f"{len(report.done)} pairs: {seconds:.0f} s, {seconds / len(report.done):.2f} s a pair, "
                f"{size:.0f} MB in the cache, {len(report.failed)} failed",
                flush=True,
            )


if __name__ == "__main__":
    main()
