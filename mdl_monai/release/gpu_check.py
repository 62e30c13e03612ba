"""Training on CUDA against training on the CPU: same losses, how fast, how much memory.

`python -m mdl_monai.release.gpu_check bundles/NAME` runs 20 steps of the bundle's `train.json` on both, from
one seed and on the same phantoms, and saves `docs/figures/gpu_check.json`. Exit code 1: the losses differ.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.release.stand_in_data import workflow_in, write_stand_in_data

STEPS, WARM_UP, TOLERANCE = 20, 5, 0.01
SIZE = {2: 256, 3: 64}  # voxels along each axis of a phantom slice or volume


def train_steps(
    bundle: Path, device: str, steps: int = STEPS, size: int | None = None
) -> tuple[list[float], float]:
    """Return the loss of each of ``steps`` training steps, and the images per second after warming up."""
    losses, times = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        workflow = workflow_in(
            folder,
            bundle / "configs" / "train.json",
            device=f"$torch.device('{device}')",
            amp=device != "cpu",  # as users have it
            num_workers=0,
            max_epochs=1,
            registration="none",  # atlases, where there are any, are aligned once and alike for both devices
        )
        workflow.parser.update({"train#handlers": [], "train#trainer#epoch_length": steps})
        n_axes = len(workflow.parser["_meta_#network_data_format#inputs#image#spatial_shape"])
        write_stand_in_data(Path(folder, "data"), workflow.parser, size or SIZE[n_axes], n_subjects=8)
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")

        def note(engine: Engine) -> None:
            losses.append(float(engine.state.output[0]["loss"]))  # type: ignore[index]  # waits for the device
            times.append(time.perf_counter())

        trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
        trainer.run()
        n_images = workflow.parser.get_parsed_content("train#dataloader").batch_size * (steps - WARM_UP)
    return losses, n_images / (times[-1] - times[WARM_UP - 1])


def check_bundle(bundle: Path) -> bool:
    """Compare the devices, print and, if the losses agree, save the figures; return whether they do."""
    torch.cuda.reset_peak_memory_stats()
    losses, images_per_second = train_steps(bundle, "cuda:0")
    loss_cuda, loss_cpu = statistics.fmean(losses), statistics.fmean(train_steps(bundle, "cpu")[0])
    difference = abs(loss_cuda - loss_cpu) / abs(loss_cpu)
    figures = {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "steps": STEPS,
        "loss_cuda": loss_cuda,
        "loss_cpu": loss_cpu,
        "relative_difference": difference,
        "images_per_second": images_per_second,
        "peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20,
    }
    sys.stdout.write(f"{bundle.name}: {json.dumps(figures)}\n")
    if not difference <= TOLERANCE:  # NaN does not pass
        sys.stderr.write(
            f"{bundle.name}: the losses on CUDA and CPU are {difference:.2%} apart, at most 1 % may be\n"
        )
        return False
    atomic_write_text(bundle / "docs" / "figures" / "gpu_check.json", json.dumps(figures, indent=4) + "\n")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m mdl_monai.release.gpu_check", description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of bundles")
    bundles = parser.parse_args(arguments).bundles
    if not torch.cuda.is_available():
        sys.stderr.write("no CUDA device: run gpu-check where there is one, with a CUDA build of torch\n")
        return 2
    return 1 if False in [check_bundle(bundle) for bundle in bundles] else 0


if __name__ == "__main__":
    sys.exit(main())
