"""The release command: what it writes, prints and refuses, and that MONAI takes it."""

from __future__ import annotations

import hashlib
import json
import shlex
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai import bundle as monai_bundle
from monai.bundle import scripts

import mdl_monai
from mdl_monai import InputError
from mdl_monai.release import publish
from mdl_monai.release.archive import write_zip
from mdl_monai.release.check import CHECKS
from mdl_monai.release.fetch import INDEX, fetch
from mdl_monai.release.publish import main, write_index

KEY = "head_mr_identity_v0.1.0"
ADDRESS = "https://github.com/me/repo/releases/download/v1"


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index of earlier releases, no package to build, and of checks and exports one line each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.delenv("MDL_DATA_ROOT", raising=False)
    for name in set(CHECKS) - {"files"}:
        monkeypatch.delitem(CHECKS, name)

    def export(bundle: Path, stem: Path) -> list[tuple[Path, str]]:
        script = stem.with_name(f"{stem.name}.ts")
        script.write_text("a network")
        return [(script, "any size"), (stem.with_name(f"{stem.name}.onnx"), "not exported: no operator")]

    monkeypatch.setattr(publish, "export_bundle", export)


@pytest.fixture
def zipped(skeleton: Path, tmp_path: Path) -> Path:
    write_zip(skeleton, tmp_path / "dist" / f"{KEY}.zip")
    return tmp_path / "dist"


@pytest.fixture
def site(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the folder with the zip, on a server that redirects to it."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/asset/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/asset"))
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(zipped))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/asset"
        server.shutdown()
        thread.join(timeout=10)


def edit(path: Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")


@pytest.mark.usefixtures("quick")
def test_a_release_is_written_listed_and_found(
    skeleton: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(skeleton), "--output_dir", "dist"]) == 0
    out = capsys.readouterr().out
    assert {p.name for p in (tmp_path / "dist").iterdir()} == {f"{KEY}.zip", f"{KEY}.ts", INDEX}
    for path in (tmp_path / "dist").iterdir():
        content = path.read_bytes()
        assert f"dist/{path.name}  {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}" in out
    assert f"dist/{KEY}.onnx  not exported: no operator\n" in out
    assert out.endswith("Nothing is uploaded.\n")
    fetch(skeleton.name, "0.1.0", str(tmp_path / "dist"), tmp_path / "bundles")


@pytest.mark.usefixtures("quick")
def test_nothing_is_written_where_a_check_fails(skeleton_copy: Path, tmp_path: Path) -> None:
    (skeleton_copy / "LICENSE").unlink()
    assert main([str(skeleton_copy)]) == 1
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("needed", [{}, {"mdl_monai": "9.8.7"}])
def test_a_bundle_for_another_mdl_monai_is_refused(skeleton_copy: Path, needed: dict[str, str]) -> None:
    edit(skeleton_copy / "configs" / "metadata.json", required_packages_version=needed)
    with pytest.raises(InputError, match=rf"(?s)another mdl_monai.*expected: {mdl_monai.__version__}"):
        main([str(skeleton_copy)])


@pytest.mark.usefixtures("quick")
def test_a_dry_run_lists_all_and_writes_nothing(
    skeleton_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text("")  # as in a checkout
    (tmp_path / "mdl_monai").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main([str(skeleton_copy), "--to", "github:me/repo@v1", "--dry_run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    for path in (p for p in skeleton_copy.rglob("*") if p.is_file()):
        assert str(path.relative_to(skeleton_copy)) in out.splitlines()[0]
    package = f"mdl_monai-{mdl_monai.__version__}"
    names = [f"{KEY}.zip", f"{KEY}.ts", f"{KEY}.pt2", f"{KEY}.onnx", INDEX]
    names += [f"{package}.tar.gz", f"{package}-py3-none-any.whl"]
    for name in names:
        assert f"dist/{name} would go to github:me/repo@v1\n" in out
    (create,) = (line for line in out.splitlines() if line.startswith("gh release create"))
    assert shlex.split(create)[3:6] == ["v1", "--repo", "me/repo"]
    assert shlex.split(create)[8:] == [f"dist/{name}" for name in names]
    assert f"mkdir -p models && cp dist/{INDEX} models/{INDEX}\n" in out


@pytest.mark.usefixtures("quick")
def test_a_package_that_cannot_be_released_is_refused_first(
    skeleton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("")

    def refuse(folder: Path) -> list[str]:
        if folder.name == "mdl_monai":
            raise InputError("not committed")
        return []

    monkeypatch.setattr(publish, "release_files", refuse)
    with pytest.raises(InputError, match="not committed"):
        main([str(skeleton)])
    assert not (tmp_path / "dist").exists()


@pytest.mark.usefixtures("quick")
def test_what_was_not_exported_is_not_to_be_uploaded(
    skeleton: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(skeleton), "--to", "github:me/repo@v1"])
    (create,) = (
        line for line in capsys.readouterr().out.splitlines() if line.startswith("gh release create")
    )
    assert shlex.split(create)[8:] == [f"dist/{KEY}.zip", f"dist/{KEY}.ts", f"dist/{INDEX}"]
    index = json.loads(Path("dist", INDEX).read_text(encoding="utf-8"))
    assert index[KEY]["source"] == f"{ADDRESS}/{KEY}.zip"


@pytest.mark.usefixtures("quick")
def test_the_commands_for_hugging_face_are_monais(
    skeleton: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main([str(skeleton), "--to", "huggingface:me/head"])
    lines = capsys.readouterr().out.splitlines()
    unzip, push = (shlex.split(line) for line in lines[-2:])
    assert unzip == ["python", "-m", "zipfile", "-e", f"dist/{KEY}.zip", "upload"]
    calls: list[Any] = []
    hub = SimpleNamespace(
        create_repo=lambda **options: calls.append(options),
        upload_folder=lambda **options: calls.append(options),
        create_tag=lambda **options: calls.append(options),
    )
    monkeypatch.setattr(scripts, "huggingface_hub", SimpleNamespace(HfApi=lambda token: hub))
    zipfile.main(unzip[3:])
    exec(push[2])
    assert [call["repo_id"] for call in calls] == ["me/head"] * 3
    assert (calls[1]["folder_path"], calls[2]["tag"]) == (f"upload/{skeleton.name}", "0.1.0")


@pytest.mark.usefixtures("quick")
def test_hugging_face_takes_one_bundle(skeleton: Path, skeleton_copy: Path, tmp_path: Path) -> None:
    other = skeleton_copy.rename(tmp_path / "other")
    with pytest.raises(InputError, match="(?s)holds one bundle.*found: 2"):
        main([str(skeleton), str(other), "--to", "huggingface:me/head", "--dry_run"])


@pytest.mark.parametrize(
    "place", ["github:me/repo", "github:me@v1", "github:me/repo@a/b", "huggingface:me", "ftp://x", "dist"]
)
def test_an_unknown_place_is_refused(skeleton: Path, place: str) -> None:
    with pytest.raises(InputError, match=r"(?s)unknown place.*github:OWNER/REPO@TAG"):
        main([str(skeleton), "--to", place])


def test_the_index_keeps_earlier_releases(zipped: Path, tmp_path: Path) -> None:
    old = {"head_mr_identity_v0.0.9": {"checksum": "a", "source": "b"}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    write_index(zipped / INDEX, [zipped / f"{KEY}.zip"], ADDRESS, tmp_path / "old.json")
    index = json.loads((zipped / INDEX).read_text(encoding="utf-8"))
    assert list(index) == ["head_mr_identity_v0.0.9", KEY]
    assert index["head_mr_identity_v0.0.9"] == old["head_mr_identity_v0.0.9"]
    checksum = hashlib.sha256((zipped / f"{KEY}.zip").read_bytes()).hexdigest()
    assert index[KEY] == {"checksum": checksum, "source": f"{ADDRESS}/{KEY}.zip"}
    write_index(zipped / INDEX, [zipped / f"{KEY}.zip"], "", zipped / INDEX)  # the same once more
    assert json.loads((zipped / INDEX).read_text(encoding="utf-8"))[KEY]["source"] == f"{KEY}.zip"


def test_a_released_version_does_not_change(zipped: Path) -> None:
    write_index(zipped / INDEX, [zipped / f"{KEY}.zip"], ADDRESS, zipped / "none")
    with (zipped / f"{KEY}.zip").open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match=f"(?s)released with other content.*found: {KEY}.*raise the version"):
        write_index(zipped / "new.json", [zipped / f"{KEY}.zip"], ADDRESS, zipped / INDEX)
    assert not (zipped / "new.json").exists()


def test_monai_finds_versions_and_source_in_the_index(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_index(zipped / INDEX, [zipped / f"{KEY}.zip"], ADDRESS, zipped / "none")

    def get(url: str) -> SimpleNamespace:
        assert url == "https://raw.githubusercontent.com/me/repo/v1/models/model_info.json"
        return SimpleNamespace(
            text=(zipped / INDEX).read_text(encoding="utf-8"), raise_for_status=lambda: None
        )

    monkeypatch.setattr(scripts, "requests", SimpleNamespace(get=get))
    versions = monai_bundle.get_bundle_versions("head_mr_identity", repo="me/repo", tag="v1")
    assert versions == {"latest_version": "0.1.0", "all_versions": ["0.1.0"]}
    info = monai_bundle.get_bundle_info("head_mr_identity", repo="me/repo", tag="v1")
    assert info["browser_download_url"] == f"{ADDRESS}/{KEY}.zip"


@pytest.mark.filterwarnings("ignore::UserWarning")  # MONAI says each time that configs are code
@pytest.mark.parametrize("way", ["file", "http", "github"])
def test_monai_downloads_and_loads_the_zip(
    zipped: Path, site: str, skeleton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    name = skeleton.name
    options: dict[str, Any] = {
        "file": {"url": (zipped / f"{KEY}.zip").as_uri()},
        "http": {"url": f"{site}/{KEY}.zip"},
        "github": {"version": "0.1.0", "source": "github", "repo": "me/repo/v1"},
    }[way]
    monkeypatch.setattr(
        scripts, "_get_git_release_url", lambda owner, repo, tag_name, filename: f"{site}/{filename}"
    )
    monai_bundle.download(name=name, bundle_dir=tmp_path / "b", progress=False, **options)
    loaded: Any = monai_bundle.load(name=name, bundle_dir=tmp_path / "b", device="cpu")
    weights = torch.load(skeleton / "models" / "model.pt", weights_only=True)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(weights))
    files = {p.relative_to(skeleton) for p in skeleton.rglob("*") if p.is_file()}
    assert {
        p.relative_to(tmp_path / "b" / name) for p in (tmp_path / "b" / name).rglob("*") if p.is_file()
    } == files
