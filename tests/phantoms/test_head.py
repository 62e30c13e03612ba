import itertools

import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.phantoms.anatomy import Hippocampus, Tissue
from mdl_monai.phantoms.head import CT_MEAN_HU, MR_MEAN, HeadPhantom, head_phantom

SHAPE, SPACING = (85, 97, 79), (2.0, 2.1, 2.5)
VOXEL_ML = 2.0 * 2.1 * 2.5 / 1000


@pytest.fixture(scope="module")
def head() -> HeadPhantom:
    return head_phantom(0, SHAPE, SPACING)


def interior(mask: torch.Tensor) -> torch.Tensor:
    """Voxels whose 3 x 3 x 3 neighbours carry the same label, so without partial volume."""
    return -torch.nn.functional.max_pool3d(-mask[None].float(), 3, stride=1, padding=1)[0] > 0.5


def test_the_same_seed_and_subject_give_the_same_head(head: HeadPhantom) -> None:
    again = head_phantom(0, SHAPE, SPACING)
    for name in ("mr", "ct", "tissue", "hippocampus", "affine"):
        assert torch.equal(getattr(head, name), getattr(again, name))


@pytest.mark.parametrize(("subject", "seed"), [(1, 0), (0, 1)])
def test_another_subject_or_seed_has_another_anatomy(head: HeadPhantom, subject: int, seed: int) -> None:
    other = head_phantom(subject, SHAPE, SPACING, seed=seed)
    differing = (other.tissue != head.tissue)[(head.tissue > 0) | (other.tissue > 0)].float().mean()
    assert 0.05 < differing < 0.7
    for label in (Hippocampus.ANTERIOR, Hippocampus.POSTERIOR):
        a, b = head.hippocampus == label, other.hippocampus == label
        assert 0.2 < 2 * (a & b).sum() / (a.sum() + b.sum()) < 0.99  # alike enough for atlases, not equal


@pytest.mark.parametrize("shape", [(17, 20, 9), (8, 31, 1), (1, 1, 1)])
def test_any_shape_gives_tensors_of_that_shape_and_type(shape: tuple[int, int, int]) -> None:
    head = head_phantom(2, shape, (9.0, 8.0, 10.0))
    assert head.mr.shape == head.ct.shape == head.tissue.shape == head.hippocampus.shape == shape
    assert head.mr.dtype == head.ct.dtype == torch.float32
    assert head.tissue.dtype == head.hippocampus.dtype == torch.uint8
    assert torch.isfinite(head.mr).all() and torch.isfinite(head.ct).all()


def test_one_subject_has_the_same_anatomy_on_every_grid() -> None:
    coarse = head_phantom(3, (21, 27, 23), (8.0, 7.0, 8.0))
    fine = head_phantom(3, (63, 81, 69), (8 / 3, 7 / 3, 8 / 3))
    assert (coarse.tissue == fine.tissue[1::3, 1::3, 1::3]).float().mean() > 0.999


def test_the_affine_takes_voxels_to_millimetres_around_the_middle(head: HeadPhantom) -> None:
    corners = torch.tensor([[0.0, 0.0, 0.0, 1.0], [*(n - 1.0 for n in SHAPE), 1.0]], dtype=torch.float64)
    middle = (corners @ head.affine.T).mean(0)
    torch.testing.assert_close(
        middle, torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-5, rtol=0
    )
    assert head.affine.diagonal()[:3].tolist() == list(SPACING)


def test_every_tissue_is_there_in_a_plausible_amount(head: HeadPhantom) -> None:
    litres = {label: (head.tissue == label).sum().item() * VOXEL_ML / 1000 for label in Tissue}
    assert 0.8 < litres[Tissue.GREY] + litres[Tissue.WHITE] + litres[Tissue.DEEP_GREY] < 2.0
    assert 0.2 < litres[Tissue.GREY] / litres[Tissue.WHITE] < 2
    assert 0.005 < litres[Tissue.VENTRICLE] < 0.06
    for label in (Tissue.SCALP, Tissue.SKULL, Tissue.CSF, Tissue.DEEP_GREY):
        assert litres[label] > 0.02
    for label in (Hippocampus.ANTERIOR, Hippocampus.POSTERIOR):
        assert 1.0 < (head.hippocampus == label).sum().item() * VOXEL_ML < 10.0  # ml, both sides


def test_tissues_are_nested_from_the_skin_inwards(head: HeadPhantom) -> None:
    shell = head.tissue.clamp_max(Tissue.GREY).int()  # air, scalp, skull, CSF, brain
    for axis in range(3):
        assert shell.diff(dim=axis).abs().max() == 1  # neighbours are never two shells apart
    assert (head.tissue[0] == Tissue.AIR).all() and (head.tissue[-1] == Tissue.AIR).all()


def test_the_hippocampus_lies_in_grey_matter_with_its_anterior_part_in_front(head: HeadPhantom) -> None:
    anterior, posterior = (
        head.hippocampus == label for label in (Hippocampus.ANTERIOR, Hippocampus.POSTERIOR)
    )
    assert (head.tissue[anterior | posterior] == Tissue.GREY).all()
    assert anterior.nonzero()[:, 1].min() >= posterior.nonzero()[:, 1].max()
    grown = torch.nn.functional.max_pool3d(anterior[None].float(), 3, stride=1, padding=1)[0] > 0
    assert (grown & posterior).any()  # the parts touch


def test_ct_holds_the_hounsfield_units_of_each_tissue(head: HeadPhantom) -> None:
    for label in Tissue:
        values = head.ct[interior(head.tissue == label)]
        assert len(values) > 5, label.name
        assert abs(values.mean() - CT_MEAN_HU[label]) < 5, label.name
        assert values.std() < 15, label.name
    assert head.ct.min() >= -1024


def test_mr_has_t1_contrast_and_a_noise_floor(head: HeadPhantom) -> None:
    mean = {
        label: head.mr[interior(head.tissue == label)].mean() for label in Tissue if label != Tissue.VENTRICLE
    }
    order = (Tissue.AIR, Tissue.SKULL, Tissue.CSF, Tissue.GREY, Tissue.DEEP_GREY, Tissue.WHITE)
    assert all(mean[a] < mean[b] for a, b in itertools.pairwise(order))
    assert abs(mean[Tissue.WHITE] - MR_MEAN[Tissue.WHITE]) < 0.15
    assert 0.005 < mean[Tissue.AIR] < 0.02  # Rician: the mean of noise alone is above 0
    assert head.mr.min() >= 0


def test_the_bias_field_makes_one_tissue_unequal_over_the_head(head: HeadPhantom) -> None:
    white = interior(head.tissue == Tissue.WHITE)
    assert 0.02 < head.mr[white].std() / head.mr[white].mean() < 0.3


@pytest.mark.parametrize(
    "arguments",
    [
        {"subject": -1},
        {"subject": 0, "shape": (8, 8)},
        {"subject": 0, "shape": (8, 0, 8)},
        {"subject": 0, "spacing_mm": (1.0, -1.0, 1.0)},
    ],
)
def test_impossible_arguments_are_one_clear_error(arguments: dict) -> None:
    with pytest.raises(InputError, match="subject from 0"):
        head_phantom(**arguments)
