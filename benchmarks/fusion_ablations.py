"""What each part of the hippocampus fusion bundle is worth: selection, atlases, registration, window, prior.

    python benchmarks/fusion_ablations.py [--data DIR] [--split val] [--atlas_split fit] [--cache_dir DIR]

Evaluates the shipped weights with one option changed at a time, on the hippocampus set below MDL_DATA_ROOT, or beside
the checkout, with the lists that `data_scripts/hippocampus.py` writes. Dice is the mean over labels; the differences
to the bundle as it is are paired, intervals over subjects.
"""

from __future__ import annotations

from typing import Any

import torch
from fusion_follows_its_atlases import evaluate, parser_of, told, usual_options
from torch import Tensor

from mdl_monai.metrics.summary import paired_difference

METRIC = "dice_mean"
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is: 10 atlases by mutual information, deformable, radius 2, learned features": {},
    "atlases by deep features": {"similarity": "deep"},
    "atlases at random": {"similarities#nmi": {"_target_": "fusion_ablations.RandomSimilarity"}},
    "3 atlases": {"n_atlases": 3},
    "5 atlases": {"n_atlases": 5},
    "15 atlases": {"n_atlases": 15},
    "radius 1": {"radius": 1},
    "radius 3": {"radius": 3},
    "affine alone": {"registration": "none"},
    "affine alone, radius 3": {"registration": "none", "radius": 3},
    "no prior": {"prior": False},
}


class RandomSimilarity:
    """Of each atlas, drawn anew for each target, and alike in each run."""

    def __call__(self, target: Tensor, atlases: Tensor, valid: Tensor) -> Tensor:
        """As `normalised_mutual_information`."""
        seed = int(target.double().abs().sum()) % 2**31
        return torch.rand(len(atlases), generator=torch.Generator().manual_seed(seed))


def main() -> None:
    """Print a line a variant."""
    options = parser_of(str(__doc__), "fusion_ablations", "val", "fit").parse_args()
    common = usual_options(options)
    whole = None
    for number, (name, changed) in enumerate(VARIANTS.items()):
        rows = evaluate(options.output_dir / str(number), **common, **changed)
        whole = whole or rows
        s = paired_difference(rows, whole, [METRIC], "case")[METRIC]
        less = f"{s['mean']:+.4f} [{s['ci95_low']:+.4f}, {s['ci95_high']:+.4f}]" if rows is not whole else ""
        print(f"{name:45s} {told(rows)} {less}", flush=True)


if __name__ == "__main__":
    main()
