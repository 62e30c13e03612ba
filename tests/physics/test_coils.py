import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.physics.coils import simulated_coil_maps


@pytest.mark.parametrize("shape", [(33, 20), (16, 47), (1, 5)])
@pytest.mark.parametrize("n_coils", [1, 5, 8])
def test_the_sum_of_squares_is_one_in_every_pixel(n_coils: int, shape: tuple[int, int]) -> None:
    maps = simulated_coil_maps(n_coils, shape)
    assert maps.shape == (n_coils, *shape) and maps.dtype == torch.complex64
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(shape))


def test_magnitude_and_phase_are_smooth() -> None:
    maps = simulated_coil_maps(6, (63, 94))
    for axis in (1, 2):
        assert maps.diff(dim=axis).abs().max() < 0.15


def test_each_coil_sees_best_what_is_next_to_it() -> None:
    maps = simulated_coil_maps(4, (31, 40)).abs()
    right, bottom, left, top = maps
    assert right[15].argmax() == 39 and left[15].argmax() == 0
    assert bottom[:, 20].argmax() == 30 and top[:, 20].argmax() == 0
    assert right[15, 39] > 2 * right[15, 0]


def test_coils_are_told_apart_by_their_maps() -> None:
    maps = simulated_coil_maps(8, (24, 21)).flatten(1)
    gram = (maps @ maps.mH).abs() / (24 * 21 / 8)
    off_diagonal = gram - torch.diag(gram.diagonal())
    assert off_diagonal.max() < 0.95
    assert torch.linalg.matrix_rank(maps) == 8


@pytest.mark.parametrize(("n_coils", "shape"), [(0, (4, 4)), (2, (4, 4, 4)), (2, (0, 4))])
def test_impossible_arguments_are_one_clear_error(n_coils: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least one coil"):
        simulated_coil_maps(n_coils, shape)
