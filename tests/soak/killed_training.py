"""A small training in a child process, killed again and again; all that a resume ends in is compared."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from ignite.metrics import MeanSquaredError
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, from_engine
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from monai.utils import set_determinism
from steps_of_a_save import hooked
from torch import nn

from mdl_monai.handlers import training_checkpoint
from mdl_monai.handlers.best_weights import SaveBestWeights
from mdl_monai.handlers.gradient_guard import GradientGuard
from mdl_monai.handlers.periodic_validation import PeriodicValidation
from mdl_monai.handlers.run_record import RunRecord
from mdl_monai.handlers.split_record import SplitRecord
from mdl_monai.handlers.training_checkpoint import TrainingCheckpoint

EPOCHS, STEPS = 5, 4


def train(
    folder: Path, note: Callable[[str, int], None], sigterm_at: int = 0, epochs: int | None = None
) -> None:
    """As a bundle trains: random transforms, shuffled; dropout; batch statistics; one-cycle rate; best weights."""
    set_determinism(1)
    data = [
        {
            "image": torch.full((1, 6, 5), n / 7),
            "label": torch.full((1, 6, 5), n / 3),
            "case": n,
            "subject": n,
        }
        for n in range(7)
    ]
    random_steps = [
        RandGaussianNoised("image", prob=0.7),
        Lambdad("image", lambda x: x * (1 + 0.1 * float(np.random.rand())) + 0.1 * random.random()),
    ]
    dataset = Dataset(data, Compose(random_steps))
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Dropout(0.3), nn.PReLU(), nn.Conv2d(12, 1, 1)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=EPOCHS * STEPS)
    splits = {"train": data, "val": data[:2]}
    checkpoint = TrainingCheckpoint(str(folder), network, optimizer, scheduler, dataset, splits=splits)
    validator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(data[:2]), batch_size=1),
        network,
        key_val_metric={"val_score": -1 * MeanSquaredError(from_engine(["pred", "label"], first=False))},
        val_handlers=[SaveBestWeights(checkpoint)],
        decollate=False,
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs or EPOCHS,
        train_data_loader=DataLoader(dataset, batch_size=2, shuffle=True),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[
            SplitRecord(str(folder), splits),
            LrScheduleHandler(scheduler, epoch_level=False, print_lr=False),
            GradientGuard(network, 5.0),
            PeriodicValidation(interval=2, validator=validator, epoch_level=True),
            checkpoint,
            RunRecord(str(folder), "no bundle", seed=1),
        ],
    )
    trainer.add_event_handler(Events.STARTED, lambda engine: note("resumed", engine.state.iteration))
    if sigterm_at:
        trainer.add_event_handler(
            Events.ITERATION_STARTED(once=sigterm_at), lambda: os.kill(os.getpid(), signal.SIGTERM)
        )
    trainer.run()


def in_a_child(
    folder: Path, kill_at: int | None = None, kill_after: float | None = None, sigterm_at: int = 0
) -> tuple[int, list[tuple[str, Any]]]:
    """Train in a fork of this process, to the end or a kill; the signal that ended it, and what it noted.

    Args:
        folder: the training's.
        kill_at: step of its saves at which the child kills itself.
        kill_after: seconds until this process kills it.
        sigterm_at: iteration in which it is asked to end.
    """
    journal = folder.with_name(f"{folder.name}.jsonl")
    journal.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _child(folder, journal, kill_at, sigterm_at)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"{folder}: {journal.read_text(encoding='utf-8')}")
    noted = [json.loads(line) for line in journal.read_bytes().splitlines()] if journal.exists() else []
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), noted


def _child(folder: Path, journal: Path, kill_at: int | None, sigterm_at: int) -> None:
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(what: str, value: Any) -> None:
        os.write(descriptor, (json.dumps([what, value]) + "\n").encode())

    step = 0

    def hook(name: str, data: bytes) -> int:
        nonlocal step
        step += 1
        if step == kill_at and name != "write":
            note("killed", name)
            os.kill(os.getpid(), signal.SIGKILL)
        return len(data) // 2 if step + 1 == kill_at else len(data)

    save = training_checkpoint.save_checkpoint

    def noted_save(state: dict[str, Any], path: Path) -> None:
        save(state, path)
        note("saved", state["iteration"])

    training_checkpoint.save_checkpoint = noted_save
    try:
        with hooked(hook):
            train(folder, note, sigterm_at)
        note("steps", step)
        os._exit(0)
    except BaseException as error:
        note("failed", repr(error))
        os._exit(1)


def whole_state(folder: Path) -> dict[str, Any]:
    """All that a training ends in."""
    return {name: torch.load(folder / name, weights_only=True) for name in ("checkpoint.pt", "model.pt")}


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Places where two nested states are not the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        return [] if same else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [where]
        return [place for key in a for place in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        return [] if len(a) == len(b) and not any(map(differences, a, b)) else [where]
    return [] if a == b else [where]


def soak(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill `kills` times, a quarter of them inside a save; what happened, and the faults.

    The training of one folder is killed up to six times in a row, also twice in two saves that follow each other;
    behind each kill a copy of the folder is resumed to the end.
    """
    rng = random.Random(seed)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    train(folder / "first", lambda *_: None)  # what is loaded late is loaded, and the children need not
    start = time.monotonic()
    steps_of_saves = dict(in_a_child(folder / "straight")[1])["steps"]
    seconds = time.monotonic() - start
    expected = whole_state(folder / "straight")
    told: Counter[str] = Counter()
    faults: list[str] = []
    done = inside = chain = saved = 0
    work, copy = folder / "work", folder / "copy"
    while done < kills:
        if chain <= 0 and done % 8 != 1:
            shutil.rmtree(work, ignore_errors=True)
            saved, chain = 0, rng.randint(1, 6)
        plan: dict[str, Any] = {"sigterm_at": rng.randint(1, EPOCHS * STEPS) if rng.random() < 0.25 else 0}
        to_do = max(0.2, 1 - saved / (EPOCHS * STEPS))
        if done % 8 < 2:
            plan["kill_at"] = rng.randint(1, int(steps_of_saves * (to_do if done % 8 == 0 else 0.3)))
        else:
            plan["kill_after"] = rng.uniform(0, seconds * to_do)
        ended, noted = in_a_child(work, **plan)
        faults += _lost(noted, saved, f"kill {done}, {plan}")
        saved = max([saved, *(value for what, value in noted if what == "saved")])
        chain = chain - 1 if ended else 0
        if not ended:
            shutil.rmtree(work)  # nothing is left to be killed
            saved = 0
        if ended != signal.SIGKILL:
            told["ended by SIGTERM" if ended else "ended before the kill"] += 1
            continue
        done += 1
        step = next((value for what, value in noted if what == "killed"), "any moment")
        told[step] += 1
        inside += "kill_at" in plan
        shutil.rmtree(copy, ignore_errors=True)
        if work.exists():
            shutil.copytree(work, copy)
        try:
            ended, noted = in_a_child(copy)
            faults += _lost(noted, saved, f"resume {done}, {plan}")
            told["resumed from a checkpoint"] += next(value for what, value in noted if what == "resumed") > 0
            wrong = differences(expected, whole_state(copy))
            faults += [f"resume {done}, {plan}, {step}: other {', '.join(wrong[:3])}"] if wrong else []
            left = list(copy.glob(".*.checkpoint.pt"))
            faults += [f"resume {done}, {plan}, {step}: {left} is left"] if left else []
        except Exception as error:
            faults.append(f"resume {done}, {plan}, {step}: {error}")
            chain = 0
    return {"kills": done, "inside_a_save": inside, "told": told, "faults": faults,
            "seconds": time.monotonic() - start}  # fmt: skip


def _lost(noted: list[tuple[str, Any]], saved: int, where: str) -> list[str]:
    """Whether a process began before what was saved."""
    return [
        f"{where}: resumed at {value}, saved was {saved}"
        for w, value in noted
        if w == "resumed" and value < saved
    ]


if __name__ == "__main__":
    print(json.dumps(soak(Path(sys.argv[1]), int(sys.argv[2]), seed=9)))  # noqa: T201
