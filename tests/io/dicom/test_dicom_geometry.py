from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import Stack, affine_of, oblique_axes, orthogonal_axes

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.geometry import ALLOWABLE, series_geometry
from mdl_monai.io.dicom.header import SliceHeader

SPACING = (0.9, 1.1, 2.5)
ORIGIN = np.array([-31.5, 20.25, 7.0])
FILES = "abcdefg"


def stack(axes: np.ndarray | None = None, n_slices: int = 7) -> list[SliceHeader]:
    axes = np.eye(3) if axes is None else axes
    return [
        SliceHeader(
            name=FILES[k],
            shape=(5, 4),
            position=ORIGIN + k * SPACING[2] * axes[:, 2],
            orientation=axes[:, :2].T.ravel(),
            spacing=np.array([SPACING[1], SPACING[0]]),
            thickness=1.23,
            number=k,
        )
        for k in range(n_slices)
    ]


def moved(headers: list[SliceHeader], k: int, offset: list[float]) -> list[SliceHeader]:
    return [
        replace(h, position=h.position + np.asarray(offset)) if n == k else h for n, h in enumerate(headers)
    ]


def in_world(order: list[int | None], affine: np.ndarray, headers: list[SliceHeader]) -> bool:
    """Whether each slice's corners lie where its own header says (PS3.3, equation C.7.6.2.1-1)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    for k, index in enumerate(order):
        if index is None:
            continue
        header = headers[index]
        for column, row in ((0, 0), (3, 0), (0, 4), (3, 4)):
            expected = (
                header.position
                + header.orientation[:3] * header.spacing[1] * column
                + header.orientation[3:] * header.spacing[0] * row
            )
            if not np.allclose((lps @ [column, row, k, 1])[:3], expected, atol=1e-9):
                return False
    return True


@pytest.mark.parametrize("oblique", [False, True])
def test_every_axis_order_and_flip_lies_where_its_headers_say(oblique: bool) -> None:
    rng = np.random.default_rng(0)
    for axes in orthogonal_axes():
        turned = oblique_axes(rng) @ axes if oblique else axes
        headers = stack(turned)
        shuffled = [headers[i] for i in rng.permutation(len(headers))]
        order, affine = series_geometry(shuffled)
        assert sorted(order) == list(range(7)) and in_world(order, affine, shuffled)
        assert np.linalg.det(affine) > 0  # by the normal, whichever way the slices were acquired
        if np.linalg.det(turned) > 0:
            np.testing.assert_allclose(affine, affine_of(turned, SPACING, ORIGIN), atol=1e-9)


def test_the_usual_axial_series_in_numbers() -> None:
    order, affine = series_geometry(stack())
    assert order == list(range(7))
    expected = [[-0.9, 0, 0, 31.5], [0, -1.1, 0, -20.25], [0, 0, 2.5, 7], [0, 0, 0, 1]]
    np.testing.assert_allclose(affine, expected)


@pytest.mark.parametrize(("thickness", "expected"), [(3.3, 3.3), (None, 1.0)])
def test_a_single_slice_has_its_thickness_or_one_millimetre(thickness: float | None, expected: float) -> None:
    header = replace(stack()[0], thickness=thickness)
    order, affine = series_geometry([header])
    assert order == [0] and affine[2, 2] == expected


def test_rounded_positions_are_one_grid_and_its_affine_is_at_right_angles() -> None:
    axes = oblique_axes(np.random.default_rng(1))
    headers = [replace(h, position=h.position.round(2)) for h in stack(axes)]
    _, affine = series_geometry(headers)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(affine, affine_of(axes, SPACING, ORIGIN), atol=0.01)


def test_a_missing_slice_is_named_and_can_be_left_to_interpolation(caplog: pytest.LogCaptureFixture) -> None:
    headers = stack()
    del headers[3]
    with pytest.raises(InputError, match=r"(?s)a slice is missing.*between c, e in folder.*2.5 mm.*5 mm"):
        series_geometry(headers, "folder")
    with caplog.at_level(logging.WARNING):
        order, affine = series_geometry(headers, "folder", allow=["missing_slice"])
    assert order == [0, 1, 2, None, 3, 4, 5] and affine[2, 2] == 2.5
    assert "c, e in folder" in caplog.text


def test_more_than_a_quarter_is_not_interpolated() -> None:
    headers = [h for k, h in enumerate(stack()) if k not in (2, 4)]
    with pytest.raises(InputError, match=r"(?s)a slice is missing.*2 missing in all"):
        series_geometry(headers, allow=["missing_slice"])


@pytest.mark.parametrize("far", [1e4, 1e8])
def test_a_slice_far_away_makes_no_large_volume(far: float) -> None:
    with pytest.raises(InputError, match="unevenly spaced|is missing"):
        series_geometry(moved(stack(), 6, [0, 0, far]), allow=["missing_slice"])


def test_a_doubled_slice_is_named_and_the_first_can_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    headers = [*stack(), replace(stack()[2], name="again", number=90)]
    with pytest.raises(InputError, match=r"(?s)a slice is doubled.*c, again in folder"):
        series_geometry(headers, "folder")
    with caplog.at_level(logging.WARNING):
        assert series_geometry(headers[::-1], allow=["doubled_slice"]).order == [7, 6, 5, 4, 3, 2, 1]
    assert "doubled" in caplog.text
    beside = moved(headers, 7, [4.0, 0, 0])
    with pytest.raises(InputError, match="side by side"):
        series_geometry(beside, allow=["doubled_slice"])


@pytest.mark.parametrize("times", [2, 3])
def test_several_images_at_one_position_are_counted(times: int) -> None:
    with pytest.raises(
        InputError, match=rf"(?s)several images at one position.*{times} at one position.*7 pos"
    ):
        series_geometry(stack() * times, allow=ALLOWABLE)


def test_gantry_tilt_is_named_and_can_be_kept_as_a_shear(caplog: pytest.LogCaptureFixture) -> None:
    shear = np.tan(np.radians(12)) * SPACING[2]
    headers = [replace(h, position=h.position + np.array([0, k * shear, 0])) for k, h in enumerate(stack())]
    with pytest.raises(InputError, match=r"(?s)gantry tilt.*a, g in folder.*12 degrees"):
        series_geometry(headers, "folder")
    with caplog.at_level(logging.WARNING):
        order, affine = series_geometry(headers, allow=["gantry_tilt"])
    assert in_world(order, affine, headers) and "gantry tilt" in caplog.text
    assert in_world(*series_geometry(stack(), allow=ALLOWABLE), stack())  # nothing to allow, nothing changes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"spacing": np.array([1.1, 0.95])}, r"mixes pixel spacings.*d in folder.*1.1 x 0.9\n.*1.1 x 0.95"),
        ({"shape": (5, 6)}, r"mixes matrix sizes.*d in folder.*5 x 4\n.*5 x 6"),
        ({"frame_of_reference": "1.2.3.99"}, r"mixes frames of reference.*d in folder"),
        (
            {"orientation": np.array([1, 0, 0, 0, np.cos(0.05), np.sin(0.05)])},
            r"a slice is tilted.*d in folder.*2.9 degrees",
        ),
        ({"orientation": np.array([0, 1.0, 0, 0, 0, -1])}, r"a slice is tilted.*d in folder.*90 degrees"),
    ],
)
def test_what_all_slices_must_share_names_the_one_that_differs(changed: dict, message: str) -> None:
    headers = stack()
    headers[3] = replace(headers[3], **changed)
    with pytest.raises(InputError, match=f"(?s){message}") as caught:
        series_geometry(headers, "folder", allow=ALLOWABLE)
    assert "1.2.3.99" not in str(caught.value)


def test_mixed_orientations_are_named() -> None:
    turned = np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]])
    with pytest.raises(InputError, match="(?s)mixes slice orientations.*90 degrees"):
        series_geometry([*stack(), *stack(turned)[1:]])


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        ([0, 0, 1.2], r"(?s)unevenly spaced.*c, d.*2.5 mm.*3.7 mm"),
        ([0, 0, 0.1], "unevenly spaced"),
        ([0.6, 0, 0], r"(?s)shifted in its plane.*d.*0.6 mm"),
    ],
)
def test_a_slice_out_of_its_place_is_named(offset: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        series_geometry(moved(stack(), 3, offset), allow=ALLOWABLE)


def test_spacing_that_drifts_is_uneven_though_no_gap_is() -> None:
    headers = [
        replace(h, position=ORIGIN + np.array([0, 0, 2.5 * k + 0.04 * k**2])) for k, h in enumerate(stack())
    ]
    with pytest.raises(InputError, match="unevenly spaced"):
        series_geometry(headers)


def test_an_orientation_that_is_no_plane_is_refused() -> None:
    for bad in ([1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 2, 0], [0, 0, 0, 0, 0, 0]):
        headers = [replace(h, orientation=np.array(bad, dtype=float)) for h in stack()]
        with pytest.raises(InputError, match="not that of a plane"):
            series_geometry(headers)
    for bad in ([0.0, 1.0], [1.0, -1.0]):
        with pytest.raises(InputError, match="pixels of no size"):
            series_geometry([replace(h, spacing=np.array(bad)) for h in stack()])


@pytest.mark.parametrize("allow", [["missing_slices"], "missing_slice"])
def test_unknown_names_are_not_allowed(allow: list[str] | str) -> None:
    with pytest.raises(InputError, match=r"(?s)allow does not list.*missing_slice, doubled_slice"):
        series_geometry(stack(), allow=allow)


def test_the_stack_of_the_file_tests_says_the_same() -> None:
    here = Stack(np.zeros((7, 5, 4), np.uint16), spacing=SPACING, origin=tuple(ORIGIN))
    np.testing.assert_allclose(series_geometry(stack()).affine, here.affine)
