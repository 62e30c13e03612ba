"""Bundles, weights and masks that would make a file, `Place.marker`, if anything in them were run or followed.

Each kind gives what the project makes of it, and, where there is such a thing, what a careless reader would do: that
does make the file, so the kind is no dud.
"""

from __future__ import annotations

import hashlib
import json
import logging.config
import os
import pickle
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser
from torch import nn

from mdl_monai.handlers.load_weights import LoadWeights
from mdl_monai.io.checkpoint_files import load_checkpoint
from mdl_monai.io.content_cache import ContentCache
from mdl_monai.io.mask_file import load_mask
from mdl_monai.release.archive import write_zip
from mdl_monai.release.fetch import INDEX, fetch
from mdl_monai.release.verify import main as verify

NAME, VERSION = "head_mr_identity", "0.1.0"
KEY = f"{NAME}_v{VERSION}"


class Place(NamedTuple):
    """A folder of its own, and a copy of a released bundle in it."""

    root: Path
    bundle: Path

    @property
    def marker(self) -> Path:
        return self.root / "outside" / "marker"

    @property
    def command(self) -> str:
        return f"touch {self.marker}"


class Attempt(NamedTuple):
    """What the project does (raises an `InputError`, or says something and returns 1), and what the careless do."""

    ours: Callable[[], Any]
    careless: Callable[[], Any] | None


Kind = Callable[[Place], Attempt]
KINDS: dict[str, Kind] = {}


def kind(name: str) -> Callable[[Kind], Kind]:
    def register(function: Kind) -> Kind:
        assert name not in KINDS
        KINDS[name] = function
        return function

    return register


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str, function: Any = os.system) -> None:
        self.command, self.function = command, function

    def __reduce__(self) -> Any:
        return self.function, (self.command,)


# Zips, by the door of `fetch`

Entries = list[tuple[str | zipfile.ZipInfo, bytes]]


def released(place: Place, entries: Entries, compression: int = zipfile.ZIP_STORED) -> Path:
    """The bundle's zip with more entries, and an index that agrees with it; the folder of both."""
    path = place.root / "release" / f"{KEY}.zip"
    write_zip(place.bundle, path)
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in entries:
            archive.writestr(name, content, compression)
    return indexed(path)


def indexed(path: Path) -> Path:
    entry = {"checksum": hashlib.sha256(path.read_bytes()).hexdigest(), "source": path.name}
    (path.parent / INDEX).write_text(json.dumps({KEY: entry}), encoding="utf-8")
    return path.parent


def fetched(place: Place, release: Path) -> Attempt:
    """By `fetch`, or by somebody who unpacks as the names and modes say."""
    folder = place.root / "bundles"

    def careless() -> None:
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(release / f"{KEY}.zip") as archive:
            for entry in archive.infolist():
                target = folder / entry.filename.replace("\\", "/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if stat.S_ISLNK(entry.external_attr >> 16):
                    target.symlink_to(archive.read(entry).decode())
                elif not entry.is_dir():
                    target.write_bytes(archive.read(entry))

    return Attempt(lambda: fetch(NAME, VERSION, str(release), folder), careless)


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


for title, climbing in {
    "zip: a path that climbs": "../outside/marker",
    "zip: a path that climbs out of the bundle's folder": f"{NAME}/configs/../../../outside/marker",
    "zip: a path that climbs by backslashes": f"{NAME}\\..\\..\\outside\\marker",
    "zip: a path that climbs from another folder": "other/../../outside/marker",
}.items():
    kind(title)(lambda place, name=climbing: fetched(place, released(place, [(name, b"x")])))


@kind("zip: an absolute path")
def _(place: Place) -> Attempt:
    return fetched(place, released(place, [(str(place.marker), b"x")]))


@kind("zip: a link to a folder, and a file in it")
def _(place: Place) -> Attempt:
    entries: Entries = [(link(f"{NAME}/more"), b"../../outside"), (f"{NAME}/more/marker", b"x")]
    return fetched(place, released(place, entries))


@kind("zip: a link to a file, and the file again")
def _(place: Place) -> Attempt:
    entries: Entries = [(link(f"{NAME}/more"), b"../../outside/marker"), (f"{NAME}/./more", b"x")]
    return fetched(place, released(place, entries))


@kind("zip: settings of git that name a command")
def _(place: Place) -> Attempt:
    checkout(place)
    files = [path for path in (place.bundle / ".git").rglob("*") if path.is_file()]
    entries = [(f"{NAME}/{path.relative_to(place.bundle)}", path.read_bytes()) for path in files]
    shutil.rmtree(place.bundle / ".git")
    folders = [(f"{NAME}/.git/{name}/.x", b"") for name in ("objects", "refs")]
    attempt = fetched(place, released(place, [*entries, *folders]))

    def careless() -> None:
        attempt.careless()
        git_status(place.root / "bundles" / NAME)

    return Attempt(attempt.ours, careless)


@kind("zip: Python beside the bundle")
def _(place: Place) -> Attempt:
    code = f"import os; os.system('{place.command}')".encode()
    attempt = fetched(place, released(place, [("sitecustomize.py", code)]))

    def careless() -> None:
        attempt.careless()
        subprocess.run(
            [sys.executable, "-c", ""], env={**os.environ, "PYTHONPATH": str(place.root / "bundles")}
        )

    return Attempt(attempt.ours, careless)


@kind("zip: a bomb")
def _(place: Place) -> Attempt:
    zeros = [(f"{NAME}/{n}", bytes(2**24)) for n in range(4)]
    return fetched(place, released(place, zeros, zipfile.ZIP_DEFLATED))._replace(careless=None)


@kind("zip: a bomb whose entries share their bytes")
def _(place: Place) -> Attempt:
    entries: Entries = [(f"{NAME}/{n:03d}", b"") for n in range(500)]
    path = released(place, [(f"{NAME}/big", os.urandom(2**20)), *entries]) / f"{KEY}.zip"
    with zipfile.ZipFile(path, "a") as archive:
        big = archive.getinfo(f"{NAME}/big")
        for entry in archive.infolist():
            if not entry.file_size:
                entry.header_offset, entry.CRC = big.header_offset, big.CRC
                entry.file_size = entry.compress_size = big.file_size
        archive.comment = b"x"
    return fetched(place, indexed(path))._replace(careless=None)


@kind("zip: an entry that lies about its size")
def _(place: Place) -> Attempt:
    path = released(place, [(f"{NAME}/big", bytes(5000))], zipfile.ZIP_DEFLATED) / f"{KEY}.zip"
    path.write_bytes(path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    return fetched(place, indexed(path))._replace(careless=None)


@kind("zip: a file that is a folder too")
def _(place: Place) -> Attempt:
    return fetched(place, released(place, [(f"{NAME}/LICENSE/x", b"x")]))._replace(careless=None)


@kind("zip: a name that a terminal obeys")
def _(place: Place) -> Attempt:
    return fetched(place, released(place, [(f"{NAME}/\x1b]0;x\x07\x1b[2J", b"x")]))._replace(careless=None)


@kind("zip: another one than the index says")
def _(place: Place) -> Attempt:
    release = released(place, [])
    with zipfile.ZipFile(release / f"{KEY}.zip", "a") as archive:
        archive.writestr("../outside/marker", b"x")
    return fetched(place, release)


@kind("zip: an index without end")
def _(place: Place) -> Attempt:
    release = released(place, [])
    (release / INDEX).write_text("[" * 200_000, encoding="utf-8")
    return fetched(place, release)._replace(careless=None)


@kind("zip: metadata without end")
def _(place: Place) -> Attempt:
    (place.bundle / "configs" / "metadata.json").write_text('{"version":' * 100_000, encoding="utf-8")
    return fetched(place, released(place, []))._replace(careless=None)


@kind("zip: a list of large files that runs code")
def _(place: Place) -> Attempt:
    text = f"large_files: !!python/object/apply:os.system ['{place.command}']"
    attempt = fetched(place, released(place, [(f"{NAME}/large_files.yml", text.encode())]))
    return Attempt(attempt.ours, lambda: yaml.unsafe_load(text))


@kind("zip: a list of large files that fills the memory")
def _(place: Place) -> Attempt:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    text = "\n".join([*lines, "large_files:", "- path: *a11"])
    return fetched(place, released(place, [(f"{NAME}/large_files.yml", text.encode())]))._replace(
        careless=None
    )


# Pickles, by the doors of weights, checkpoints, masks and the cache


def weights(place: Place, content: Any, **options: Any) -> Attempt:
    path = place.bundle / "models" / "model.pt"
    torch.save(content, path, **options)
    network = nn.Linear(3, 2)
    return Attempt(lambda: LoadWeights(str(path), network)(), lambda: torch.load(path, weights_only=False))


@kind("pickle: instead of weights")
def _(place: Place) -> Attempt:
    return weights(place, Payload(place.command))


@kind("pickle: among weights")
def _(place: Place) -> Attempt:
    return weights(place, {**nn.Linear(3, 2).state_dict(), "extra": Payload(place.command)})


@kind("pickle: in an array among weights")
def _(place: Place) -> Attempt:
    return weights(place, {"weight": np.array([Payload(place.command)], dtype=object)})


@kind("pickle: weights of the old format")
def _(place: Place) -> Attempt:
    return weights(place, {"weight": Payload(place.command)}, _use_new_zipfile_serialization=False)


@kind("pickle: an expression for eval")
def _(place: Place) -> Attempt:
    return weights(place, {"weight": Payload(f"__import__('os').system('{place.command}')", eval)})


@kind("pickle: bare, named model.pt")
def _(place: Place) -> Attempt:
    path = place.bundle / "models" / "model.pt"
    path.write_bytes(pickle.dumps(Payload(place.command)))
    network = nn.Linear(3, 2)
    return Attempt(lambda: LoadWeights(str(path), network)(), lambda: pickle.loads(path.read_bytes()))


@kind("pickle: weights that are a bomb")
def _(place: Place) -> Attempt:
    path = place.bundle / "models" / "model.pt"
    torch.save({"weight": torch.zeros(2, 3), "more": torch.zeros(2**22)}, place.root / "large.pt")
    with (
        zipfile.ZipFile(place.root / "large.pt") as large,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in large.namelist():
            small.writestr(name, large.read(name))
    network = nn.Linear(3, 2)
    return Attempt(lambda: LoadWeights(str(path), network)(), None)


@kind("pickle: a compiled network named model.pt")
def _(place: Place) -> Attempt:
    path = place.bundle / "models" / "model.pt"
    torch.jit.script(nn.Linear(3, 2)).save(str(path))
    network = nn.Linear(3, 2)
    return Attempt(lambda: LoadWeights(str(path), network)(), None)


@kind("pickle: a checkpoint to resume from, with its digest")
def _(place: Place) -> Attempt:
    path = place.root / "checkpoint.pt"
    torch.save({"network": {}, "epoch": Payload(place.command)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (place.root / "checkpoint.sha256").write_text(f"{digest}  checkpoint.pt\n", encoding="utf-8")
    return Attempt(lambda: load_checkpoint(path), lambda: torch.load(path, weights_only=False))


@kind("pickle: a sampling mask")
def _(place: Place) -> Attempt:
    path = place.root / "mask.npy"
    np.save(path, np.array([[Payload(place.command)]], dtype=object), allow_pickle=True)
    return Attempt(lambda: load_mask(path), lambda: np.load(path, allow_pickle=True))


@kind("pickle: a sampling mask in an archive")
def _(place: Place) -> Attempt:
    path = place.root / "mask.npz"
    np.savez(path, mask=np.array([[Payload(place.command)]], dtype=object))
    return Attempt(lambda: load_mask(path), lambda: np.load(path, allow_pickle=True)["mask"])


@kind("pickle: an entry of the cache")
def _(place: Place) -> Attempt:
    cache, key = ContentCache(place.root / "cache"), "0" * 64
    cache.path(key).parent.mkdir(parents=True)
    np.savez(cache.path(key), a=np.array([Payload(place.command)], dtype=object))

    def ours() -> int:
        assert cache.get(key) is None  # as if there were none: it is computed
        sys.stdout.write("there is no such entry\n")
        return 1

    return Attempt(ours, lambda: np.load(cache.path(key), allow_pickle=True)["a"])


# Bundles that were changed after their release, by the door of `verify`


def changed(place: Place, change: Callable[[], Any], careless: Callable[[], Any] | None) -> Attempt:
    release = released(place, [])
    change()
    arguments = [str(place.bundle), "--source", str(release), "--version", VERSION]
    return Attempt(lambda: verify(arguments), careless)


def rewritten(place: Place, name: str, old: str, new: str, careless: Callable[[Path], Any]) -> Attempt:
    path = place.bundle / "configs" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    return changed(
        place, lambda: path.write_text(text.replace(old, new, 1), encoding="utf-8"), lambda: careless(path)
    )


@kind("logging.conf: arguments that run")
def _(place: Place) -> Attempt:
    new = f"args=(__import__('os').system('{place.command}'),)"
    return rewritten(place, "logging.conf", "args=(sys.stdout,)", new, logging.config.fileConfig)


@kind("logging.conf: a class that runs")
def _(place: Place) -> Attempt:
    new = f"class=__import__('os').system('{place.command}') or StreamHandler"
    return rewritten(place, "logging.conf", "class=StreamHandler", new, logging.config.fileConfig)


def parsed(path: Path, name: str) -> Any:
    parser = ConfigParser()
    parser.read_config(str(path))
    return parser.get_parsed_content(name)


@kind("config: an expression that runs")
def _(place: Place) -> Attempt:
    new = f"\"seed\": \"$__import__('os').system('{place.command}')\""
    return rewritten(place, "inference.json", '"seed": 0', new, lambda path: parsed(path, "seed"))


@kind("config: a component that runs")
def _(place: Place) -> Attempt:
    new = f'"seed": {{"_target_": "os.system", "command": "{place.command}"}}'
    return rewritten(place, "inference.json", '"seed": 0', new, lambda path: parsed(path, "seed"))


@kind("config: a tag of YAML that runs")
def _(place: Place) -> Attempt:
    new = f"seed: !!python/object/apply:os.system ['{place.command}']"
    return rewritten(
        place, "common.yaml", "seed: 0", new, lambda path: yaml.unsafe_load(path.read_text(encoding="utf-8"))
    )


@kind("metadata: an expression that runs")
def _(place: Place) -> Attempt:
    def careless(path: Path) -> None:
        parser = ConfigParser({})
        parser.read_meta(str(path))
        parser.get_parsed_content("_meta_#version")

    new = f"\"version\": \"$__import__('os').system('{place.command}')\""
    return rewritten(place, "metadata.json", '"version": "0.1.0"', new, careless)


@kind("bundle: a pickle instead of its weights")
def _(place: Place) -> Attempt:
    path = place.bundle / "models" / "model.pt"
    return changed(
        place,
        lambda: torch.save(Payload(place.command), path),
        lambda: torch.load(path, weights_only=False),
    )


@kind("bundle: settings of git that name a command")
def _(place: Place) -> Attempt:
    return changed(place, lambda: checkout(place), lambda: git_status(place.bundle))


@kind("bundle: a folder that is a link")
def _(place: Place) -> Attempt:
    folder = place.bundle / "more"
    return changed(
        place, lambda: folder.symlink_to(place.marker.parent), lambda: (folder / "marker").write_text("x")
    )


def checkout(place: Place) -> None:
    """Make the bundle a checkout whose settings name a command that `git status` runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "init", "-q", str(place.bundle)], check=True, env=environment)
    with (place.bundle / ".git" / "config").open("a", encoding="utf-8") as file:
        file.write(f'[core]\n\tfsmonitor = "{place.command}; false"\n')


def git_status(folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "-C", str(folder), "status"], capture_output=True, env=environment)
