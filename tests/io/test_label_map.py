from __future__ import annotations

import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.io.label_map import check_label_map, label_values

EYE = np.eye(4)


def make() -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.zeros(1, 5, 4, 3)
    label[0, 1, 1:3] = 2
    label[0, 3, 0, 0] = 5
    return label, torch.randn(1, 5, 4, 3)


def test_values_are_listed_without_background() -> None:
    label, _ = make()
    assert label_values(label, where="a") == [2, 5]
    assert label_values(torch.zeros(1, 2, 2), where="a") == []


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-1.0, "-1"), (float("nan"), "nan")])
def test_values_that_are_no_labels_are_named(value: float, shown: str) -> None:
    label, _ = make()
    label[0, 0, 0, 0] = value
    with pytest.raises(InputError, match=rf"(?s)no labels.*where: map\.nii.*found: {shown}"):
        label_values(label, where="map.nii")


def test_a_fitting_map_passes_and_others_are_refused_by_what_is_wrong() -> None:
    label, image = make()
    check_label_map(label, image, [2, 5, 7], where="a", affines=(EYE, EYE + 1e-4))
    with pytest.raises(InputError, match=r"(?s)another shape.*expected: \(5, 4, 3\)"):
        check_label_map(label[..., :2], image, [2, 5], where="a", affines=(EYE, EYE))
    with pytest.raises(InputError, match="elsewhere in space"):
        check_label_map(label, image, [2, 5], where="a", affines=(EYE, EYE * 1.1))
    with pytest.raises(InputError, match=r"(?s)unknown label.*expected: 0 and 1, 2.*found: 5"):
        check_label_map(label, image, [1, 2], where="a", affines=(EYE, EYE))
