"""Which subjects a training learned from and which chose its weights, beside its results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from mdl_monai.io.atomic import atomic_write_text


class SplitRecord:
    """Trainer handler that writes ``split.json``: by list, the cases of each subject.

    Args:
        output_dir: receives the file.
        splits: lists of records by name, as `train_val_records` gives them.
    """

    def __init__(self, output_dir: str, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.output_dir, self.splits = Path(output_dir), splits

    def attach(self, engine: Engine) -> None:
        """Write when the training starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Write now."""
        content: dict[str, dict[str, list[str]]] = {}
        for name, records in self.splits.items():
            subjects = content.setdefault(name, {})
            for record in records:
                subjects.setdefault(str(record["subject"]), []).append(record["case"])
        atomic_write_text(self.output_dir / "split.json", json.dumps(content, indent=2) + "\n")
