import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mdl_monai.errors import InputError
from mdl_monai.io.content_cache import (
    SEAL,
    STALE_SECONDS,
    ContentCache,
    cache_folder,
    content_key,
    user_cache_dir,
)

KEY = content_key("a test")
ARRAYS = {
    "warped": np.arange(30, dtype=np.float32).reshape(2, 3, 5),
    "labels": np.asfortranarray(np.eye(4, 7, dtype=np.uint8)),
    "folded": np.array(0.25),
    "empty": np.zeros((0, 3), dtype=bool),
    "reason": np.array("fields of view do not overlap, größtenteils"),
}


def assert_same(got: dict[str, np.ndarray] | None, expected: dict[str, np.ndarray]) -> None:
    assert got is not None and set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, strict=True)


def test_keys_of_different_content_differ() -> None:
    x = np.arange(6, dtype=np.int32)
    different = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (("ab", "c"),),
        ("a", ("b", "c")),
        (),
        ((),),
        ({},),
        ("",),
        (b"",),
        (None,),
        ("None",),
        (0,),
        (0.0,),
        (-0.0,),
        (False,),
        ("0",),
        (1,),
        (True,),
        (1.0,),
        (x,),
        (x.reshape(2, 3),),
        (x.reshape(3, 2),),
        (x.reshape(2, 3).T,),
        (x.astype(np.int64),),
        (x.astype(np.float32),),
        (x.view(np.float32),),
        (x.tobytes(),),
        (x.tolist(),),
        (x[:3], x[3:]),
        (x[:0],),
        (x[:0].reshape(0, 2),),
        ({"a": "b"},),
        ({"a": {"b": 1}, "c": 2},),
        ({"a": {"b": 1, "c": 2}},),
        ({"b": "a"},),
        (("a", "b"),),
    ]
    for (i, one), (j, other) in itertools.combinations(enumerate(different), 2):
        assert content_key(*one) != content_key(*other), (different[i], different[j])


def test_equal_content_has_one_key_whatever_holds_it() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    tensor = torch.from_numpy(values)
    keys = {
        content_key(form)
        for form in (
            values,
            np.asfortranarray(values),
            values[:, ::-1][:, ::-1],
            tensor,
            tensor.clone().requires_grad_(),
            tensor.permute(2, 0, 1).contiguous().permute(1, 2, 0),
            MetaTensor(tensor, affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))),
        )
    }
    assert len(keys) == 1
    assert content_key(torch.tensor([1 + 2j, 3 - 1j]).conj()) == content_key(
        np.array([1 - 2j, 3 + 1j], dtype=np.complex64)
    )
    assert content_key({"a": 1, "b": (2, 3)}) == content_key({"b": [2, 3], "a": 1})
    assert content_key(np.float64(0.1), np.int64(3)) == content_key(0.1, 3)


def test_a_key_is_the_same_in_every_process() -> None:
    code = (
        "from mdl_monai.io.content_cache import content_key\n"
        "print(content_key('demons', {'b': 1, 'a': (2.5, None)}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, env=environment
    )
    assert told.stdout.strip() == content_key("demons", {"a": (2.5, None), "b": 1})
    assert len(KEY) == 64 and int(KEY, 16)


@pytest.mark.parametrize("part", [Path("image.nii.gz"), object(), {1, 2}, np.array([object()]), 1j])
def test_a_part_without_lasting_content_has_no_key(part: object) -> None:
    with pytest.raises(TypeError, match="no content key"):
        content_key("ok", [part])


def test_what_was_put_is_got_and_replaced(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "not" / "there")
    assert cache.get(KEY) is None
    cache.put(KEY, ARRAYS)
    assert_same(cache.get(KEY), ARRAYS)
    assert cache.get(content_key("another")) is None
    assert [p.relative_to(cache.folder) for p in cache.folder.rglob("*.npz")] == [
        Path(KEY[:2]) / f"{KEY}.npz"
    ]
    cache.put(KEY, {"warped": np.ones(3)})
    assert_same(cache.get(KEY), {"warped": np.ones(3)})
    cache.put(KEY, {})
    assert cache.get(KEY) == {}


def test_objects_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no content key"):
        ContentCache(tmp_path).put(KEY, {"bad": np.array([{}])})
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_entry_is_absent_and_replaced(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    cache.put(KEY, ARRAYS)
    whole = cache.path(KEY).read_bytes()
    for length in range(0, len(whole), 7):
        cache.path(KEY).write_bytes(whole[:length])
        assert cache.get(KEY) is None, length
    cache.put(KEY, ARRAYS)
    assert_same(cache.get(KEY), ARRAYS)


def test_no_flipped_bit_changes_what_is_got(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    noise = {"noise": np.random.default_rng(0).integers(0, 256, 200, dtype=np.uint8), "two": np.arange(2)}
    cache.put(KEY, noise)
    whole = cache.path(KEY).read_bytes()
    absent = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        cache.path(KEY).write_bytes(damaged)
        got = cache.get(KEY)
        absent += got is None
        if got is not None:  # a time stamp, say
            assert_same(got, noise)
    assert absent > 0.7 * len(whole)


def test_an_array_whose_header_asks_for_less_than_there_is_is_noticed(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    grey = np.arange(9000.0)
    cache.put(KEY, {"grey": grey})
    with np.load(cache.path(KEY)) as entry:
        seal = entry[SEAL]
    np.savez(cache.path(KEY), grey=grey, **{SEAL: seal})
    assert_same(cache.get(KEY), {"grey": grey})
    whole = cache.path(KEY).read_bytes()
    assert whole.count(b"(9000,)") == 1
    cache.path(KEY).write_bytes(whole.replace(b"(9000,)", b"(1000,)"))
    with np.load(cache.path(KEY)) as entry:
        assert len(entry["grey"]) == 1000  # numpy alone does not notice
    assert cache.get(KEY) is None


def test_a_foreign_file_is_absent(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    cache.path(KEY).parent.mkdir()
    np.savez(cache.path(KEY), grey=np.arange(3))
    assert cache.get(KEY) is None
    cache.path(KEY).write_text("notes")
    assert cache.get(KEY) is None
    cache.path(KEY).unlink()
    cache.path(KEY).mkdir()
    assert cache.get(KEY) is None


WRITER = """
import sys
import numpy as np
from mdl_monai.io.content_cache import ContentCache
cache, key, value = ContentCache(sys.argv[1]), sys.argv[2], float(sys.argv[3])
array = np.random.default_rng(0).normal(size=20_000) + value
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[4])):
    cache.put(key, {"grey": array, "value": np.array(value)})
"""


def writer(folder: Path, value: int, puts: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(folder), KEY, str(value), str(puts)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin and process.stdout
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_reader_beside_two_writers_of_one_key_sees_whole_entries_alone(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    base = np.random.default_rng(0).normal(size=20_000)
    cache.put(KEY, {"grey": base, "value": np.array(0.0)})
    seen = set()
    with writer(tmp_path, 1, 25) as one, writer(tmp_path, 2, 25) as two:
        start(one)
        start(two)
        while one.poll() is None or two.poll() is None:
            got = cache.get(KEY)
            assert got is not None
            value = got["value"].item()
            np.testing.assert_array_equal(got["grey"], base + value)
            seen.add(value)
    assert one.returncode == two.returncode == 0
    assert seen >= {1.0, 2.0}
    assert [p.name for p in cache.path(KEY).parent.iterdir()] == [f"{KEY}.npz"]


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_writer_killed_at_any_moment_leaves_whole_entries_or_none(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(size=20_000)
    cache = ContentCache(tmp_path)
    for delay in (0.03, 0.05):
        with writer(tmp_path, 1, 10_000) as process:
            start(process)
            deadline = time.monotonic() + 30
            while not cache.path(KEY).exists() and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert_same(cache.get(KEY), {"grey": base + 1, "value": np.array(1.0)})
        cache.path(KEY).unlink()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_what_a_writer_killed_in_mid_write_leaves_does_no_harm_and_goes_in_time(tmp_path: Path) -> None:
    killed_in_mid_write = (
        "import os, signal\nimport numpy as np\n"
        "def half(path, **arrays):\n"
        "    path.write_bytes(b'PK half of the entry')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "np.savez_compressed = half\n"
    )
    arguments = [sys.executable, "-c", killed_in_mid_write + WRITER, str(tmp_path), KEY, "1", "1"]
    assert (
        subprocess.run(arguments, input="\n", capture_output=True, encoding="utf-8").returncode
        == -signal.SIGKILL
    )
    cache = ContentCache(tmp_path)
    (left,) = cache.path(KEY).parent.iterdir()
    assert left.name.startswith(".") and cache.get(KEY) is None
    cache.put(KEY, ARRAYS)
    assert_same(cache.get(KEY), ARRAYS)
    assert left.exists()  # its writer may be alive
    old = time.time() - STALE_SECONDS - 60
    os.utime(left, (old, old))
    os.utime(cache.path(KEY), (old, old))
    cache.put(content_key("elsewhere"), ARRAYS)
    assert_same(cache.get(KEY), ARRAYS)
    cache.put(KEY, ARRAYS)
    assert [p.name for p in cache.path(KEY).parent.iterdir()] == [f"{KEY}.npz"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the convention of Linux")
def test_the_users_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "named"))
    assert user_cache_dir() == tmp_path / "named" / "mdl_monai"
    for unusable in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert user_cache_dir() == tmp_path / "home" / ".cache" / "mdl_monai"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None, tmp_path / "atlases") == tmp_path / "home" / ".cache" / "mdl_monai"
    assert (tmp_path / "home" / ".cache" / "mdl_monai").is_dir()


def test_a_cache_inside_the_atlas_folder_is_refused(tmp_path: Path) -> None:
    atlases = tmp_path / "atlases"
    atlases.mkdir()
    (tmp_path / "link").symlink_to(atlases)
    for inside in (atlases, atlases / "cache", tmp_path / "link" / "cache", atlases / "x" / ".." / "cache"):
        with pytest.raises(InputError, match="inside the atlas folder[\\s\\S]*--cache_dir"):
            cache_folder(inside, atlases)
    assert list(atlases.iterdir()) == []
    assert cache_folder(tmp_path / "atlases_cache", atlases) == tmp_path / "atlases_cache"
    assert cache_folder(str(tmp_path), atlases) == tmp_path


def test_a_cache_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for unusable in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(InputError, match="cannot be written[\\s\\S]*file"):
            cache_folder(unusable, tmp_path / "atlases")

    def read_only(**_: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(InputError, match="cannot be written[\\s\\S]*read-only"):
        cache_folder(tmp_path / "cache", tmp_path / "atlases")
