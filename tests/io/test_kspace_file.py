"""fastMRI's layout, and ISMRMRD as its own library writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.io.kspace_file import load_kspace
from mdl_monai.physics.fourier import fft2c, ifft2c

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions><H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz>
</experimentalConditions><encoding>
<encodedSpace><matrixSize><x>{nx}</x><y>{ny}</y><z>{nz}</z></matrixSize>
<fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>{fz}</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{rx}</x><y>{ry}</y><z>{nz}</z></matrixSize>
<fieldOfView_mm><x>1</x><y>1</y><z>1</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>1</maximum><center>{cy}</center>
</kspace_encoding_step_1></encodingLimits><trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"""
SIZES = {"nx": 24, "ny": 14, "nz": 1, "fx": 48.0, "fy": 21.0, "fz": 5.0, "rx": 12, "ry": 14, "cy": 6}


def header(trajectory: str = "cartesian", **sizes: Any) -> str:
    return HEADER.format(trajectory=trajectory, **{**SIZES, **sizes})


def images(slices: int = 2, coils: int = 3, rows: int = 24, columns: int = 14) -> torch.Tensor:
    """Complex coil images, nothing in the rows that oversampling adds."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(slices, coils, rows, columns, dtype=torch.complex64, generator=generator)
    image[:, :, : rows // 4] = image[:, :, rows - rows // 4 :] = 0
    return image


def fastmri(path: Path, kspace: Any, **more: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = np.asarray(kspace)
        for name, values in more.items():
            file[name] = values
    return path


def test_fastmri_multicoil_loses_its_oversampling_and_nothing_else(tmp_path: Path) -> None:
    image = images()
    raw = load_kspace(fastmri(tmp_path / "a.h5", fft2c(image), ismrmrd_header=header()))
    assert raw.data.shape == (2, 3, 12, 14) and raw.size == (12, 14) and raw.mask.all()
    assert torch.allclose(ifft2c(raw.data), image[:, :, 6:18], atol=1e-5)
    assert np.allclose(raw.affine @ [0, 0, 0, 1], np.array([6 * 2.0, 0, 0, 1]))
    assert np.allclose(np.diag(raw.affine), [2.0, 1.5, 5.0, 1.0])


def test_fastmri_single_coil_without_a_header_stays_as_it_is(tmp_path: Path) -> None:
    kspace = fft2c(images()[:, 0])
    raw = load_kspace(fastmri(tmp_path / "a.h5", kspace))
    assert torch.equal(raw.data[:, 0], kspace) and raw.size == (24, 14)


def test_columns_that_are_0_or_masked_were_not_acquired(tmp_path: Path) -> None:
    kspace = fft2c(images())
    kspace[..., 3] = 0
    lines = np.ones(14, bool)
    lines[9] = False
    whole = load_kspace(fastmri(tmp_path / "b.h5", kspace, mask=lines))
    assert not whole.data[..., [3, 9]].any() and torch.equal(whole.data[..., 10:], kspace[..., 10:])
    raw = load_kspace(fastmri(tmp_path / "a.h5", kspace, mask=lines, ismrmrd_header=header()))
    assert raw.mask.all(1).all(0).logical_not().nonzero().flatten().tolist() == [3, 9]
    assert not raw.mask[..., [3, 9]].any()


def ismrmrd_file(path: Path, kspace: torch.Tensor, xml: str, **changes: Any) -> Path:
    """Lines of k-space [slices, coils, readout, phase] in mixed order, some reversed, with noise and navigators."""
    library = pytest.importorskip("ismrmrd")
    slices, _, nx, ny = kspace.shape
    dataset = library.Dataset(str(path), "dataset", create_if_needed=True)
    dataset.write_xml_header(xml)
    rng = np.random.default_rng(1)

    def write(values: np.ndarray, step: int, slice_: int, flags: tuple[int, ...], centre: int) -> None:
        line = library.Acquisition.from_array(np.ascontiguousarray(values))
        line.idx.kspace_encode_step_1, line.idx.slice, line.center_sample = step, slice_, centre
        line.read_dir[:], line.phase_dir[:], line.slice_dir[:] = (0, 1, 0), (1, 0, 0), (0, 0, 1)
        line.position[:] = (10.0, 20.0, 30.0 + 4.0 * slice_)
        for flag in flags:
            line.setFlag(flag)
        for name, value in changes.items():
            setattr(line.idx, name, value if step else 0)
        dataset.append_acquisition(line)

    noise = rng.standard_normal((kspace.shape[1], nx)).astype(np.complex64)
    write(noise, 0, 0, (library.ACQ_IS_NOISE_MEASUREMENT,), 0)
    write(noise, 3, 0, (library.ACQ_IS_NAVIGATION_DATA,), nx // 2)
    for number in rng.permutation(slices * ny):
        slice_, step = divmod(int(number), ny)
        values = kspace[slice_, :, :, step].numpy()
        if not np.any(values):
            continue
        if step % 3 == 1:
            write(values[:, ::-1], step, slice_, (library.ACQ_IS_REVERSE,), nx - 1 - nx // 2)
        elif step % 3 == 2:  # twice, the mean of both
            write(values * 1.5, step, slice_, (), nx // 2)
            write(values * 0.5, step, slice_, (), nx // 2)
        else:  # a partial echo would begin later
            write(values, step, slice_, (), nx // 2)
    dataset.close()
    return path


def test_ismrmrd_equals_fastmri(tmp_path: Path) -> None:
    kspace = fft2c(images())
    kspace[..., 5] = 0
    one = load_kspace(ismrmrd_file(tmp_path / "a.h5", kspace, header(cy=7)))
    other = load_kspace(fastmri(tmp_path / "b.h5", kspace, ismrmrd_header=header(cy=7)))
    assert torch.allclose(one.data, other.data, atol=1e-5) and torch.equal(one.mask, other.mask)
    assert one.size == other.size == (12, 14)
    # readout along +y of LPS, phase along +x, the middle of slice 0 at (10, 20, 30) LPS
    assert np.allclose(one.affine @ [12 // 2, 14 // 2, 0, 1], [-10, -20, 30, 1])
    assert np.allclose(one.affine[:3, :3], [[0, -1.5, 0], [-2, 0, 0], [0, 0, 4]])


def test_the_centre_of_the_encoding_is_dc(tmp_path: Path) -> None:
    kspace = fft2c(images(slices=1))
    moved = torch.roll(kspace, -1, -1)  # step 6 holds what lies at 7 = 14 // 2
    moved[..., -1] = 0
    raw = load_kspace(ismrmrd_file(tmp_path / "a.h5", moved, header(cy=6, rx=24)))
    assert torch.allclose(raw.data[..., 1:], kspace[..., 1:], atol=1e-5) and not raw.mask[..., 0].any()


def test_a_3d_acquisition_becomes_slices(tmp_path: Path) -> None:
    library = pytest.importorskip("ismrmrd")
    image = images(slices=4, coils=2)
    volume = torch.fft.fftshift(torch.fft.fft(torch.fft.ifftshift(fft2c(image), 0), dim=0, norm="ortho"), 0)
    dataset = library.Dataset(str(tmp_path / "a.h5"), "dataset", create_if_needed=True)
    dataset.write_xml_header(header(nz=4, cy=7))
    for partition in range(4):
        for step in range(14):
            line = library.Acquisition.from_array(np.ascontiguousarray(volume[partition, :, :, step].numpy()))
            line.idx.kspace_encode_step_1, line.idx.kspace_encode_step_2 = step, partition
            line.center_sample = 12
            dataset.append_acquisition(line)
    dataset.close()
    raw = load_kspace(tmp_path / "a.h5")
    assert torch.allclose(ifft2c(raw.data), image[:, :, 6:18], atol=1e-5)


@pytest.mark.parametrize(
    ("kspace", "words"),
    [
        (np.ones((2, 3, 4)), "no complex array"),
        (np.ones((4, 5), complex), "no complex array"),
        (np.zeros((1, 4, 5), complex), "is empty"),
        (np.full((1, 4, 5), np.nan + 0j), "NaN"),
        (np.full((1, 4, 5), 3e38 + 0j, np.complex64), "below 1e"),  # its image would be infinite
        (np.zeros((0, 4, 5), complex), "no complex array"),
    ],
)
def test_what_is_no_kspace_is_refused(kspace: np.ndarray, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_kspace(fastmri(tmp_path / "a.h5", kspace))


def test_other_files_and_headers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="no readable HDF5"):
        load_kspace(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["reconstruction_rss"] = np.ones((2, 2))
    with pytest.raises(InputError, match="reconstruction_rss"):
        load_kspace(tmp_path / "other.h5")
    with pytest.raises(InputError, match="does not tell the size"):
        load_kspace(fastmri(tmp_path / "a.h5", np.ones((1, 4, 5), complex), ismrmrd_header="<x>1</x>"))
    with pytest.raises(InputError, match="5 columns"):
        load_kspace(fastmri(tmp_path / "b.h5", np.ones((1, 4, 5), complex), mask=np.ones(7)))


def test_a_declared_giant_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kspace", (1000, 32, 640, 640), np.complex64, chunks=True)
    with pytest.raises(InputError, match="too large"):
        load_kspace(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("sizes", "changes", "words"),
    [
        ({"trajectory": "spiral"}, {}, "not Cartesian"),
        ({}, {"contrast": 1}, "several images"),
        ({"nx": 20}, {}, "does not fit the header"),
        ({"ny": 9}, {}, "does not fit the header"),
        ({"ny": 10**9, "cy": 7}, {}, "too large"),
    ],
)
def test_ismrmrd_that_is_not_one_cartesian_image_is_refused(
    sizes: dict[str, Any], changes: dict[str, int], words: str, tmp_path: Path
) -> None:
    path = ismrmrd_file(tmp_path / "a.h5", fft2c(images()), header(**{"cy": 7, **sizes}), **changes)
    with pytest.raises(InputError, match=words):
        load_kspace(path)


@pytest.mark.parametrize(
    "xml",
    [
        header(fx="nan"),
        header(fy="inf"),
        header(ny="1e308"),
        header(ny="inf"),
        header(cy="a"),
        header(ry=10**6),  # an image far larger than its k-space
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
    ],
)
def test_headers_with_numbers_that_are_none_are_refused(xml: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="header|far larger"):
        load_kspace(fastmri(tmp_path / "a.h5", fft2c(images()), ismrmrd_header=xml))


def edited_lines(path: Path, edit: Any) -> Path:
    ismrmrd_file(path, fft2c(images()), header(cy=7))
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        edit(lines["head"])
        file["dataset/data"][...] = lines
    return path


def test_lines_that_lie_nowhere_or_hold_more_than_the_file_are_refused(tmp_path: Path) -> None:
    def nowhere(head: Any) -> None:
        head["position"][:] = np.nan

    def everywhere(head: Any) -> None:
        head["position"][:] = 7.0  # all slices in one place

    def too_many(head: Any) -> None:
        head["number_of_samples"], head["active_channels"] = 65535, 65535

    for edit, words in ((nowhere, "affine"), (everywhere, "affine"), (too_many, "more than the file holds")):
        with pytest.raises(InputError, match=words):
            load_kspace(edited_lines(tmp_path / f"{edit.__name__}.h5", edit))


def test_a_line_of_a_length_that_no_file_holds_is_refused_before_hdf5_makes_room_for_it(
    tmp_path: Path,
) -> None:
    path = ismrmrd_file(tmp_path / "a.h5", fft2c(images()), header(cy=7))
    data = path.read_bytes()
    length = np.uint32(2 * 24 * 3).tobytes()  # floats of a line, which stand before the place where they are
    with h5py.File(path) as file:
        chunk = file["dataset/data"].id.get_chunk_info(5)
        at = data.index(length, chunk.byte_offset)
    assert at < chunk.byte_offset + chunk.size
    path.write_bytes(data[:at] + b"\xff\xff\xff\x0f" + data[at + 4 :])
    with pytest.raises(InputError, match="more than the file holds"):
        load_kspace(path)
