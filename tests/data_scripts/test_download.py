import hashlib
import json
from pathlib import Path

import pytest
from download import ATTEMPTS, ChecksumLock, download
from upstream import FileServer

from mdl_monai.errors import InputError

BODY = bytes(range(256)) * 300
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def target(server: FileServer, tmp_path: Path) -> Path:
    (server.folder / "file.mat").write_bytes(BODY)
    return tmp_path / "data" / "file.mat"


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_checksum_and_no_part_stays(server: FileServer, target: Path) -> None:
    assert download(f"{server.url}/file.mat", target, SHA256) == SHA256
    assert target.read_bytes() == BODY
    assert listing(target.parent) == ["file.mat"]


def test_a_file_that_is_there_is_not_fetched_again(server: FileServer, target: Path) -> None:
    for _ in range(2):
        download(f"{server.url}/file.mat", target, SHA256)
    assert server.ranges == [None]


def test_a_cut_connection_is_resumed_where_it_broke(server: FileServer, target: Path) -> None:
    server.cuts = [10_001, 20_000]
    assert download(f"{server.url}/file.mat", target) == SHA256
    assert server.ranges == [None, "bytes=10001-", "bytes=30001-"]


def test_after_too_many_cuts_the_next_run_resumes(server: FileServer, target: Path) -> None:
    server.cuts = [1000] * ATTEMPTS
    with pytest.raises(InputError, match=r"(?s)did not finish.*cut after 3000 bytes.*it resumes"):
        download(f"{server.url}/file.mat", target)
    assert listing(target.parent) == ["file.mat.part"]
    assert download(f"{server.url}/file.mat", target) == SHA256
    assert server.ranges[-1] == "bytes=3000-"


def test_a_server_without_ranges_sends_everything_again(server: FileServer, target: Path) -> None:
    server.knows_ranges = False
    server.cuts = [5000]
    assert download(f"{server.url}/file.mat", target) == SHA256


def test_a_part_longer_than_the_source_is_thrown_away(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.mat.part").write_bytes(b"x" * 2 * len(BODY))
    assert download(f"{server.url}/file.mat", target) == SHA256


def test_a_wrong_checksum_is_one_clear_error_and_leaves_nothing(server: FileServer, target: Path) -> None:
    with pytest.raises(InputError, match=f"(?s)checksum of .*file.mat differs.*{'0' * 64}.*{SHA256}"):
        download(f"{server.url}/file.mat", target, "0" * 64)
    assert listing(target.parent) == []


def test_a_damaged_local_file_is_noticed_and_kept_for_the_user(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"(?s)differs.*delete it"):
        download(f"{server.url}/file.mat", target, SHA256)
    assert target.read_bytes() == b"damaged"


def test_a_missing_file_is_one_clear_error(server: FileServer, target: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)server refused.*other.mat.*HTTP 404"):
        download(f"{server.url}/other.mat", target)
    assert listing(target.parent) == []


def test_a_server_out_of_reach_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)did not finish.*refused"):
        download("http://127.0.0.1:9/file.mat", tmp_path / "file.mat")


def test_the_lock_trusts_on_first_use_and_verifies_afterwards(server: FileServer, target: Path) -> None:
    path = target.parent / "checksums.json"
    lock = ChecksumLock(path)
    assert lock.fetch(f"{server.url}/file.mat", "file.mat") == target
    assert lock.first_used == ["file.mat"]
    lock.save()
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "file.mat": {"url": f"{server.url}/file.mat", "sha256": SHA256}
    }

    again = ChecksumLock(path)
    again.fetch(f"{server.url}/file.mat", "file.mat")
    assert again.first_used == []

    target.unlink()
    (server.folder / "file.mat").write_bytes(BODY + b"changed upstream")
    with pytest.raises(InputError, match="differs"):
        ChecksumLock(path).fetch(f"{server.url}/file.mat", "file.mat")
    assert not target.exists()
