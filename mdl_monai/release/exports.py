"""A bundle's network as TorchScript, torch.export program and ONNX, each compared with the network itself.

Compared is what they make of a case that the bundle's own preprocessing and inferer hand over: of its data set below
MDL_DATA_ROOT if that is set, else of its demo's embedded inputs, else of a phantom.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ckpt_export
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mdl_monai.demo.inputs import write_inputs
from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path
from mdl_monai.release.stand_in_data import workflow_in, write_stand_in_data

SUFFIXES = (".ts", ".pt2", ".onnx")
TOLERANCE = 1e-3  # difference from eager, as a share of the largest value
TRACED_SIZE = 64  # voxels along each axis

Function = Callable[[Tensor], Tensor]
Writer = Callable[[Path], Function]  # writes a file, and returns what it does once it is loaded


def export_bundle(bundle: Path, stem: Path) -> list[tuple[Path, str]]:
    """Write ``stem``.ts, .pt2 and .onnx, each if the network allows it and the file's result is that of eager.

    The latter two take one image at a time.

    Returns:
        Each path, and how far its result is from eager and for which sizes, or that there is none and why.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit's and the exporters' own deprecations
        network, image, case = network_input(bundle)
        programs, obstacle = _trace(network, image)
        writers: tuple[list[Writer], ...] = (
            [partial(write_torchscript, bundle)],
            [partial(_write_pt2, program) for program in programs],
            [partial(_write_onnx, program) for program in programs],
        )
        with torch.no_grad():  # not before: preprocessing may register by gradients
            cases = [(image, network(image)), *_taken(network, _other_sizes(image))]
            paths = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
            return [
                (path, f"{remark}, on {case}" if path.is_file() else f"not exported: {remark or obstacle}")
                for path, candidates in zip(paths, writers, strict=True)
                for remark in [_export(path, candidates, cases)]
            ]


def _export(path: Path, writers: list[Writer], cases: list[tuple[Tensor, Tensor]]) -> str:
    """Let the first writer that is able to write the file; return how well it did, or the last one's trouble."""
    path.unlink(missing_ok=True)  # one of an earlier run must not pass for this one's
    remark = ""
    for write in writers:
        try:
            with tempfile.TemporaryDirectory() as folder:
                draft = Path(folder, path.name)  # two of the formats have their file's name inside
                remark = _compare(write(draft), cases)
                with atomic_path(path) as temporary:
                    shutil.copyfile(draft, temporary)
            break
        except Exception as error:  # what one exporter lacks must not stop the others
            remark = _first_line(error)
    return remark


def network_input(bundle: Path) -> tuple[nn.Module, Tensor, str]:
    """The bundle's network with its weights, an input [1, C, *spatial] for it, and the case that this is from.

    Raises:
        InputError: MDL_DATA_ROOT lacks the bundle's data set.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        options = _data_options(bundle, data)
        workflow = workflow_in(folder, bundle / "configs" / "inference.json", amp=False, **options)
        if not options:
            write_stand_in_data(data, workflow.parser, size=48)
        workflow.initialize()
        network = workflow.parser.get_parsed_content("network_def").eval()
        weights = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        dataset = workflow.parser.get_parsed_content("dataset")
        seen: list[Tensor] = []
        hook = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        workflow.parser.get_parsed_content("inferer")(dataset[0]["image"][None], network)
        hook.remove()
    return network, seen[0].as_subclass(Tensor)[:1].contiguous().clone(), str(dataset.data[0]["case"])


def _data_options(bundle: Path, folder: Path) -> dict[str, str]:
    """Data set and split of the bundle's demo, whose embedded inputs go to ``folder``; nothing if it has none."""
    plan = bundle / "configs" / "demo.yaml"
    if not plan.is_file():
        return {}
    demo = yaml.safe_load(plan.read_text(encoding="utf-8"))
    root = os.environ.get("MDL_DATA_ROOT")
    if root and "real_dataset" in demo:
        data = Path(root, demo["real_dataset"])
        if not data.is_dir():
            raise InputError(
                "the real data set is missing", where=data,
                remedy="get it with data_scripts/, or unset MDL_DATA_ROOT to export with embedded inputs",
            )  # fmt: skip
        return {"dataset_dir": str(data), "split": demo["real_split"]}
    module, function = demo["embedded_inputs"].rsplit(".", 1)
    write_inputs(getattr(importlib.import_module(module), function), folder)
    return {"split": next(iter(json.loads((folder / "dataset.json").read_text(encoding="utf-8"))))}


def _taken(network: nn.Module, images: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Images of sizes that the network takes, with its results."""
    cases = []
    for image in images:
        with contextlib.suppress(InputError):  # an operator may work on whole blocks
            cases.append((image, network(image)))
    return cases


def _other_sizes(image: Tensor) -> list[Tensor]:
    """Cuts of the image whose sizes are multiples of 32 and smaller, of 16, odd, and both."""
    blocks = [max(16, (n - 1) // 32 * 32) for n in image.shape[2:]]
    whole = [max(16, n // 16 * 16) for n in image.shape[2:]]
    odd = [n - 2 * axis - 1 for axis, n in enumerate(whole)]
    cuts = []
    for sizes in (blocks, whole, odd, [*odd[:-1], whole[-1]]):
        cut = image
        for axis, n in enumerate(sizes, start=2):
            cut = cut.narrow(axis, 0, min(n, image.shape[axis]))
        cuts.append(cut.contiguous())
    return cuts


def _trace(network: nn.Module, image: Tensor) -> tuple[list[ExportedProgram], str]:
    """Programs for images of any size, as far as the network allows, and of this size; why, if there is none."""
    programs, obstacle = [], ""
    for shapes in ((dict.fromkeys(range(2, image.ndim), Dim.AUTO),), None):
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # where it fails it prints pages of its graph
                program = torch.export.export(network, (image,), dynamic_shapes=shapes)
        except Exception as error:  # torch.export has many kinds
            obstacle = _first_line(error)
            continue
        for node in program.graph.nodes:  # paths of this computer, nobody else's matter
            node.meta.pop("stack_trace", None)
        programs.append(program)
    return programs, obstacle


def write_torchscript(bundle: Path, path: Path) -> Function:
    """MONAI's export of the bundle's network: metadata and config travel inside. Returns what the file does.

    A network that torch.jit.script cannot read, as with an operator to choose, is traced.
    """
    meta_file = bundle / "configs" / "metadata.json"
    files: dict[str, Any] = {
        "filepath": str(path),
        "ckpt_file": str(bundle / "models" / "model.pt"),
        "meta_file": str(meta_file),
        "config_file": str(bundle / "configs" / "inference.json"),
    }
    try:
        ckpt_export("network_def", **files)
    except Exception:  # of many kinds; what is wrong with the bundle, tracing meets again
        image = json.loads(meta_file.read_text(encoding="utf-8"))["network_data_format"]["inputs"]["image"]
        shape = [1, image["num_channels"], *(TRACED_SIZE for _ in image["spatial_shape"])]
        ckpt_export("network_def", **files, use_trace=True, input_shape=shape)
    return torch.jit.load(str(path))


def _write_pt2(program: ExportedProgram, path: Path) -> Function:
    torch.export.save(program, path)
    return torch.export.load(path).module()


def _write_onnx(program: ExportedProgram, path: Path) -> Function:
    import onnxruntime  # an extra

    converted = torch.onnx.export(program, dynamo=True, verbose=False, output_names=["pred"])
    assert converted is not None
    converted.save(str(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def _compare(function: Function, cases: list[tuple[Tensor, Tensor]]) -> str:
    """Say how far the results are from eager's, and for which sizes.

    Raises:
        ValueError: too far for the first case.
    """
    image, expected = cases[0]
    difference, largest = _difference(function(image), expected), float(expected.abs().max())
    if not difference <= TOLERANCE * largest:  # NaN does not pass
        raise ValueError(f"it differs from eager by {difference:.1e} of {largest:.3g}")
    any_size = True
    for other, wanted in cases[1:]:
        try:
            any_size &= _difference(function(other), wanted) <= TOLERANCE * largest
        except Exception:  # a size that the file refuses, each format in its own way
            any_size = False
    every = "any size" if len(cases) > 4 else "any size that the network takes"
    sizes = every if any_size else "only for sizes like " + " x ".join(map(str, image.shape))
    return f"{sizes}; largest difference from eager {difference:.1e} of {largest:.3g}"


def _difference(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).abs().max()) if result.shape == expected.shape else float("inf")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
