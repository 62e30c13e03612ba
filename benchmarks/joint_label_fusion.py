"""Claim: DeepFusionNet fuses one 3D target's ten atlases at least 5 times as fast as ANTsPy's joint label fusion.

Joint label fusion is also a baseline for a fusion bundle's table, on the very atlases that the bundle registered.
ANTsPy asks for an older numpy, so it has an environment of its own, and the steps meet in a folder:

    python benchmarks/joint_label_fusion.py write OUT --bundle bundles/NAME --dataset_dir DIR --split test ...
    ants_env/bin/python benchmarks/joint_label_fusion.py fuse OUT
    python benchmarks/joint_label_fusion.py score OUT
    python benchmarks/joint_label_fusion.py speed OUT --ants_python ants_env/bin/python

`write` takes whatever option the bundle takes. `score` leaves metrics.csv and metrics_summary.json in OUT, which
`python -m mdl_monai.release.record_figures --against joint_label_fusion=OUT` joins to the bundle's table. `speed`
times both on OUT's first case.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from monai.bundle import ConfigParser
    from torch import Tensor

METHOD = "joint label fusion"
CLAIM = 5.0
RADIUS, SEARCH, BETA, RHO = 2, 3, 4, 0.01
"""Of the patches and of the search for them [voxels], sharpness of the weights, ridge: ANTsPy's defaults."""
NOISE = 1e-3
"""On the atlases, as a share of the target's range: an atlas without variance turns the whole result to nothing."""


def measured(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU seconds, and highest memory above what the process held before, MB.

    Linux alone; `ru_maxrss` would not do, as a process inherits it from the one that started it.
    """

    def memory(field: str) -> float:
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024 / 1e6

    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the highest so far is now what is held
    held, start = memory("VmRSS"), time.process_time()
    result = function()
    return result, time.process_time() - start, memory("VmHWM") - held


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process, whose memory is its own; an exception if that process dies."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def configuration(bundle: str, overrides: dict[str, Any]) -> ConfigParser:
    """The bundle's evaluation, as `python -m monai.bundle run` merges it."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    files = [Path(bundle) / "configs" / f"{name}.yaml" for name in ("common", "inference", "evaluate")]
    parser.read_config(files)
    parser.update({"bundle_root": bundle, "table#method": METHOD, **overrides})
    return parser


def about_atlases(step: Any) -> bool:
    """Whether a step of a preprocessing, as configured, selects or registers atlases."""
    name = step.get("_target_", "") if isinstance(step, dict) else step
    return name == "@register" or name.startswith("mdl_monai.transforms.atlases.")


def fail(images: np.ndarray, labels: np.ndarray, count: int, case: str) -> None:
    """Let `count` atlases fail unnoticed, in place: an empty image, labels a third of the volume away.

    Args:
        images, labels: [K, *spatial].
        count: at most K.
        case: seeds the choice.
    """
    chosen = np.random.default_rng(zlib.crc32(case.encode())).permutation(len(images))[:count]
    images[chosen] = 0
    for k in chosen:
        labels[k] = np.roll(labels[k], [n // 3 for n in labels[k].shape], range(labels[k].ndim))


def load(path: Path) -> Tensor:
    """A NIfTI file's values, float32."""
    import nibabel as nib
    import torch

    image: Any = nib.load(path)
    return torch.from_numpy(image.get_fdata(dtype=np.float32))


def write(out: Path, bundle: str, failed: int, overrides: dict[str, Any]) -> None:
    """Register, and write each case's target and valid atlases to OUT/<case>/, labels as indices, as NIfTI."""
    import nibabel as nib
    import torch
    from monai.data.utils import to_affine_nd

    from mdl_monai.networks.fusion_border import split_fusion_input
    from mdl_monai.registration.volume import Volume

    parser = configuration(bundle, {**overrides, "output_dir": str(out)})
    parser.get_parsed_content("initialize")
    n_labels = len(parser.get_parsed_content("labels")) + 1
    cases: dict[str, int] = {}
    for item in parser.get_parsed_content("dataset"):
        image = item["image"]
        case, target = image.meta["case"], Volume.from_image(image[:1])
        plain = torch.as_tensor(image).as_subclass(torch.Tensor)[None]
        parts = split_fusion_input(plain, (plain.shape[1] - 1) // (n_labels + 2), n_labels)
        there = parts.valid[0].flatten(1).any(1)
        images = parts.images[0, there].numpy()
        labels = parts.labels[0, there].argmax(1).to(torch.uint8).numpy()
        fail(images, labels, failed, case)
        arrays = {"target": target.values.numpy()}
        for k in range(len(images)):
            arrays |= {f"image_{k}": images[k], f"label_{k}": labels[k]}
        (out / case).mkdir(parents=True, exist_ok=True)
        for name, values in arrays.items():
            nib.save(
                nib.Nifti1Image(values, to_affine_nd(3, target.affine.numpy())), out / case / f"{name}.nii.gz"
            )
        cases[case] = len(images)
        print(f"{case}: {len(images)} atlases", flush=True)
    manifest = {"bundle": bundle, "failed": failed, "overrides": overrides, "cases": cases}
    (out / "jlf.csv").unlink(missing_ok=True)  # of other atlases
    (out / "manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")


def fuse_case(folder: Path, n_atlases: int) -> dict[str, Any]:
    """Joint label fusion of one case into jlf.nii.gz; what it took, reading and writing left out."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    import ants
    from scipy.ndimage import maximum_filter  # ANTsPy brings scipy

    def read(name: str) -> Any:
        return ants.image_read(str(folder / f"{name}.nii.gz"))

    target = read("target")
    drawn = np.random.default_rng(0)
    images = [read(f"image_{k}") for k in range(n_atlases)]
    noise = NOISE * (target.max() - target.min())
    images = [i.new_image_like(i.numpy() + drawn.normal(0, noise, i.shape)) for i in images]
    # ANTs never lets label 0 win inside the mask, so the background is 1 here.
    labels = [read(f"label_{k}") + 1 for k in range(n_atlases)]
    if n_atlases == 1:  # ANTsPy asks for two
        images, labels = images * 2, labels * 2
    # Outside this mask a search finds background alone.
    any_label = np.max([label.numpy() > 1 for label in labels], axis=0)
    mask = maximum_filter(any_label, 2 * SEARCH + 1)
    row: dict[str, Any] = {"case": folder.name, "atlases": n_atlases, "seconds": 0.0, "peak_mb": 0.0}
    found = np.zeros(target.shape)
    if mask.any():
        with tempfile.TemporaryDirectory() as scratch:
            result, row["seconds"], row["peak_mb"] = measured(
                lambda: ants.joint_label_fusion(
                    target,
                    target.new_image_like(mask.astype(np.float32)),
                    images,
                    beta=BETA,
                    rad=[RADIUS] * target.dimension,
                    label_list=labels,
                    rho=RHO,
                    r_search=SEARCH,
                    output_prefix=f"{scratch}/",
                )
            )
        found = np.where(mask, result["segmentation"].numpy() - 1, 0)
    ants.image_write(target.new_image_like(found).clone("unsigned char"), str(folder / "jlf.nii.gz"))
    return row


def fuse(out: Path) -> None:
    """Joint label fusion of every case, each in a process of its own, and what it took into OUT/jlf.csv.

    A second run goes on where the first stopped.
    """
    if find_spec("ants") is None:
        sys.exit(
            f"ANTsPy is not installed for {sys.executable}: `fuse` needs antspyx, see benchmarks/README.md"
        )
    cases = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["cases"]
    done = costs(out)
    with (out / "jlf.csv").open("a", newline="") as file:
        table = csv.DictWriter(file, ["case", "atlases", "seconds", "peak_mb"])
        if not done:
            table.writeheader()
        for case in [case for case in cases if case not in done]:
            row = in_own_process(fuse_case, out / case, cases[case])
            table.writerow(row)
            file.flush()
            print("{case}: {seconds:.1f} s, {peak_mb:.0f} MB".format(**row), flush=True)


def costs(out: Path) -> dict[str, dict[str, str]]:
    """Rows of OUT/jlf.csv by case, none if there is no such file."""
    if not (out / "jlf.csv").is_file():
        return {}
    with (out / "jlf.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def score(out: Path) -> None:
    """The results as if a network had given them, through the bundle's way back and metrics, into OUT/metrics.csv."""
    import torch
    from monai.inferers import SimpleInferer
    from torch import nn

    from mdl_monai.engines.baselines import run_baselines
    from mdl_monai.transforms.atlases import one_hot

    class Stored(nn.Module):
        def forward(self, image: Any) -> Tensor:
            hot = one_hot(load(out / image.meta["case"][0] / "jlf.nii.gz"), range(1, n_labels))
            return torch.zeros_like(image[:, :1]) + hot.to(image.device)  # keeps the image's metadata

    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    parser = configuration(manifest["bundle"], {**manifest["overrides"], "output_dir": str(out)})
    steps = "preprocessing#transforms"
    parser[steps] = [step for step in parser[steps] if not about_atlases(step)]  # their work is done
    n_labels = len(parser.get_parsed_content("labels")) + 1
    loader, restore, table, device = (
        parser.get_parsed_content(name) for name in ("dataloader", "restore", "table", "device")
    )
    run_baselines({METHOD: Stored()}, loader, SimpleInferer(), restore, table, device)
    taken = costs(out)
    for row in table.rows:
        row["time_s"] = float(taken[row["case"]]["seconds"])
    table.write()
    for metric, values in json.loads((out / "metrics_summary.json").read_text(encoding="utf-8")).items():
        print(f"{metric}: {values['mean']:.4f}")


def network_cost(out: Path, case: str) -> tuple[float, float, bool]:
    """CPU seconds (least of three), memory in MB, and whether the network has its weights, on one thread."""
    import torch

    from mdl_monai.handlers.load_weights import LoadWeights
    from mdl_monai.transforms.atlases import one_hot

    torch.set_num_threads(1)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    parser = configuration(manifest["bundle"], manifest["overrides"])
    labels = range(1, len(parser.get_parsed_content("labels")) + 1)
    network, weights = (parser.get_parsed_content(name) for name in ("network_def", "ckpt_path"))
    trained = Path(weights).is_file()
    if trained:
        LoadWeights(weights, network)()

    channels = [load(out / case / "target.nii.gz")[None]]
    for k in range(manifest["cases"][case]):
        image, label = (load(out / case / f"{name}_{k}.nii.gz") for name in ("image", "label"))
        channels += [image[None], one_hot(label, labels), torch.ones_like(image)[None]]
    given = torch.cat(channels)[None]
    network.eval()
    with torch.no_grad():
        taken = [measured(lambda: network(given))[1:] for _ in range(3)]
    return min(seconds for seconds, _ in taken), max(mb for _, mb in taken), trained


def speed(out: Path, ants_python: str) -> None:
    """Print CPU seconds and memory of both for the first case, each on one thread in a process of its own."""
    cases = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["cases"]
    case = next(iter(cases))
    with tempfile.TemporaryDirectory() as name:
        alone = Path(name)
        shutil.copytree(out / case, alone / case)
        (alone / "manifest.json").write_text(json.dumps({"cases": {case: cases[case]}}))
        subprocess.run([ants_python, __file__, "fuse", name], check=True, stdout=subprocess.DEVNULL)
        theirs = costs(alone)[case]
    seconds, mb, trained = in_own_process(network_cost, out, case)
    print(f"{case}, {cases[case]} atlases, one thread")
    print(f"ANTsPy's joint label fusion: {float(theirs['seconds']):.2f} s, {float(theirs['peak_mb']):.0f} MB")
    print(
        f"the bundle's network: {seconds:.2f} s, {mb:.0f} MB" + ("" if trained else ", with random weights")
    )
    print(f"{float(theirs['seconds']) / seconds:.1f} times as fast (claim: at least {CLAIM:.0f} times)")


def option(text: str) -> Any:
    """A value as `python -m monai.bundle run` reads it from the command line."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("step", nargs="?", choices=["write", "fuse", "score", "speed"])
    parser.add_argument("out", nargs="?", type=Path, help="the folder in which the steps meet")
    parser.add_argument("--bundle", help="write: the fusion bundle's folder")
    parser.add_argument("--failed", type=int, default=0, help="write: so many atlases fail unnoticed")
    parser.add_argument("--ants_python", help="speed: the python that has ANTsPy")
    known, rest = parser.parse_known_args(arguments)
    overrides = {
        key.removeprefix("--"): option(value) for key, value in zip(rest[::2], rest[1::2], strict=False)
    }
    if (
        len(rest) % 2
        or not all(key.startswith("--") for key in rest[::2])
        or (rest and known.step != "write")
    ):
        parser.error(f"options that are none: {' '.join(rest)}")
    needs = {"write": known.bundle, "speed": known.ants_python}.get(known.step, "nothing")
    if known.step is None:
        print("skipped: needs ANTsPy and a data set; see --help and benchmarks/README.md")
    elif known.out is None or needs is None:
        parser.error("this step needs its folder, `write` a --bundle as well, and `speed` --ants_python")
    elif known.step != "write" and not (known.out / "manifest.json").is_file():
        parser.error(f"{known.out} holds no manifest.json: run `write` into it first")
    elif known.step == "write":
        write(known.out, known.bundle, known.failed, overrides)
    elif known.step == "fuse":
        fuse(known.out)
    elif known.step == "score":
        score(known.out)
    else:
        speed(known.out, known.ants_python)


if __name__ == "__main__":
    main()
