"""Exports of a network: equal to it in every format, or not there, with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import load_net_with_metadata
from torch import Tensor, nn

from mdl_monai import InputError
from mdl_monai.release import exports
from mdl_monai.release.exports import SUFFIXES, export_bundle, network_input

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def _no_real_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDL_DATA_ROOT", raising=False)


class EvenOnly(nn.Module):
    """Has a path of its own for sizes that are multiples of 16; a program follows one of the two."""

    def forward(self, image: Tensor) -> Tensor:
        return 2 * image if image.shape[-1] % 16 == 0 else 3 * image


class ValueDependent(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image * 2 if float(image.sum()) > 0 else image


def write_ones(folder: Path) -> dict[str, list[dict[str, str]]]:
    """As `configs/demo.yaml` names one: an odd slice under the first list, another under the second."""
    for name, size in (("wanted", (29, 35)), ("atlas", (16, 16))):
        nib.save(
            nib.Nifti1Image(np.arange(np.prod(size), dtype=np.float32).reshape(size), np.eye(4)),
            folder / f"{name}.nii",
        )
    return {"demo": [{"image": "wanted.nii"}], "train": [{"image": "atlas.nii"}]}


def use(monkeypatch: pytest.MonkeyPatch, network: nn.Module, *size: int) -> None:
    image = torch.rand(1, 1, *size)
    monkeypatch.setattr(exports, "network_input", lambda bundle: (network.eval(), image, "case7"))


def test_every_format_does_what_the_network_does(skeleton: Path, tmp_path: Path) -> None:
    results = export_bundle(skeleton, tmp_path / "x_v0.1.0")
    assert [path.name for path, _ in results] == [f"x_v0.1.0{suffix}" for suffix in SUFFIXES]
    assert all(remark.startswith("any size; largest difference from eager ") for _, remark in results)
    assert all(remark.endswith(", on phantom0") for _, remark in results)

    network, seen, _ = network_input(skeleton)
    assert seen.shape == (1, 1, 48, 48) and type(seen) is Tensor
    assert not network.training
    image = torch.randn(1, 1, 21, 34)
    with torch.no_grad():
        expected = network(image)
        script, metadata, files = load_net_with_metadata(
            str(tmp_path / "x_v0.1.0.ts"), more_extra_files=("inference.json",)
        )
        torch.testing.assert_close(script(image), expected)
        program = torch.export.load(tmp_path / "x_v0.1.0.pt2").module()
        torch.testing.assert_close(program(image), expected)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "x_v0.1.0.onnx")
    (result,) = session.run(["pred"], {session.get_inputs()[0].name: image.numpy()})
    torch.testing.assert_close(torch.from_numpy(result), expected)
    for suffix in (".pt2", ".onnx"):
        assert (
            str(Path(exports.__file__).parents[1]).encode()
            not in (tmp_path / f"x_v0.1.0{suffix}").read_bytes()
        )
        assert b"site-packages" not in (tmp_path / f"x_v0.1.0{suffix}").read_bytes()
    assert metadata["name"] == skeleton.name
    assert json.loads(files["inference.json"]) == json.loads(
        (skeleton / "configs" / "inference.json").read_text(encoding="utf-8")
    )


def test_what_cannot_be_exported_is_not_there_and_the_reason_is(
    skeleton: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for suffix in SUFFIXES:
        (tmp_path / f"x{suffix}").write_text("of an earlier run")
    use(monkeypatch, ValueDependent(), 24, 18)
    script, program, onnx = (remark for _, remark in export_bundle(skeleton, tmp_path / "x"))
    assert script.startswith("not exported: it differs from eager by ")  # the bundle's network is another one
    assert program.startswith("not exported: Could not guard on data-dependent expression")
    assert onnx == program
    assert not list(tmp_path.iterdir())
    assert "def forward" not in capsys.readouterr().err


def test_a_program_of_some_sizes_says_so(
    skeleton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, EvenOnly(), 33, 48)
    _, (path, remark), _ = export_bundle(skeleton, tmp_path / "x")
    assert remark.startswith("only for sizes like 1 x 1 x 33 x 48; largest difference from eager 0.0e+00 of ")
    assert path.is_file()


def test_a_format_that_fails_does_not_stop_the_others(
    skeleton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(program: object, path: Path) -> None:
        path.write_text("half a file", encoding="utf-8")
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(exports, "_write_pt2", fail)
    script, (path, remark), onnx = export_bundle(skeleton, tmp_path / "x")
    assert remark == "not exported: no such operator" and not path.exists()
    assert script[0].is_file() and onnx[0].is_file()


def test_nan_is_a_difference() -> None:
    with pytest.raises(ValueError, match="differs from eager by nan"):
        exports._compare(lambda x: x * torch.nan, [(torch.ones(2), torch.ones(2))])


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")
def test_the_demo_names_the_case(
    skeleton_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (skeleton_copy / "configs" / "demo.yaml").write_text(
        f"embedded_inputs: {__name__}.write_ones\nreal_dataset: set\nreal_split: val\n"
    )
    _, image, case = network_input(skeleton_copy)
    assert (case, image.shape[2:]) == ("wanted", (29, 35))

    monkeypatch.setenv("MDL_DATA_ROOT", str(tmp_path))
    with pytest.raises(InputError, match=r"(?s)real data set is missing.*set"):
        network_input(skeleton_copy)
    (tmp_path / "set").mkdir()
    write_ones(tmp_path / "set")
    (tmp_path / "set" / "dataset.json").write_text('{"val": [{"image": "atlas.nii"}]}')
    _, image, case = network_input(skeleton_copy)
    assert (case, image.shape[2:]) == ("atlas", (16, 16))
