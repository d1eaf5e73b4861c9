"""Cohorts on a Dask cluster and in processes of this machine: the same bytes as here, whatever dies on the way."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from small_study import make_cohort

from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import (
    ClusterError,
    FileFormatError,
    InvalidInputError,
    MismatchError,
    MissingExtraError,
    MissingFileError,
    WorkerLostError,
)
from napari_prospector.study import cluster as cluster_module
from napari_prospector.study.cluster import DaskWorkers, as_workers, open_workers
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.cohort_graphs import CohortGraphs
from napari_prospector.study.embed_cohort import SlideJob, embed_cohort
from napari_prospector.study.evaluate import evaluate
from napari_prospector.study.map_cohort import MapJob, map_cohort
from napari_prospector.study.patients import as_data
from napari_prospector.study.truths import cohort_truths
from napari_prospector.study.workers import LocalProcesses, is_cancelled

# On a slow disk distributed says so; that is about the machine, not about us.
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories is taking a surprisingly long time")

TEXTURE = {"name": "stain-texture"}
ALL = {"method": "all"}


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """A client of two worker processes of one thread each."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalProcesses]:
    with LocalProcesses(2) as found:
        yield found


@pytest.fixture(params=["dask", "processes"])
def client(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


class Small:
    """A cohort of ten slides, embedded here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = Cohort.read(make_cohort(folder))
        assert [row.error for row in embed_cohort(self.jobs("here"), TEXTURE, tissue=ALL)] == [None] * 10

    def jobs(self, name: str) -> list[SlideJob]:
        paths = self.table.store_paths(self.folder / name)
        return [SlideJob(row.path, path) for row, path in zip(self.table, paths, strict=True)]

    def graphs(self, client: Any = None) -> CohortGraphs:
        return CohortGraphs.of_cohort(self.table, self.folder / "here", client=client)

    def head(self, client: Any = None, **settings: Any) -> ProspectorHead:
        head = ProspectorHead(3, 1, "fold-change", n_folds=2, **settings)
        return head.fit(self.graphs(client), self.table.labels, self.table.groups)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(tmp_path_factory.mktemp("small cohort"))


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def saved(head: ProspectorHead, path: Path) -> bytes:
    head.save(path)
    return path.read_bytes()


def test_slides_are_embedded_by_workers_to_the_same_bytes(
    small: Small, client: Any, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["client"]
    rows = sorted(embed_cohort(small.jobs(name), TEXTURE, client=client, tissue=ALL), key=lambda row: row.slide)
    assert [(row.slide, row.done, row.failed, row.error) for row in rows] == [
        (f"slide {number}.tif", 15, 0, None) for number in range(10)
    ]
    assert all(row.seconds > 0 for row in rows)
    assert contents(small.folder / name) == contents(small.folder / "here")


def test_a_head_is_fitted_by_workers_to_the_same_bytes(small: Small, client: Any, tmp_path: Path) -> None:
    assert saved(small.head(client), tmp_path / "there") == saved(small.head(), tmp_path / "here")
    automatic, graphs = ProspectorHead(n_folds=2), small.graphs(client)
    automatic.fit(graphs, small.table.labels, small.table.groups)
    here = ProspectorHead(n_folds=2).fit(small.graphs(), small.table.labels, small.table.groups)
    assert saved(automatic, tmp_path / "there") == saved(here, tmp_path / "here")
    assert not graphs._kept, "no tokens are read by the process that asks"


def test_patients_and_parts_of_a_cohort_are_worked_out_by_workers_too(small: Small, client: Any) -> None:
    groups = ["p0", "p1", "p2", "p3", "p0", "p5", "p6", "p7", "p8", "p9"]
    labels = ["tumour", "normal"] * 5
    heads = [
        ProspectorHead(3, 0, "linear", refine=False).fit(*as_data(small.graphs(where), labels, groups, "group"))
        for where in (None, client)
    ]
    np.testing.assert_array_equal(heads[0].out_of_fold_scores_, heads[1].out_of_fold_scores_)
    np.testing.assert_array_equal(
        heads[0].predict_proba(small.graphs()[2:7]), heads[1].predict_proba(small.graphs(client)[2:7])
    )


def test_maps_are_written_by_workers_to_the_same_bytes(small: Small, client: Any, tmp_path: Path) -> None:
    head = small.head()
    jobs = [MapJob(job.tokens, job.slide) for job in small.jobs("here")[:3]]
    jobs.append(MapJob(jobs[0].tokens.with_name("none.tokens.zarr")))
    found = {}
    for name, where in (("here", None), ("there", client)):
        rows = dict(map_cohort(head, jobs, tmp_path / name, client=where))
        assert [rows[number].error is None for number in range(4)] == [True, True, True, False]
        assert "no token grid" in str(rows[3].error)
        found[name] = [row.map.probability for row in rows.values() if row.map is not None]
    assert sorted(found["here"]) == sorted(found["there"])
    written = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert len(written) == 12
    assert written == sorted(path.name for path in (tmp_path / "there").iterdir())
    for name in written:
        here, there = tmp_path / "here" / name, tmp_path / "there" / name
        if name.endswith(".tif"):  # every OME-TIFF gets an identifier of its own
            np.testing.assert_array_equal(tifffile.imread(here), tifffile.imread(there))
        else:
            assert here.read_bytes() == there.read_bytes()


def test_an_evaluation_by_workers_writes_the_same_tables(small: Small, client: Any, tmp_path: Path) -> None:
    head, table = small.head(), small.table
    truths = cohort_truths(table, small.graphs().grids, "tumour")
    for name, where in (("here", None), ("there", client)):
        evaluate(head, small.graphs(where), table.labels, truths, table.groups, n_boot=20).write(tmp_path / name)
    for name in ("evaluation_data.csv", "evaluation_pairs.csv", "evaluation_probabilities.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    here, there = (rows_of(tmp_path / name / "evaluation.csv") for name in ("here", "there"))
    timed = {column for column in here[0] if column.endswith("seconds")}
    for one, other in zip(here, there, strict=True):
        assert {name: one[name] for name in {*one} - timed} == {name: other[name] for name in {*other} - timed}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_slide_that_fails_is_a_row_and_the_others_go_on(small: Small, client: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no slide")
    jobs = [SlideJob(broken, tmp_path / "broken.tokens.zarr"), *small.jobs("again")[:2]]
    rows = {row.slide: row for row in embed_cohort(jobs, TEXTURE, client=client, tissue=ALL)}
    assert "broken.tif" in str(rows.pop("broken.tif").error)
    assert [(row.done, row.error) for row in rows.values()] == [(15, None)] * 2


def test_an_encoder_that_cannot_be_loaded_is_refused_once(small: Small, client: Any) -> None:
    from napari_prospector.errors import UnknownNameError

    with pytest.raises(UnknownNameError, match="'stain-txture' is unknown"):
        list(embed_cohort(small.jobs("never"), {"name": "stain-txture"}, client=client))
    assert not list((small.folder / "never").glob("*"))


def test_an_encoder_that_is_loaded_is_no_use_to_workers(small: Small, processes: LocalProcesses) -> None:
    from napari_prospector.tokens.encoders.cards import load_encoder

    with pytest.raises(InvalidInputError, match="must be keywords of load_encoder where a client is given"):
        list(embed_cohort(small.jobs("never"), load_encoder("stain-texture"), client=processes))


def test_damage_in_a_store_is_told_as_it_is_here(small: Small, client: Any, tmp_path: Path) -> None:
    import shutil

    paths = [Path(shutil.copytree(job.tokens, tmp_path / job.tokens.name)) for job in small.jobs("here")]
    graphs = CohortGraphs(paths, client=client)
    (paths[4] / "embeddings" / "c" / "0" / "0" / "0").write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match=r"slide 4.tif.tokens.zarr is damaged"):
        ProspectorHead(3, 0, "linear", refine=False).fit(graphs, small.table.labels)


# what tasks do to the processes that run them


def die_once(shared: str, number: int) -> int:
    """Kill this process, unless it was done before."""
    mark = Path(shared)
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_always(shared: None, number: int) -> int:
    if number == 3:
        os._exit(1)
    return number * number


def test_what_a_dead_worker_was_doing_is_done_by_another(client: Any, tmp_path: Path) -> None:
    workers = as_workers(client)
    assert workers is not None
    names = [f"square-{number:05d}" for number in range(11)]
    found = dict(workers.run(die_once, [(number,) for number in range(11)], names, str(tmp_path / "died")))
    assert (tmp_path / "died").exists()
    assert found == {number: number * number for number in range(11)}


def test_a_task_that_kills_every_worker_is_given_up_and_takes_no_other_with_it(tmp_path: Path) -> None:
    names = [f"square-{number:05d}" for number in range(11)]
    tasks = [(number,) for number in range(11)]
    with LocalProcesses(2, attempts=2) as workers:
        found = dict(workers.run(die_always, tasks, names, None, lambda number, why: why))
        assert "The process that worked on square-00003 died 2 times; most often memory" in str(found.pop(3))
        assert found == {number: number * number for number in range(11) if number != 3}
        with pytest.raises(WorkerLostError, match="square-00003 died 2 times"):
            list(workers.run(die_always, tasks, names, None))


def kill_one_worker(of: Callable[[], list[int]], when: Callable[[], bool]) -> threading.Thread:
    """Start a thread that kills a process once something has happened."""

    def watch() -> None:
        stop = time.monotonic() + 60
        while not when() and time.monotonic() < stop:
            time.sleep(0.002)
        os.kill(of()[0], signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def worker_pids(dask: Any) -> list[int]:
    return [int(process["pid"]) for process in dask.run(lambda: {"pid": os.getpid()}).values()]


def test_a_cohort_that_loses_a_worker_while_it_is_embedded_ends_as_if_nothing_had_happened(
    small: Small, dask: Any
) -> None:
    jobs, pids = small.jobs("killed"), worker_pids(dask)
    begun = lambda: len(list((small.folder / "killed").glob("*.tokens.zarr/zarr.json"))) >= 3  # noqa: E731
    killer = kill_one_worker(lambda: pids, begun)
    rows = list(embed_cohort(jobs, TEXTURE, client=dask, tissue=ALL))
    killer.join()
    assert sorted((row.slide, row.done, row.error) for row in rows) == [
        (f"slide {number}.tif", 15, None) for number in range(10)
    ]
    assert contents(small.folder / "killed") == contents(small.folder / "here")


def test_a_fit_that_loses_a_worker_gives_the_same_head(small: Small, dask: Any, tmp_path: Path) -> None:
    pids, seen = worker_pids(dask), []
    killer = kill_one_worker(lambda: pids, lambda: len(seen) > 5)
    head = ProspectorHead(3, 1, "fold-change", n_folds=2)
    head.fit(small.graphs(dask), small.table.labels, small.table.groups, lambda *step: seen.append(step))
    killer.join()
    assert saved(head, tmp_path / "there") == saved(small.head(), tmp_path / "here")


def wait_until_cancelled(shared: str, number: int) -> bool:
    """Go on until nobody wants the result, and leave a mark."""
    (Path(shared) / f"began {number}").touch()
    stop = time.monotonic() + 60
    while not is_cancelled():
        if time.monotonic() > stop:
            return False
        time.sleep(0.02)
    (Path(shared) / f"stopped {number}").touch()
    return True


def quick_then_long(shared: str, number: int) -> bool:
    return number == 0 or wait_until_cancelled(shared, number)


def test_tasks_stop_when_nobody_waits_any_more(client: Any, tmp_path: Path) -> None:
    workers = as_workers(client)
    assert workers is not None
    found = workers.run(quick_then_long, [(0,), (1,), (2,)], ["quick", "long-1", "long-2"], str(tmp_path))
    assert next(found) == (0, True)
    stop = time.monotonic() + 60
    while not list(tmp_path.glob("began *")) and time.monotonic() < stop:
        time.sleep(0.02)
    found.close()
    while len(list(tmp_path.glob("stopped *"))) < len(list(tmp_path.glob("began *"))) and time.monotonic() < stop:
        time.sleep(0.02)
    assert len(list(tmp_path.glob("stopped *"))) == len(list(tmp_path.glob("began *"))) > 0
    names = ["square-0", "square-1"]  # and they work on afterwards
    assert dict(workers.run(die_always, [(1,), (2,)], names, None)) == {0: 1, 1: 4}


def test_a_slide_that_somebody_else_writes_is_waited_for(
    small: Small, processes: LocalProcesses, tmp_path: Path
) -> None:
    from napari_prospector.tokens.gridfile import lock_of

    job = SlideJob(small.jobs("here")[0].slide, tmp_path / "slide.tokens.zarr")
    lock = lock_of(job.tokens)
    threading.Timer(2.5, lock.release).start()
    assert [row.error for row in embed_cohort([job], TEXTURE, client=processes, tissue=ALL)] == [None]


# what is looked at before work starts


def test_files_that_workers_do_not_see_are_refused_before_work_starts(
    small: Small, dask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workers = DaskWorkers(dask)
    workers.check([job.slide for job in small.jobs("here")], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*")), "the mark is gone"
    path = small.jobs("here")[0].slide
    for there, text in ((None, "does not see"), (7, "sees another file at")):
        # on another machine the same path may show nothing, or something else
        monkeypatch.setattr(cluster_module, "_sizes", OnAnotherMachine(os.getpid(), there))
        with pytest.raises(
            MissingFileError, match=rf"at tcp://.* {text} .*slide 0.tif. Keep slides and token grids in"
        ):
            workers.check([path])
        with pytest.raises(MissingFileError, match=rf"at tcp://.* {text} .*out. Keep slides and token grids in"):
            workers.check([], tmp_path / "out")


class OnAnotherMachine:
    """Sizes of files as another machine sees them."""

    def __init__(self, pid: int, there: int | None) -> None:
        self.pid, self.there = pid, there

    def __call__(self, paths: list[str]) -> list[int | None]:
        return [0 if os.getpid() == self.pid else self.there for _ in paths]


def test_another_version_of_the_package_is_refused(dask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "installed_version", lambda: "99.0")
    with pytest.raises(
        MismatchError, match=r"Every worker must have napari-prospector 99.0, .* at tcp://127.0.0.1:\d+"
    ):
        DaskWorkers(dask)


def test_a_worker_that_comes_later_with_another_version_is_refused_as_well(
    dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = DaskWorkers(dask)
    monkeypatch.setattr(cluster_module, "installed_version", lambda: "99.0")
    with pytest.raises(MismatchError, match="must have napari-prospector 99.0; one has"):
        list(workers.run(die_always, [(1,)], ["square"], None))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("tcp://127.0.0.1:1", "must answer at tcp://127.0.0.1:1 within 5 s; nobody does"),
        ("nonsense", "missing port number"),
        ("http://127.0.0.1:8786", "unknown address scheme 'http'"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_told_within_seconds(address: str, text: str) -> None:
    with pytest.raises(ClusterError, match=text), open_workers(address):
        pass


def test_a_scheduler_file_says_where_the_scheduler_is(dask: Any, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": dask.scheduler.address}))
    with open_workers(str(file)) as workers:
        assert isinstance(workers, DaskWorkers)
        assert dict(workers.run(die_always, [(5,)], ["square"], None)) == {0: 25}
    file.write_text("{}")
    with pytest.raises(FileFormatError, match=r"scheduler.json must be a scheduler file"), open_workers(str(file)):
        pass


def test_a_worker_is_no_scheduler(dask: Any) -> None:
    address = next(iter(dask.scheduler_info()["workers"]))
    with pytest.raises(ClusterError, match="a Worker does. Start one with `dask scheduler`"), open_workers(address):
        pass


def test_without_the_extra_a_scheduler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(MissingExtraError, match=r"pip install 'napari-prospector\[cluster\]'"),
        open_workers("tcp://a:1"),
    ):
        pass


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="client must be a distributed.Client, LocalProcesses or None; got str"):
        as_workers("tcp://127.0.0.1:8786")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="n_processes must be at least 1; got 0"):
        LocalProcesses(0)
    with pytest.raises(InvalidInputError, match="attempts must be at least 1; got 0"):
        LocalProcesses(2, attempts=0)


def test_tasks_that_somebody_cancels_are_told(small: Small) -> None:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0")
    client = Client(cluster, set_as_default=False)
    try:
        found = DaskWorkers(client).run(quick_then_long, [(0,), (1,)], ["quick", "long"], str(small.folder))
        assert next(found) == (0, True)
        for future in list(found.gi_frame.f_locals["unread"].values()):
            client.cancel(future, force=True)
        with pytest.raises(ClusterError, match="has dropped the task long"):
            next(found)
    finally:
        client.close()
        cluster.close()


def test_no_process_outlives_its_block() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with LocalProcesses(2) as workers:
        assert dict(workers.run(die_always, [(1,), (2,)], ["one", "two"], None)) == {0: 1, 1: 4}
        assert "OMP_NUM_THREADS" in os.environ or workers._limits["OMP_NUM_THREADS"]
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child for child in left if "resource_tracker" not in " ".join(child.cmdline())] == []


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is of other systems")
def test_processes_end_when_the_one_that_started_them_is_killed() -> None:
    code = (
        "import os, time\n"
        "from napari_prospector.study.workers import LocalProcesses\n"
        "if __name__ == '__main__':\n"
        "    workers = LocalProcesses(2)\n"
        "    for _ in workers.run(print, [('ready',)] * 2, ['a', 'b'], os.getpid()):\n"
        "        pass\n"
        "    print('children', *[child.pid for child in __import__('psutil').Process().children()], flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    line = next(line for line in parent.stdout if line.startswith("children"))
    children = [psutil.Process(int(word)) for word in line.split()[1:]]
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert (len(gone), alive) == (len(children), [])
    parent.stdout.close()
