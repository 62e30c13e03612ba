"""Training data without pairs: each MR image beside a CT of another patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Compose
from torch.utils.data import Dataset

from mdl_monai.errors import InputError

OF_A, OF_B = ("image", "mask_image"), ("label", "mask_label")

Record = Mapping[str, Any]


class UnpairedDataset(Dataset):
    """Item i: the MR image of record i, and a CT drawn anew each time among those of other patients.

    With `same_view` it is drawn among the slices of the same view, the position-based selection of Yang et al. (IEEE
    TMI 2020): where every slice is a middle slice, the view is its position. Without, any slice will do, as if
    nothing were known of positions.

    ``transform``, never called, seeds the draw and both transforms: `TrainingCheckpoint` and a loader's workers do it
    by ``transform.set_random_state(seed)``, and equal seeds give equal items in equal order.

    Args:
        records_a, records_b: MR and CT images, with their ``subject`` and, if they have any, ``view``; perhaps the
            same records.
        transform_a: record to ``image`` and, if wanted, ``mask_image``; what else it gives is dropped.
        transform_b: record to ``label`` and, if wanted, ``mask_label``.
        same_view: as above.
        cache_rate: share of the images held in memory, as far as the first random transform.
        progress: show a bar while they are loaded.

    Raises:
        InputError: a record of `records_a` without any partner.
    """

    def __init__(
        self,
        records_a: Sequence[Record],
        records_b: Sequence[Record],
        transform_a: Callable,
        transform_b: Callable,
        same_view: bool = True,
        cache_rate: float = 1.0,
        progress: bool = False,
    ) -> None:
        self.partners = [_partners(record, records_b, same_view) for record in records_a]
        self.a, self.b = (
            CacheDataset(records, transform, cache_rate=cache_rate, progress=progress)
            for records, transform in ((records_a, transform_a), (records_b, transform_b))
        )
        self.transform = Compose([self.a.transform, self.b.transform])

    def __len__(self) -> int:
        return len(self.partners)

    def __getitem__(self, index: int) -> dict[str, Any]:
        partners = self.partners[index]
        other = partners[self.transform.R.randint(len(partners))]
        item = {key: value for key, value in self.a[index].items() if key in OF_A}
        return item | {key: value for key, value in self.b[other].items() if key in OF_B}


def _partners(record: Record, others: Sequence[Record], same_view: bool) -> list[int]:
    """Indices of what a record may be shown with."""
    found = [
        n
        for n, other in enumerate(others)
        if other["subject"] != record["subject"]
        and (not same_view or other.get("view") == record.get("view"))
    ]
    if not found:
        kind = f"{record['view']} CT" if same_view and "view" in record else "CT"
        raise InputError(
            f"there is no {kind} of another patient to train with unpaired",
            where=record.get("case", record["subject"]),
            expected="two subjects or more, MR and CT of each view",
            found=f"{len(others)} CT images of {len({other['subject'] for other in others})} subjects",
            remedy="add subjects to the training split, or train on pairs",
        )
    return found
