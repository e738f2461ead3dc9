"""Engines: whichever runs the stages, the results are the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from icm_bench import limit
from icm_bench.dataset import Dataset
from icm_bench.error import UsageError
from icm_bench.pipeline import engine, stage
from icm_bench.pipeline.engine import Device, Pools, resolve_device
from icm_bench.pipeline.job import DetectorChoice, Job
from icm_bench.pipeline.worker import process_pool
from icm_bench.spec import Spec
from tests.helpers.small_run import curve_files, measure, run_in

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference")


@pytest.mark.slow
def test_processes_predict_workers_and_batches_change_no_byte(
    blobs: Dataset, in_one_process: Path, tmp_path: Path
) -> None:
    assert measure(blobs, in_one_process, workers=1, device="cpu").workers == 1
    for name, options, workers in (
        ("pool", {"workers": 2}, 2),
        ("gpus", {"workers": 1, "gpus": 2, "batch": 3}, 3),
    ):
        summary = measure(blobs, tmp_path / name, device="cpu", **options)
        assert (summary.workers, summary.n_encoded, summary.n_detected) == (workers, 140, 160)
        assert curve_files(tmp_path / name) == curve_files(in_one_process)
        assert not list((tmp_path / name).rglob("*.images"))


@pytest.mark.slow
def test_a_limit_of_pixels_goes_with_the_jobs(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(limit.VARIABLE, "1000000")
    with process_pool(1, environment={limit.VARIABLE: "10"}) as pool:
        assert measure(blobs.limit(3), tmp_path, executor=pool).n_encoded == 21


def jobs(dataset: Dataset, n: int) -> list[Job]:
    detector = DetectorChoice(Spec.parse("fake"))
    return [Job(dataset.images[:8], Spec.parse("fake"), 3, None, False, (detector,)) for _ in range(n)]


def test_decoded_images_that_wait_are_bounded_and_leave_nothing(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = jobs(blobs, 20)
    monkeypatch.setattr(engine, "_WAITING_BYTES", 3 * todo[0].n_bytes)
    waiting = []
    folder = tmp_path / "waiting"
    folder.mkdir()
    with ThreadPoolExecutor(2) as coders, ThreadPoolExecutor(1) as predictor:
        for _ in Pools(coders, 2, [predictor], folder).run(todo):
            waiting.append(len(list(folder.iterdir())))
    assert len(waiting) == 40
    assert 1 <= max(waiting) <= 3
    assert not list(folder.iterdir())


class Recorder(ThreadPoolExecutor):
    """Notes which jobs it was given."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
        self.given = [*getattr(self, "given", []), int(arguments[1].stem)]
        return super().submit(function, *arguments, **named)


def test_coders_turn_to_dear_jobs_once_enough_cheap_ones_wait_for_a_predict_worker(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = jobs(blobs, 9)
    monkeypatch.setattr(engine, "_WAITING_BYTES", 4 * todo[0].n_bytes)
    with Recorder(4) as coders, ThreadPoolExecutor(1) as predictor:
        steps = list(Pools(coders, 4, [predictor], tmp_path).run(todo))
    assert coders.given[:4] == [0, 1, 8, 7]
    assert sorted(index for index, _, is_done in steps if is_done) == list(range(9))


def test_a_shard_larger_than_all_that_may_wait_is_measured_nevertheless(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_WAITING_BYTES", 1)
    with ThreadPoolExecutor(2) as coders, ThreadPoolExecutor(1) as predictor:
        steps = list(Pools(coders, 2, [predictor], tmp_path).run(jobs(blobs, 3)))
    assert sorted(index for index, _, is_done in steps if is_done) == [0, 1, 2]


def test_both_stages_apart_find_what_they_find_together(blobs: Dataset) -> None:
    (job,) = jobs(blobs, 1)
    coded, images = stage.code(job)
    together, predicted = stage.measure(job), stage.predict(job, images).predicted
    assert None not in (together.coded, coded.coded)
    assert together.predicted.keys() == predicted.keys() == {Spec.parse("fake")}
    timeless = ["image_id", "predictions"]
    for spec, table in predicted.items():
        assert together.predicted[spec].select(timeless).equals(table.select(timeless))
    assert together.compared == coded.compared
    timed = ["encode_s", "decode_s"]
    assert together.coded.drop(timed).equals(coded.coded.drop(timed))  # type: ignore[union-attr]


def test_a_device_is_found_by_its_number_and_shown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(engine, "_n_gpus", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == Device("cuda", ("0", "1"))
    assert resolve_device("cuda:1") == Device("cuda", ("1",))
    assert resolve_device("cuda", 1) == Device("cuda", ("0",))
    assert resolve_device("cpu") == Device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert resolve_device("cuda:1") == Device("cuda", ("7",))
    for wrong in ("cuda:2", "gpu", "cuda:x", "cpu:1"):
        with pytest.raises(UsageError, match=f"'{wrong}'"):
            resolve_device(wrong)
    monkeypatch.setattr(engine, "_n_gpus", lambda: 0)
    assert resolve_device("auto") == Device("cpu")
    with pytest.raises(UsageError, match="torch finds no GPU for 'cuda'.*--device cpu"):
        resolve_device("cuda")


@pytest.mark.slow
def test_a_run_without_gpu_work_starts_no_predict_worker(blobs: Dataset, tmp_path: Path) -> None:
    summary = run_in(blobs.limit(3), tmp_path, codecs=["fake"], task="fidelity", workers=2, gpus=1)
    assert summary.workers == 2


SCRIPT = """
from pathlib import Path
import icm_bench
dataset = icm_bench.open_dataset("coco-format", images=Path(r"{images}"), annotations=Path(r"{annotations}"), limit=2)
{guard}icm_bench.run(dataset, task="detection", codecs=["fake"], qualities=["fake=1,8"], detector="fake",
    bootstrap=0, workers={workers}, results=r"{folder}/results", runs=r"{folder}/runs")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "guard", "works"),
    [(1, "", True), (2, "", False), (2, "if __name__ == '__main__': ", True)],
)
def test_a_script_without_a_main_guard_runs_in_process_or_is_told_what_to_write(
    blob_files: tuple[Path, Path], tmp_path: Path, workers: int, guard: str, works: bool
) -> None:
    images, annotations = blob_files
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(images=images, annotations=annotations, folder=tmp_path, workers=workers, guard=guard)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode == 0) == works, done.stderr
    if not works:
        assert "if __name__ == '__main__': (or give workers=1)" in done.stderr.splitlines()[-1]


def test_an_error_ends_also_the_processes_that_a_pool_started_later() -> None:
    with pytest.raises(KeyboardInterrupt), process_pool(2) as pool:
        pool.submit(os.getpid).result(timeout=60)
        for _ in range(4):
            pool.submit(time.sleep, 60)
        assert len(pool._processes) == 2
        begin = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 20


def children_of(pid: int) -> set[int]:
    """Return all processes below one, in whatever session."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {pid}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "ignored", "workers", "status", "message"),
    [
        (signal.SIGINT, False, "2", 130, "icm-bench: interrupted; what is finished is kept"),
        (signal.SIGINT, False, "1", 130, "icm-bench: interrupted; what is finished is kept"),
        (signal.SIGTERM, True, "2", 143, "icm-bench: ended by SIGTERM; what is finished is kept"),
        (signal.SIGKILL, False, "2", -9, ""),
    ],
)
def test_a_run_that_is_stopped_says_so_and_leaves_no_process(
    blob_files: tuple[Path, Path],
    tmp_path: Path,
    command: list[str],
    number: signal.Signals,
    ignored: bool,
    workers: str,
    status: int,
    message: str,
) -> None:
    images, annotations = blob_files
    arguments = ["run", "--codecs", "fake:step=3,vvc:preset=slow", "--detector", "fake", "--workers", workers]
    arguments += ["--images", str(images), "--annotations", str(annotations)]
    arguments += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    ignore = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignored else []
    process = subprocess.Popen(
        [*ignore, *command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("coded/**/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    started = children_of(process.pid)
    # To the foreground's whole group, as a terminal does.
    os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == status
    assert message in output.splitlines()[-1]
    assert "Traceback" not in output
    deadline = time.monotonic() + 10
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(started)
    assert not list(tmp_path.rglob("*.tmp")) or number == signal.SIGKILL


def alive(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
    return found
