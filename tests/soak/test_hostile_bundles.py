"""Hostile zips, pickles, configs and metadata: nothing is written outside, nothing run, one clear sentence each."""

from __future__ import annotations

import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hostile_cases import KINDS, NAME, Place

from mdl_monai.errors import InputError
from mdl_monai.release.new_bundle import new_bundle
from mdl_monai.release.verify import MAX_LINES


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_bundle(NAME, "Maps an image to itself", tmp_path_factory.mktemp("bundles"))


def test_there_are_thirty() -> None:
    assert len(KINDS) >= 30


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_run_and_nothing_written_outside(
    kind: str, released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, Path(shutil.copytree(released, tmp_path / "mine" / NAME)))
    place.marker.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of who makes the files: a name twice
        attempt = KINDS[kind](place)
    try:
        assert attempt.ours() == 1
        told = capsys.readouterr().out
    except InputError as error:
        told = str(error)
    assert not list(place.marker.parent.iterdir()) and not list(tmp_path.glob("bundles/*"))
    assert told and told.replace("\n", "").isprintable()
    assert len(told.splitlines()) <= MAX_LINES + 2 and all(len(line) < 600 for line in told.splitlines())
    if attempt.careless is not None:
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt.careless()
        assert place.marker.exists(), "a dud"
