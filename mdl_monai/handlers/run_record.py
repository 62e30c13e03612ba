"""A record of a run beside its results: enough to do it again."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from mdl_monai.engines.cohort import Cohort
from mdl_monai.handlers.processes import rank, world_size
from mdl_monai.io.atomic import atomic_write_text

PACKAGES = (
    "mdl_monai",
    "monai",
    "torch",
    "pytorch-ignite",
    "numpy",
    "nibabel",
    "SimpleITK",
    "pydicom",
    "highdicom",
)


class RunRecord:
    """Handler that writes ``run.json`` when the engine starts, and again with the outcome when it has ended.

    It holds versions, the command, the SHA-256 of the bundle's configs and of the weights, seed, device, number of
    processes, times, and of an evaluation the cases that were done and those that failed, with reasons.

    Args:
        output_dir: receives the file.
        bundle_root: the bundle.
        seed: of the run.
        weights: file that the network starts from.
        cohort: of an evaluation.
    """

    def __init__(
        self,
        output_dir: str,
        bundle_root: str,
        seed: int,
        weights: str | None = None,
        cohort: Cohort | None = None,
    ) -> None:
        self.path, self.bundle = Path(output_dir, "run.json"), Path(bundle_root)
        self.weights, self.cohort = weights, cohort
        self.record: dict[str, Any] = {"seed": seed}

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer or evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        configs = self.bundle / "configs"
        metadata = configs / "metadata.json"
        self.record |= {
            "bundle": self.bundle.resolve().name,
            "version": json.loads(metadata.read_text(encoding="utf-8"))["version"]
            if metadata.is_file()
            else None,
            "configs_sha256": _sha256(*sorted(p for p in configs.glob("*") if p.is_file())),
            "weights_sha256": _sha256(Path(self.weights)) if self.weights else None,
            "command": _command(sys.argv),
            "device": str(getattr(engine.state, "device", "cpu")),
            "processes": world_size(),
            "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
            "started": _now(),
            "ended": None,
        }
        self._write()

    def _completed(self, engine: Engine) -> None:
        self.record["ended"] = _now()
        if self.cohort is not None:
            done, failed = self.cohort.all_cases()
            self.record |= {"cases_done": done, "cases_failed": failed}
        else:
            self.record["epochs"] = engine.state.epoch
        self._write()

    def _write(self) -> None:
        if rank() == 0:
            atomic_write_text(self.path, json.dumps(self.record, indent=2) + "\n")


def _command(words: list[str]) -> list[str]:
    """The command, without the series that it may name: a UID belongs to a patient."""
    hidden = [i for i, word in enumerate(words[:-1], start=1) if word.lstrip("-") == "dicom_series"]
    shown = [word.split("=")[0] if word.startswith("--dicom_series=") else word for word in words]
    return ["..." if i in hidden else word for i, word in enumerate(shown)]


def _sha256(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
