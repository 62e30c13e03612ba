"""Everything that the product writes, on a disk without room: what is there then is whole, old or new."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import logging
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import torch
from ignite.engine import Engine, Events
from killed_training import differences, train, whole_state
from matplotlib.image import imread
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, SaveImaged
from steps_of_a_save import hooked

from mdl_monai.demo.page import write_page
from mdl_monai.engines.cohort import Cohort, CohortDataset, collate_cases
from mdl_monai.handlers.best_weights import cpu_state
from mdl_monai.handlers.metrics_table import MetricsTable
from mdl_monai.handlers.pictures import ReconstructionPictures
from mdl_monai.handlers.run_record import RunRecord
from mdl_monai.handlers.split_record import SplitRecord
from mdl_monai.io.checkpoint_files import load_checkpoint, save_checkpoint, save_tensors
from mdl_monai.io.content_cache import ContentCache
from mdl_monai.io.dicom.derived import write_series
from mdl_monai.io.dicom.provenance import Software
from mdl_monai.io.dicom.segmentation import write_segmentation
from mdl_monai.io.dicom.segments import Segment
from mdl_monai.io.dicom.series import DicomSeries, load_series
from mdl_monai.io.nifti_writer import AtomicNibabelWriter
from mdl_monai.release.archive import write_zip

sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "dicom"))
from dicom_files import Stack, save

PAGE = 4096  # bytes
DISK = 4 * 2**20  # bytes of the small disk
KINDS = "full", "limit", "fails"
FAILING = "write", "before fsync", "before replace"
SHAPE = 12, 9, 4
SERIES: list[DicomSeries] = []


def values(version: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(version))


def nifti(folder: Path, version: int) -> None:
    _save(folder)({"pred": MetaTensor(values(version, 1, 20, 15, 10), meta={"filename_or_obj": "a.nii.gz"})})


def _save(folder: Path) -> SaveImaged:
    return SaveImaged(
        "pred", output_dir=folder, output_postfix="", separate_folder=False, resample=False, print_log=False,
        writer=AtomicNibabelWriter,
    )  # fmt: skip


def dicom_series(folder: Path, version: int) -> None:
    array = values(version, *SHAPE).numpy() * 1000
    write_series(array, SERIES[0].affine, SERIES[0], folder / "a", "ct", Software("bundle", "1"))


def dicom_segmentation(folder: Path, version: int) -> None:
    array = (values(version, *SHAPE) > 0.5).numpy().astype(np.uint8)
    segments = [Segment(1, "hippocampus")]
    write_segmentation(
        array, SERIES[0].affine, SERIES[0], folder / "a.dcm", segments, Software("bundle", "1")
    )


def evaluation(folder: Path, version: int) -> None:
    """Predictions, pictures, metrics and the record, as a bundle writes them."""
    records = [
        {"case": case, "subject": case, "subject_unit": "case", "image": case, "seed": 10 * version + n}
        for n, case in enumerate("abc")
    ]

    def load(record: dict[str, Any]) -> dict[str, Any]:
        border = values(record["seed"], 3, 24, 18)
        meta = {"case": record["case"], "filename_or_obj": f"{record['case']}.nii.gz"}
        return {"image": MetaTensor(border, meta=meta), "label": MetaTensor(border[:1] + 0.1, meta=meta)}

    cohort = Cohort()
    table = MetricsTable(lambda pred, label: {"mean": float(pred.mean())}, str(folder), records)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(CohortDataset(records, load), batch_size=1, collate_fn=collate_cases),
        network=torch.nn.AvgPool3d((3, 1, 1)),
        postprocessing=Compose([_save(folder / "predictions")]),
        iteration_update=cohort,
        val_handlers=[
            ReconstructionPictures(str(folder / "pictures"), 1),
            table,
            RunRecord(str(folder), str(folder), seed=version, cohort=cohort),
        ],
    ).run()
    table.write()
    cohort.finish()


def metrics(folder: Path, version: int) -> None:
    records = [
        {"case": str(n), "subject": str(n), "subject_unit": "case", "image": str(n)} for n in range(200)
    ]
    table = MetricsTable(lambda pred, label: {}, str(folder), records)
    figures = values(version, len(records)).tolist()
    table.rows = [
        {**record, "method": method, "file": "", "dice": figure}
        for record, figure in zip(records, figures, strict=True)
        for method in ("network", "baseline")
    ]
    for row in table.rows:
        del row["subject_unit"], row["image"]
    table.write()


def checkpoint(folder: Path, version: int) -> None:
    for step in range(2):
        state = {"epoch": step, "network": {"weight": values(10 * version + step, 90, 70)}}
        save_checkpoint(state, folder / "checkpoint.pt")


def weights(folder: Path, version: int) -> None:
    network = torch.nn.Linear(150, 40)
    torch.nn.init.constant_(network.weight, version)
    torch.nn.init.zeros_(network.bias)
    save_tensors(cpu_state(network), folder / "model.pt")


def record(folder: Path, version: int) -> None:
    engine = Engine(lambda *_: None)
    RunRecord(str(folder), str(folder), seed=version).attach(engine)
    SplitRecord(str(folder), {"train": [{"case": str(version), "subject": "s"}]}).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: None)
    engine.run([0])


def archive(folder: Path, version: int) -> None:
    draft = folder.with_name("draft")
    draft.mkdir(exist_ok=True)
    (draft / "weights").write_bytes(values(version, 20000).numpy().tobytes())
    write_zip(draft, folder / "bundle.zip")


def page(folder: Path, version: int) -> None:
    write_page(folder / "index.html", [])


def cache(folder: Path, version: int) -> None:
    ContentCache(folder).put("ab" * 32, {"field": values(version, 40, 30).numpy()})


def training(folder: Path, version: int) -> None:
    """The second one goes on from the first's middle."""
    train(folder, lambda *_: None, epochs=2 if version == 1 else None)


WRITERS: list[Callable[[Path, int], None]] = [
    nifti, dicom_series, dicom_segmentation, evaluation, metrics, checkpoint, weights, record, archive, page, cache,
    training,
]  # fmt: skip


def content(path: Path) -> str:
    """What a file holds, as far as it is the same each time that it is written; fails if it is not whole."""
    name, result = path.name, path.read_bytes()
    if name.endswith(".nii.gz"):
        result = np.asarray(nib.load(path).dataobj).tobytes()
    elif name.endswith(".dcm"):
        result = pydicom.dcmread(path).pixel_array.tobytes()
    elif name.endswith(".png"):
        result = imread(path).tobytes()
    elif name.endswith(".npz"):
        result = np.load(path)["field"].tobytes()
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path) as opened:
            result = b"".join(opened.read(name) for name in opened.namelist())
    elif name.endswith(".pt"):  # of any epoch
        torch.load(path, weights_only=True)
        with zipfile.ZipFile(path) as opened:
            result = repr(opened.testzip()).encode()
    elif name == "checkpoint.sha256":
        lines = result.decode().splitlines(keepends=True)
        result = b"whole" if lines and all(re.fullmatch(r"\w{64}  \S+pt\n", line) for line in lines) else b""
    elif name == "run.json":
        result = json.dumps(json.loads(result)["seed"]).encode()
    elif name == "metrics.csv":
        result = b"\n".join(line.rpartition(b",")[0] for line in result.splitlines())  # without the time
        result = result if path.read_bytes().endswith(b"\n") else b""
    elif name.endswith(".json"):
        result = json.dumps(
            {key: value for key, value in json.loads(result).items() if key != "time_s"}
        ).encode()
    return hashlib.sha256(result).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    result = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                now = content(path)
            except Exception as error:
                now = f"damaged, {type(error).__name__}"
            result[path.relative_to(folder).as_posix()] = now
    return result


def in_a_child(work: Callable[[], None]) -> tuple[int, str]:
    """Run in a fork of this process, as a command runs; its exit code and what it told."""
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 2)
        code: Any = 0
        try:
            try:
                work()
            except BaseException:
                code = 1
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        except SystemExit as error:
            code = error.code
        sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as told:
        text = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def without_room(
    work: Callable[[], None], kind: str, share: float, disk: Path, needed: dict[str, int]
) -> None:
    """Let `work` write no more than a share of what it needs.

    Args:
        kind: "full", the disk has pages left for that much; "limit", no file may be longer; "fails", a step of
            writing raises, and so do all writes behind it.
        needed: by kind, bytes or steps.
    """
    if kind == "full":
        room = int(share * needed[kind]) // PAGE * PAGE
        with (disk / "ballast").open("wb") as ballast:
            ballast.write(bytes(max(0, shutil.disk_usage(disk).free - room)))
        work()
    elif kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * needed[kind]), resource.RLIM_INFINITY))
        work()
    else:
        at, step = int(share * needed[kind]), 0

        def hook(name: str, data: bytes) -> int:
            nonlocal step
            step += name in FAILING
            if step > at and name in ("written", *FAILING[1:]):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(data) // 2 if step > at else len(data)

        with hooked(hook):
            work()


def steps_of(work: Callable[[], None]) -> int:
    steps = 0

    def hook(name: str, data: bytes) -> int:
        nonlocal steps
        steps += name in FAILING
        return len(data)

    with hooked(hook):
        work()
    return steps


def one(writer: Callable[[Path, int], None], kind: str, share: float, disk: Path) -> tuple[str, list[str]]:
    """Write the old results, then the new ones without room; how that ended, and what is wrong with it."""
    for path in (*disk.iterdir(), disk.with_name("new")):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    folder, new = disk / "folder", disk.with_name("new") / "folder"
    for place in (folder, new):
        place.mkdir(parents=True)
        writer(place, 1)
    steps = steps_of(lambda: writer(new, 2))
    old, expected = contents(folder), contents(new)
    sizes = [path.stat().st_size for path in new.rglob("*") if path.is_file()]
    needed = {"full": 2 * sum(sizes) + PAGE, "limit": max(sizes), "fails": steps}
    code, told = in_a_child(lambda: without_room(lambda: writer(folder, 2), kind, share, disk, needed))
    (disk / "ballast").unlink(missing_ok=True)

    found, faults = contents(folder), []
    for name, now in found.items():
        if now not in (old.get(name), expected.get(name)):
            faults.append(f"{name} is neither the old nor the new one: {now}")
        if Path(name).name.startswith("."):
            faults.append(f"{name} is left")
    gone = old.keys() - found.keys()
    if "checkpoint.pt" in old:
        assert load_checkpoint(folder / "checkpoint.pt") is not None
        gone -= {"checkpoint.pt"}  # it is the one before, then
    faults += [f"{', '.join(sorted(gone))} is gone"] if gone else []
    if writer is dicom_series and found not in (old, expected):
        faults.append("the series is a mixture")
    if code and (code != 2 or "Traceback" in told or "InputError: " not in told):
        faults.append(f"exit code {code}, told {told[-300:]!r}")
    if not code and found != expected:
        faults.append("it ended well, with other files")
    if writer is training:
        training(folder, 2)
        if differences(whole_state(new), whole_state(folder)):
            faults.append("the training that goes on ends in other weights")
    return ("refused" if code else "had enough room"), faults


def soak(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """`count` cases; what happened, and the faults."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    start, told, faults = time.monotonic(), Counter[str](), []
    for n, ds in enumerate(Stack(np.zeros(SHAPE[::-1], np.int16), modality="CT").datasets()):
        save(ds, folder / "source" / f"{n}.dcm")
    SERIES.append(load_series(folder / "source", pixels=False))
    disk = folder / "disk"
    disk.mkdir()
    rng = random.Random(seed)
    kinds = KINDS if _mount(disk) else KINDS[1:]
    for index in range(count):
        writer = WRITERS[index % len(WRITERS)]
        kind, share = kinds[(index // len(WRITERS) + index) % len(kinds)], rng.random()
        ended, wrong = one(writer, kind, share, disk)
        told[f"{kind}: {ended}"] += 1
        faults += [f"case {index}, {writer.__name__}, {kind}, {share:.2f}: {fault}" for fault in wrong]
    return {"cases": count, "told": told, "faults": faults, "seconds": time.monotonic() - start}


def _mount(folder: Path) -> bool:
    """Make the folder a small disk, which is gone with this process; whether that is allowed here."""
    own_mounts = sys.platform == "linux" and ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS
    steps = ["--make-rprivate", "/"], ["-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
    return own_mounts and all(
        subprocess.run(["mount", *step], capture_output=True).returncode == 0 for step in steps
    )


if __name__ == "__main__":
    print(json.dumps(soak(Path(sys.argv[1]), int(sys.argv[2]), seed=9)))  # noqa: T201
