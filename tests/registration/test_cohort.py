import csv
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")

import dask
import psutil
from cohort_work import Work, forgetful, sleeps, threads
from distributed import Client, LocalCluster

from mdl_monai.errors import InputError
from mdl_monai.io.content_cache import ContentCache, content_key
from mdl_monai.registration import cluster
from mdl_monai.registration.cohort import CohortReport, run_cohort


def processes() -> set[int]:
    """Those that were started here, but for Python's own, which ends with this one."""
    children = psutil.Process().children(recursive=True)
    return {p.pid for p in children if p.is_running() and "resource_tracker" not in " ".join(p.cmdline())}


def local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    )


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[LocalCluster]:
    before = processes()
    with local_cluster(2) as running:
        yield running
    assert processes() == before


@pytest.fixture
def address(shared_cluster: LocalCluster) -> str:
    return shared_cluster.scheduler_address


def computed(folder: Path) -> Counter[tuple[str, str]]:
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    return Counter((line.split()[0], line.split()[1]) for line in lines)


def stored(folder: Path) -> set[Path]:
    return set((folder / "cache").rglob("*.npz"))


def entries(folder: Path, pairs: list[tuple[str, str]]) -> set[Path]:
    return {ContentCache(folder / "cache").path(content_key(*pair)) for pair in pairs}


def test_a_worker_killed_in_the_middle_leaves_every_pair_done_once(tmp_path: Path) -> None:
    before = processes()
    pairs = {f"t{i}": ["a0", "a1", "slow", "a3", "a4"] for i in range(6)}
    pairs["t2"] = ["a0", "a1", "slow", "killed_once", "a4"]
    report = run_cohort(Work(tmp_path), pairs, workers=2, chunk=4, progress=False)
    asked = [(target, atlas) for target, atlases in pairs.items() for atlas in atlases]
    assert (tmp_path / "killed").exists()
    assert report.done == asked
    assert report.failed == {} and report.seconds > 0
    assert stored(tmp_path) == entries(tmp_path, asked)
    times = computed(tmp_path)
    assert times.pop(("t2", "killed_once")) == 2  # the first time it did not come to the end
    assert set(times.values()) == {1} and len(times) == len(asked) - 1
    workers = {line.split()[2] for line in (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()}
    assert len(workers) >= 2
    assert processes() == before


def test_a_pair_that_ends_its_worker_each_time_fails_in_plain_words_and_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = processes()
    monkeypatch.setitem(cluster.LOCAL_CONFIG, "distributed.scheduler.no-workers-timeout", "60s")
    pairs = {"t0": ["a0", "fatal", "slow", "a3"], "t1": ["slow", "a1", "a2"]}
    # Dask's own 15 s, after which it gives up a worker that is just starting, made so short that it always would.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):
        report = run_cohort(Work(tmp_path), pairs, workers=2, chunk=3, progress=False)
    assert list(report.failed) == [("t0", "fatal")]
    assert report.failed["t0", "fatal"].startswith("the worker process died each time this pair ran")
    assert report.done == [(t, a) for t, atlases in pairs.items() for a in atlases if a != "fatal"]
    assert stored(tmp_path) == entries(tmp_path, report.done)
    assert processes() == before


def test_a_pair_that_raises_fails_with_its_reason_and_the_others_go_on(tmp_path: Path, address: str) -> None:
    pairs = {"t0": ["a0", "raises", "a2", "failed"], "t1": ["a0", "a1"], "t2": ["refused"]}
    report = run_cohort(Work(tmp_path), pairs, address=address, progress=False)
    assert report.failed == {
        ("t0", "raises"): "ValueError: no overlap of the fields of view",
        ("t0", "failed"): "folded voxels above the limit",
        ("t2", "refused"): "the image is constant where: refused.nii.gz",
    }
    assert report.done == [("t0", "a0"), ("t0", "a2"), ("t1", "a0"), ("t1", "a1")]
    assert stored(tmp_path) == entries(tmp_path, report.done)
    assert all(times == 1 for pair, times in computed(tmp_path).items() if pair in report.done)


def test_a_second_run_by_address_computes_nothing_again(tmp_path: Path, address: str) -> None:
    pairs = {"t0": ["a0", "a1", "a2", "a1"], "t1": []}  # one is asked for twice
    for _ in range(2):
        report = run_cohort(Work(tmp_path), pairs, address=address, chunk=2, progress=False)
        assert report.done == [("t0", "a0"), ("t0", "a1"), ("t0", "a2")]
        assert computed(tmp_path) == Counter(report.done)


def test_what_the_function_holds_goes_once_to_each_worker_and_leaves_with_the_run(
    tmp_path: Path, address: str
) -> None:
    pairs = {f"t{i}": ["a0", "a1", "a2"] for i in range(20)}
    report = run_cohort(Work(tmp_path, ballast=5_000_000), pairs, address=address, chunk=1, progress=False)
    assert len(report.done) == 60
    arrivals = (tmp_path / "arrivals.txt").read_text(encoding="utf-8").split()
    with Client(address, set_as_default=False) as client:
        workers = client.run(lambda dask_worker: [*dask_worker.plugins])
    assert len(arrivals) == len(set(arrivals)) == len(workers) == 2
    assert not any("mdl_monai" in name for plugins in workers.values() for name in plugins)


def test_a_worker_runs_one_thread(address: str) -> None:
    report = run_cohort(threads, {"t": ["a"]}, address=address, progress=False)
    assert report.failed == {("t", "a"): "1 1 1"}


def test_a_pair_of_which_the_function_tells_nothing_fails(address: str) -> None:
    report = run_cohort(forgetful, {"t": ["a", "b"]}, address=address, progress=False)
    assert report.done == []
    assert report.failed == {("t", "a"): "KeyError: 'a'", ("t", "b"): "KeyError: 'b'"}


def test_a_function_that_the_workers_cannot_import_is_refused(tmp_path: Path, address: str) -> None:
    (tmp_path / "only_here.py").write_text("def work(target, atlases):\n    return dict.fromkeys(atlases)\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import only_here

        with pytest.raises(InputError, match="cannot load the work[\\s\\S]*only_here"):
            run_cohort(only_here.work, {"t": ["a"]}, address=address, progress=False)
    finally:
        sys.path.remove(str(tmp_path))


def test_the_bar_counts_pairs(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cohort(Work(tmp_path), {"t": ["a0", "raises", "a2"]}, address=address)
    assert "3/3" in capsys.readouterr().err
    run_cohort(Work(tmp_path), {"t": ["a0"]}, address=address, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "nobody", ["tcp://127.0.0.1:9", "127.0.0.1:9", "tcp://127.0.0.1", "http://127.0.0.1:9", "scheduler", ""]
)
def test_an_address_where_nobody_listens_is_refused_soon(
    nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    start = time.monotonic()
    with pytest.raises(InputError, match="no dask scheduler answers"):
        run_cohort(sleeps, {"t": ["a"]}, address=nobody, progress=False)
    assert time.monotonic() - start < 5


def test_a_scheduler_that_goes_away_ends_the_run_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2.0)
    before = processes()
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, encoding="utf-8") as scheduler:
        assert scheduler.stderr
        line = next(line for line in scheduler.stderr if "Scheduler at:" in line)
        threading.Thread(target=scheduler.stderr.read).start()  # its end closes the pipe
        killer = threading.Timer(1.5, scheduler.kill)
        killer.start()
        with pytest.raises(InputError, match="the scheduler went away"):  # it has no workers yet
            run_cohort(sleeps, {"t": ["a"]}, address=line.split()[-1], progress=False)
        killer.join()
    assert processes() == before


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LocalCluster", None)
    report = run_cohort(sleeps, {"t": []})
    assert report.done == [] and report.failed == {}


@pytest.mark.parametrize("counts", [{"workers": 0}, {"chunk": 0}])
def test_a_count_below_one_is_refused(counts: dict[str, int]) -> None:
    with pytest.raises(InputError, match="count from 1"):
        run_cohort(sleeps, {"t": ["a"]}, **counts)


def test_the_table_holds_each_pair_with_its_reason(tmp_path: Path) -> None:
    failed = {("t0", "a1"): 'overlap "lost", 3 % left', ("t1", "größe"): "died"}
    CohortReport([("t0", "a0")], failed, 1.0).write_csv(tmp_path / "new" / "pairs.csv")
    with (tmp_path / "new" / "pairs.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {"target": "t0", "atlas": "a0", "status": "done", "reason": ""},
            {"target": "t0", "atlas": "a1", "status": "failed", "reason": 'overlap "lost", 3 % left'},
            {"target": "t1", "atlas": "größe", "status": "failed", "reason": "died"},
        ]
