from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from monai.data import MetaTensor

from mdl_monai.errors import InputError
from mdl_monai.handlers import case_pictures
from mdl_monai.handlers.case_pictures import CasePictures, case_name


class Titles(CasePictures):
    def figure(self, item: Mapping[str, Any]) -> Figure:
        figure = Figure(figsize=(1, 1))
        figure.suptitle(case_name(item))
        return figure


def run(handler: CasePictures, *batches: str) -> list[str]:
    """Names of the pictures after batches whose items are the letters of a word each."""
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run([[{"pred": MetaTensor(torch.zeros(1), meta={"case": case})} for case in b] for b in batches])
    files = sorted(handler.output_dir.iterdir()) if handler.output_dir.is_dir() else []
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in files)
    return [p.name for p in files]


@pytest.mark.parametrize("count", [None, "null", 9])
def test_every_case_is_drawn_unless_fewer_are_asked_for(tmp_path: Path, count: int | str | None) -> None:
    assert run(Titles(str(tmp_path / "p"), count), "ab", "c") == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("count", [3, "3"])
def test_the_first_cases_are_drawn(tmp_path: Path, count: int | str) -> None:
    assert run(Titles(str(tmp_path / "p"), count), "ab", "cd", "e") == ["a.png", "b.png", "c.png"]


def test_none_is_drawn_and_no_folder_made_where_none_is_asked_for(tmp_path: Path) -> None:
    assert run(Titles(str(tmp_path / "p"), 0), "ab") == []
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_counts_anew(tmp_path: Path) -> None:
    handler = Titles(str(tmp_path / "p"), 1)
    assert run(handler, "a") == ["a.png"]
    assert run(handler, "b") == ["a.png", "b.png"]


def test_processes_that_take_turns_draw_the_first_cases_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_pictures, "world_size", lambda: 2)
    for rank, share in enumerate(("ace", "bd")):
        monkeypatch.setattr(case_pictures, "rank", lambda rank=rank: rank)
        run(Titles(str(tmp_path / "p"), 3), *share)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("count", [-1, "some", 1.5, True])
def test_a_count_that_is_no_number_is_refused(count: Any) -> None:
    with pytest.raises(InputError, match="whole number"):
        Titles("unused", count)


def test_a_figure_that_fails_leaves_no_file(tmp_path: Path) -> None:
    class Failing(CasePictures):
        def figure(self, item: Mapping[str, Any]) -> Figure:
            raise RuntimeError("cannot draw")

    with pytest.raises(RuntimeError, match="cannot draw"):
        run(Failing(str(tmp_path)), "a")
    assert list(tmp_path.iterdir()) == []


def test_the_figure_gets_what_stayed_in_the_batch_beside_the_output(tmp_path: Path) -> None:
    seen = []

    class Recording(Titles):
        def figure(self, item: Mapping[str, Any]) -> Figure:
            seen.append((item["scan"], item["image"], case_name(item)))
            return super().figure(item)

    def step(engine: Engine, batch: Any) -> list[dict[str, Any]]:
        return [
            {"image": "output", "pred": MetaTensor(torch.zeros(1), meta={"case": b["scan"]})} for b in batch
        ]

    engine = Engine(step)
    Recording(str(tmp_path)).attach(engine)
    engine.run([[{"scan": "a", "image": "batch"}, {"scan": "b", "image": "batch"}]])
    assert seen == [("a", "output", "a"), ("b", "output", "b")]
