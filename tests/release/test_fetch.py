"""Getting a released bundle: whole and verified from everywhere, or one sentence on what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import logging
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mdl_monai import InputError
from mdl_monai.release import fetch as module
from mdl_monai.release.archive import write_zip
from mdl_monai.release.fetch import INDEX, fetch, main

NAME, VERSION = "head_mr_identity", "0.1.0"
KEY = f"{NAME}_v{VERSION}"
RELEASE = "/owner/repo/releases/download/v1"


@pytest.fixture
def release(skeleton: Path, tmp_path: Path) -> Path:
    """A folder with the skeleton's zip and its index."""
    write_zip(skeleton, tmp_path / "release" / f"{KEY}.zip")
    write_index(tmp_path / "release")
    return tmp_path / "release"


def write_index(release: Path, **change: Any) -> None:
    checksum = hashlib.sha256((release / f"{KEY}.zip").read_bytes()).hexdigest()
    entry = {"checksum": checksum, "source": f"{KEY}.zip"} | change
    (release / INDEX).write_text(json.dumps({KEY: entry, "other_v1.0.0": entry}))


@pytest.fixture
def site(release: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the release on a server that sends from each asset to where its bytes are, as GitHub does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            folder, _, name = self.path.partition("?")[0].rpartition("/")
            if folder == RELEASE and (release / name).is_file():
                self.send_response(302)
                self.send_header("Location", f"{site}/objects/{name}?signature=a%2Fb&expires=300")
                self.end_headers()
            elif folder == "/objects" and "signature=a%2Fb" in self.path:
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Disposition", f"attachment; filename={name}")
                self.end_headers()
                self.wfile.write((release / name).read_bytes())
            else:
                self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield site + RELEASE
        server.shutdown()
        thread.join(timeout=10)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(release: Path, message: str) -> None:
    """The bundle is refused with a message, and nothing of it is left."""
    target = release.parent / "bundles"
    with pytest.raises(InputError, match=f"(?s){message}"):
        fetch(NAME, VERSION, str(release), target)
    assert not list(target.glob("*")) and not list(target.glob(".*"))


def pack(release: Path, change: Callable[[zipfile.ZipFile], None]) -> None:
    """Change the zip, and its index with it."""
    with zipfile.ZipFile(release / f"{KEY}.zip", "a") as archive:
        change(archive)
    write_index(release)


@pytest.mark.parametrize("address", [str, Path.as_uri, lambda path: f"{path}/"])
def test_from_a_folder_all_files_arrive(
    release: Path, skeleton: Path, tmp_path: Path, address: Callable[[Path], str]
) -> None:
    assert fetch(NAME, VERSION, address(release), tmp_path / "b") == tmp_path / "b" / NAME
    assert contents(tmp_path / "b" / NAME) == contents(skeleton)


def test_from_a_server_that_redirects(
    site: str, skeleton: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [NAME, "--version", VERSION, "--source", site, "--bundle_dir", str(tmp_path / "b")]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'b' / NAME}\n"
    assert contents(tmp_path / "b" / NAME) == contents(skeleton)


def test_the_index_may_lie_elsewhere_than_the_zip(site: str, release: Path, tmp_path: Path) -> None:
    index = tmp_path / "models"
    index.mkdir()
    write_index(release, source=f"{site}/{KEY}.zip")
    (release / INDEX).rename(index / INDEX)
    fetch(NAME, VERSION, str(index), tmp_path / "b")
    assert (tmp_path / "b" / NAME / "LICENSE").is_file()


def test_a_downloaded_release_needs_no_connection(release: Path, tmp_path: Path) -> None:
    write_index(release, source=f"http://127.0.0.1:9/{KEY}.zip")
    fetch(NAME, VERSION, str(release), tmp_path / "b")
    assert (tmp_path / "b" / NAME / "LICENSE").is_file()


def test_an_existing_bundle_is_never_touched(release: Path, tmp_path: Path) -> None:
    (tmp_path / "b" / NAME).mkdir(parents=True)
    with pytest.raises(InputError, match="the bundle exists"):
        fetch(NAME, VERSION, str(release), tmp_path / "b")


@pytest.mark.parametrize("place", [0, 500, -30])
def test_a_tampered_zip_is_refused(release: Path, place: int) -> None:
    content = bytearray((release / f"{KEY}.zip").read_bytes())
    content[place] ^= 1
    (release / f"{KEY}.zip").write_bytes(content)
    refused(release, r"not the one that was released.*expected: SHA-256 [0-9a-f]{64}")


def test_half_a_zip_is_refused(release: Path) -> None:
    content = (release / f"{KEY}.zip").read_bytes()
    (release / f"{KEY}.zip").write_bytes(content[: len(content) // 2])
    refused(release, "not the one that was released")


def test_a_file_that_is_no_zip_is_refused(release: Path) -> None:
    (release / f"{KEY}.zip").write_bytes(b"<html>not found</html>")
    write_index(release)
    refused(release, "cannot be unpacked.*not a zip")


def test_an_encrypted_zip_is_refused(release: Path) -> None:
    content = bytearray((release / f"{KEY}.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    (release / f"{KEY}.zip").write_bytes(content)
    write_index(release)
    refused(release, "cannot be unpacked.*encrypted")


@pytest.mark.parametrize(
    "name", ["../evil", f"{NAME}/../../evil", "/etc/evil", f"{NAME}\\..\\evil", "C:/evil", f"{NAME}/C:evil"]
)
def test_a_path_that_climbs_out_is_refused(release: Path, name: str) -> None:
    pack(release, lambda archive: archive.writestr(name, "x"))
    refused(release, "climbs out")


@pytest.mark.parametrize("name", [f"{NAME}/.git/config", f"{NAME}/configs/.x", ".x"])
def test_a_hidden_file_is_refused(release: Path, name: str) -> None:
    pack(release, lambda archive: archive.writestr(name, "x"))
    refused(release, f"a hidden file.*found: {name}")


def test_a_name_that_a_terminal_obeys_is_refused_and_not_shown(release: Path) -> None:
    pack(release, lambda archive: archive.writestr(f"{NAME}/\x1b[2Jx", "x"))
    refused(release, r"a name in the zip is none.*found: '[^\x1b]*\\x1b\[2Jx'$")


def test_a_zip_of_very_many_files_is_refused(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 10)
    refused(release, r"more than a bundle can hold.*in \d\d files")


def test_a_digest_from_elsewhere_goes_before_that_of_the_index(release: Path, tmp_path: Path) -> None:
    good = hashlib.sha256((release / f"{KEY}.zip").read_bytes()).hexdigest()
    write_index(release, checksum="0" * 64)
    fetch(NAME, VERSION, str(release), tmp_path / "b", digest=f" {good.upper()}\n")
    write_index(release)
    with pytest.raises(InputError, match="not the one that was released"):
        fetch(NAME, VERSION, str(release), tmp_path / "c", digest="0" * 64)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_device_is_refused(release: Path, kind: int) -> None:
    entry = zipfile.ZipInfo(f"{NAME}/link")
    entry.external_attr = (kind | 0o777) << 16
    pack(release, lambda archive: archive.writestr(entry, "/etc/passwd"))
    refused(release, f"a link or a device.*{NAME}/link")


@pytest.mark.parametrize("name", ["other/LICENSE", "LICENSE", NAME, f"{NAME}2/x", "__MACOSX/x"])
def test_another_folder_is_refused(release: Path, name: str) -> None:
    pack(release, lambda archive: archive.writestr(name, "x"))
    refused(release, f"more than the bundle's folder.*expected: {NAME}/.*found: {name}")


def test_a_name_that_is_there_twice_is_refused(release: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        pack(release, lambda archive: archive.writestr(f"{NAME}/LICENSE", "x"))
    refused(release, "cannot be unpacked.*exists")


def test_a_bomb_is_refused(release: Path) -> None:
    zeros = bytes(2**24)

    def add(archive: zipfile.ZipFile) -> None:
        for n in range(4):
            archive.writestr(f"{NAME}/{n}", zeros, zipfile.ZIP_DEFLATED)

    pack(release, add)
    refused(
        release, r"unpacks to more than a bundle can hold.*found: 67\d{6} bytes in \d\d files out of \d{5,6}$"
    )


def test_an_entry_that_lies_about_its_size_is_refused(release: Path) -> None:
    pack(release, lambda archive: archive.writestr(f"{NAME}/big", bytes(5000), zipfile.ZIP_DEFLATED))
    content = (
        (release / f"{KEY}.zip")
        .read_bytes()
        .replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    )
    (release / f"{KEY}.zip").write_bytes(content)
    write_index(release)
    refused(release, "cannot be unpacked")


def test_a_zip_without_end_is_not_downloaded(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    refused(release, "too large.*at most 1000 bytes")


@pytest.mark.parametrize("suffix", ["yml", "yaml", "json"])
def test_a_missing_large_file_is_refused(release: Path, suffix: str) -> None:
    listing = json.dumps({"large_files": [{"path": "models/big.pt", "url": "https://example.org/big.pt"}]})
    pack(release, lambda archive: archive.writestr(f"{NAME}/large_files.{suffix}", listing))
    refused(release, "a large file of the bundle is missing.*models/big.pt")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "a/../../secret"])
def test_a_large_file_outside_of_the_bundle_is_refused(release: Path, path: str) -> None:
    listing = json.dumps({"large_files": [{"path": path, "url": "https://example.org"}]})
    pack(release, lambda archive: archive.writestr(f"{NAME}/large_files.json", listing))
    refused(release, f"outside of the bundle.*found: {path}")


def test_a_large_file_that_is_there_is_none_missing(release: Path, tmp_path: Path) -> None:
    listing = json.dumps({"large_files": [{"path": "models/model.pt", "url": "https://example.org"}]})
    pack(release, lambda archive: archive.writestr(f"{NAME}/large_files.json", listing))
    fetch(NAME, VERSION, str(release), tmp_path / "b")


def test_a_zip_of_another_version_is_refused(release: Path, tmp_path: Path) -> None:
    (release / INDEX).write_text((release / INDEX).read_text(encoding="utf-8").replace(KEY, f"{NAME}_v0.2.0"))
    (release / f"{KEY}.zip").rename(release / f"{NAME}_v0.2.0.zip")
    with pytest.raises(InputError, match=r"(?s)another version.*expected: 0\.2\.0.*found: 0\.1\.0"):
        fetch(NAME, "0.2.0", str(release), tmp_path / "b")


def test_a_zip_without_metadata_is_refused(release: Path) -> None:
    with zipfile.ZipFile(release / f"{KEY}.zip", "w") as archive:
        archive.writestr(f"{NAME}/LICENSE", "x")
    write_index(release)
    refused(release, "no configs/metadata.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"a": 1}',
        '{"a": {"checksum": "x"}}',
        '{"a": {"checksum": 1, "source": ""}}',
    ],
)
def test_an_index_that_is_none_is_refused(release: Path, text: str) -> None:
    (release / INDEX).write_text(text)
    refused(release, f"index of bundles is not one.*{INDEX}")


def test_a_version_that_is_not_listed_is_refused_with_those_that_are(release: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"(?s)does not list.*expected: {NAME}_v9.*found: {KEY}, other_v1.0.0"
    ):
        fetch(NAME, "9", str(release), tmp_path / "b")


def test_a_missing_source_is_one_sentence(tmp_path: Path) -> None:
    refused(tmp_path / "none", "cannot be downloaded.*none/model_info.json")


def test_a_missing_asset_is_one_sentence(site: str, release: Path, tmp_path: Path) -> None:
    (release / f"{KEY}.zip").unlink()
    with pytest.raises(InputError, match="(?s)cannot be downloaded.*404"):
        fetch(NAME, VERSION, site, tmp_path / "b")


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(InputError, match="cannot be downloaded"):
        fetch(NAME, VERSION, "http://127.0.0.1:9", tmp_path / "b")


def test_other_protocols_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)unknown kind.*ftp://"):
        fetch(NAME, VERSION, "ftp://example.org/x", tmp_path / "b")


def test_a_server_cannot_send_to_a_local_file(site: str, release: Path, tmp_path: Path) -> None:
    write_index(release, source=(release / f"{KEY}.zip").as_uri())
    with pytest.raises(InputError, match="a file of this computer"):
        fetch(NAME, VERSION, site, tmp_path / "b")


@pytest.mark.parametrize(
    ("key", "package"), [("monai_version", "MONAI"), ("pytorch_version", "torch"), ("mdl_monai", "mdl_monai")]
)
def test_other_versions_than_tested_are_said_in_one_sentence(
    skeleton_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, package: str
) -> None:
    path = skeleton_copy / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    (metadata["required_packages_version"] if key == "mdl_monai" else metadata)[key] = "9.8.7"
    path.write_text(json.dumps(metadata))
    write_zip(skeleton_copy, tmp_path / "release" / f"{KEY}.zip")
    write_index(tmp_path / "release")
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        fetch(NAME, VERSION, str(tmp_path / "release"), tmp_path / "b")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{NAME} was tested with {package} 9.8.7 (here ")


def test_the_tested_versions_are_nothing_to_speak_of(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = json.loads(
        (Path(module.__file__).parent / "skeleton/configs/metadata.json").read_text(encoding="utf-8")
    )
    monkeypatch.setattr(module.monai, "__version__", metadata["monai_version"])
    monkeypatch.setattr(module.torch, "__version__", metadata["pytorch_version"] + "+cpu")
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        fetch(NAME, VERSION, str(release), tmp_path / "b")
    assert not caplog.records
