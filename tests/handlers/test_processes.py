"""Which process this is."""

from __future__ import annotations

import pytest

from mdl_monai.handlers.processes import gathered, rank, world_size


def test_a_process_alone_is_the_first_whatever_rank_its_surroundings_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert rank() == 0 and world_size() == 1 and gathered("own") == ["own"]


def test_before_the_group_is_made_it_is_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rank() == 1
