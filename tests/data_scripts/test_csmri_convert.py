from pathlib import Path

import numpy as np
import pytest
import scipy.io
from csmri_convert import (
    centred_kspace,
    content_digest,
    network_arrays,
    network_digest,
    orientations,
    oriented,
    peak_one,
    peak_uint16,
    read_mat,
    select_by_signature,
    signature,
)
from upstream import cell_of

from mdl_monai.errors import InputError

RNG = np.random.default_rng(0)


def complex_images(count: int, shape: tuple[int, int] = (9, 12)) -> list[np.ndarray]:
    return [peak_one(RNG.normal(size=shape) + 1j * RNG.normal(size=shape)) for _ in range(count)]


def test_a_matlab_variable_is_read_by_name(tmp_path: Path) -> None:
    image = RNG.random((5, 7))
    scipy.io.savemat(tmp_path / "im.mat", {"im_ori": image})
    assert np.array_equal(read_mat(tmp_path / "im.mat", "im_ori"), image)
    with pytest.raises(InputError, match=r"(?s)variable is missing.*Img.*im_ori"):
        read_mat(tmp_path / "im.mat", "Img")


@pytest.mark.parametrize("body", [b"<html>not found</html>", b""])
def test_a_file_that_is_not_matlabs_is_one_clear_error(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "im.mat").write_bytes(body)
    with pytest.raises(InputError, match="not a MATLAB file"):
        read_mat(tmp_path / "im.mat", "im_ori")


def test_uint16_slices_use_the_whole_range_and_keep_the_order() -> None:
    raw = RNG.integers(0, 1500, (6, 9)).astype(np.int16)
    scaled = peak_uint16(raw)
    assert scaled.dtype == np.uint16 and scaled.max() == 65535
    np.testing.assert_allclose(scaled, raw * (65535 / raw.max()), atol=0.51)
    assert np.array_equal(peak_uint16(scaled), scaled)


def test_kspace_is_centred_and_orthonormal() -> None:
    kspace = centred_kspace(np.full((6, 9), 2.0 + 1j))
    expected = np.zeros((6, 9), dtype=np.complex64)
    expected[3, 4] = (2 + 1j) * np.sqrt(54)
    np.testing.assert_allclose(kspace, expected, atol=1e-5)


def test_there_are_eight_orientations_and_each_is_found_by_its_digest() -> None:
    volume = RNG.integers(0, 9, (3, 4, 4))
    found = {content_digest([v]) for v in orientations(volume)}
    assert len(found) == 8
    for digest in found:
        assert content_digest([oriented("scan", volume, digest)]) == digest
    with pytest.raises(InputError, match=r"(?s)prepared set scan has not the content.*nothing was written"):
        oriented("scan", volume, "0" * 64)


def test_upright_is_the_first_orientation_tried() -> None:
    ras = np.zeros((1, 3, 3))
    ras[0, 0, 2] = 1  # left, front
    assert next(orientations(ras))[0, 0, 0] == 1  # first row, first column


@pytest.mark.parametrize("changed", [np.zeros((2, 3)), np.zeros((3, 2), np.float32), np.eye(3, 2)])
def test_the_content_digest_tells_type_shape_and_values_apart(changed: np.ndarray) -> None:
    original = np.zeros((3, 2))
    assert content_digest([original]) == content_digest([np.asfortranarray(original)])
    assert content_digest([original]) != content_digest([changed])


def test_slices_are_recognised_after_a_round_trip_through_single_precision() -> None:
    images = complex_images(7)
    wanted = np.stack([signature(images[i]) for i in (5, 0, 3)])
    noisy = [image.astype(np.complex64).astype(np.complex128) for image in images]
    found = select_by_signature(noisy, wanted.round(6))
    assert [any(f is n for f in found) for n in noisy] == [i in (0, 3, 5) for i in range(7)]
    assert found[0] is noisy[5]
    with pytest.raises(InputError, match=r"(?s)3 known slices among 2.*2 of them"):
        select_by_signature([noisy[5], noisy[0]], wanted)


def saved_network(path: Path, layers: list[dict]) -> np.ndarray:
    cell = np.empty((1, len(layers)), dtype=object)
    cell[0, :] = layers
    scipy.io.savemat(path, {"net": {"layers": cell}})
    return read_mat(path, "net")


def test_a_network_struct_becomes_plain_arrays_in_layer_order(tmp_path: Path) -> None:
    gamma, rho, line = RNG.random((8, 3)), RNG.random((1, 3)), RNG.random((101, 3))
    layers = [
        {"type": "X_org", "weights": cell_of(gamma, rho), "learningRate": 1.0},
        {"type": "Non_linorg", "weights": cell_of(line)},
        {"type": "loss"},
    ]
    arrays = network_arrays(saved_network(tmp_path / "net.mat", layers))
    assert list(arrays) == ["types", "000_X_org_0", "000_X_org_1", "001_Non_linorg_0"]
    assert arrays["types"].tolist() == ["X_org", "Non_linorg", "loss"]
    for key, expected in (("000_X_org_0", gamma), ("000_X_org_1", rho), ("001_Non_linorg_0", line)):
        assert arrays[key].dtype == np.float32
        np.testing.assert_array_equal(arrays[key], expected.astype(np.float32))

    regrouped = {"types": arrays["types"], "a": arrays["000_X_org_0"], "b": arrays["000_X_org_1"][0]}
    regrouped |= {f"c{i}": row for i, row in enumerate(arrays["001_Non_linorg_0"])}
    assert network_digest(regrouped) == network_digest(arrays)
    assert network_digest(arrays | {"000_X_org_1": arrays["000_X_org_1"] + 1}) != network_digest(arrays)
