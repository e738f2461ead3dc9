"""Whole runs: real codecs and stores, the small detector that ships with the package."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from icm_bench.curves.result import find, load, save
from icm_bench.dataset import Dataset, open_dataset
from icm_bench.error import CodecError, DatasetError, IcmBenchError, ResultError, StoreError, UsageError
from icm_bench.pipeline import store
from icm_bench.pipeline.readback import load_results
from icm_bench.pipeline.runner import run
from icm_bench.pipeline.worker import process_pool
from icm_bench.testing import FakeCodec, FakeDetector
from tests.helpers.plugin import install
from tests.helpers.small_run import changed, curve_files, run_in

pytestmark = pytest.mark.usefixtures("plugins")

CODECS = ["fake", "jpeg:subsampling=444"]
LADDER = ["jpeg:subsampling=444=5,20,60"]


def measure(dataset: Dataset, folder: Path, **options: object) -> dict[str, Path]:
    settings = {"codecs": CODECS, "qualities": LADDER, "bootstrap": 50} | options
    summary = run_in(dataset, folder, **settings)
    return {result.codec: path for result, path in zip(summary.results, summary.paths, strict=True)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference")


@pytest.fixture
def uninterrupted(blobs: Dataset, reference: Path) -> Path:
    """A finished run, made once."""
    if not (reference / "results").exists():
        measure(blobs, reference)
    return reference


def test_the_figures_are_those_of_the_stored_bytes_and_of_the_reference_evaluator(
    blobs: Dataset, blob_files: tuple[Path, Path], uninterrupted: Path
) -> None:
    result = load(uninterrupted / "results" / "blobs" / "detection" / "fake" / "fake.json")
    codec, detector = FakeCodec(3), FakeDetector()
    streams = {record.id: codec.encode(record.read()) for record in blobs.images}
    index = result.qualities.index(3)
    assert result.results["bpp"][index] == pytest.approx(
        8 * sum(map(len, streams.values())) / blobs.n_pixels, rel=1e-9
    )
    mean = np.mean([8 * len(streams[r.id]) / (r.width * r.height) for r in blobs.images])
    assert result.results["bpp_mean"][index] == pytest.approx(mean, rel=1e-9)
    payload = sum(len(data) - codec.header_bytes(data) for data in streams.values())
    assert result.results["bpp_payload"][index] == pytest.approx(8 * payload / blobs.n_pixels, rel=1e-9)

    rows = [
        {"image_id": image_id, **found}
        for image_id, data in streams.items()
        for found in detector.predict(codec.decode(data))
    ]
    truth = COCO(str(blob_files[1]))
    evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    for place, key in enumerate(["map", "map50", "map75", "map_small", "map_medium"]):
        assert result.results[key][index] == pytest.approx(100 * evaluation.stats[place], abs=1e-7), key


def test_rate_and_accuracy_rise_along_the_ladder_up_to_the_uncompressed_accuracy(uninterrupted: Path) -> None:
    for result in find(uninterrupted / "results"):
        assert list(result.results["bpp"]) == sorted(result.results["bpp"])  # type: ignore[type-var]
        accuracy = result.results["map"]
        original = result.meta["uncompressed"]["map"]
        assert accuracy[0] < accuracy[-1] <= original + 5  # type: ignore[operator]
        assert original > 30
        for bounds, value in zip(result.meta["intervals"]["map"], accuracy, strict=True):
            assert bounds[0] <= value <= bounds[1]
        assert result.replicates is not None
        assert result.replicates.bpp.shape == (len(result.qualities), 50)
        assert np.mean(result.replicates.metrics["map"][-1]) == pytest.approx(accuracy[-1], abs=5)


def test_a_finished_run_measures_nothing_and_writes_nothing(blobs: Dataset, uninterrupted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}
    began = time.process_time()
    summary = run_in(blobs, uninterrupted, codecs=CODECS, qualities=LADDER, bootstrap=50)
    assert time.process_time() - began < 3
    assert (summary.n_encoded, summary.n_detected, summary.workers) == (0, 0, 0)
    assert before == {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_second_task_and_a_second_detector_encode_nothing(
    blobs: Dataset, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted / "runs", tmp_path / "runs")
    for detector, task, expected in (("fake", "segmentation", 0), ("fake:contrast=30", "detection", 20 * 9)):
        summary = run_in(blobs, tmp_path, codecs=CODECS, task=task, detector=detector, qualities=LADDER)
        assert (summary.n_encoded, summary.n_detected) == (0, expected)
    frame = load_results(tmp_path / "results")
    assert set(frame["detector"]) == {"fake", "fake:contrast=30"}
    assert set(frame["task"]) == {"segmentation", "detection"}
    assert len(frame) == 2 * 8


@pytest.mark.slow
def test_a_cheap_codec_has_its_curve_while_a_dear_one_is_still_measured(
    blobs: Dataset, tmp_path: Path, uninterrupted: Path
) -> None:
    there: dict[int, set[str]] = {}

    def look(done: int, *_: object) -> None:
        there[done] = set(curve_files(tmp_path))

    measure(blobs, tmp_path, progress=look)
    early = next(found for _, found in sorted(there.items()) if found)
    assert early < set(curve_files(uninterrupted))
    assert "jpeg+subsampling=444.json" in {Path(name).name for name in early}
    assert curve_files(tmp_path) == curve_files(uninterrupted)


@pytest.mark.slow
def test_any_executor_will_do(blobs: Dataset, uninterrupted: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        measure(blobs, tmp_path, executor=executor, workers=None)
    assert curve_files(tmp_path) == curve_files(uninterrupted)


def run_command(command: list[str], blobs: tuple[Path, Path], folder: Path, *, workers: int) -> list[str]:
    """Return the command line of the run that was not interrupted."""
    return [
        *command,
        *("run", "--task", "detection", "--codecs", ",".join(CODECS), "--qualities", LADDER[0]),
        *("--images", str(blobs[0]), "--annotations", str(blobs[1]), "--detector", "fake"),
        *("--bootstrap", "50", "--workers", str(workers)),
        *("--results", str(folder / "results"), "--runs", str(folder / "runs")),
    ]


@pytest.mark.slow
def test_a_run_killed_ten_times_at_random_moments_ends_with_the_same_bytes(
    blob_files: tuple[Path, Path], uninterrupted: Path, tmp_path: Path, command: list[str]
) -> None:
    arguments = run_command(command, blob_files, tmp_path, workers=2)
    draw = random.Random(11)
    killed = 0
    for _ in range(10):
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        # Counted in finished shards, so that a slow machine is not killed before it has begun.
        wanted = len(list((tmp_path / "runs").rglob("*.parquet"))) + draw.randint(0, 4)
        while process.poll() is None and len(list((tmp_path / "runs").rglob("*.parquet"))) < wanted:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        if process.poll() is None:
            killed += 1
        else:  # a quick machine was done before the blow: there must be something left to interrupt
            shutil.rmtree(tmp_path / "runs")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert killed >= 5
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    # What was half-written at a blow is left for a later run to sweep.
    found = {name: data for name, data in curve_files(tmp_path).items() if not name.endswith(".tmp")}
    assert found == curve_files(uninterrupted)


@pytest.mark.slow
def test_two_runs_into_one_store_at_once_both_end_with_the_same_bytes(
    blob_files: tuple[Path, Path], uninterrupted: Path, tmp_path: Path, command: list[str]
) -> None:
    arguments = run_command(command, blob_files, tmp_path, workers=1)
    processes = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert curve_files(tmp_path) == curve_files(uninterrupted)


def make_stale(path: Path) -> None:
    header = store.read_header(path)
    header["identity"]["codec_version"] = "fake 0"
    store.write(path, store.read(path), header)


def test_a_stale_store_is_refused_until_told_to_measure_again(
    blobs: Dataset, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted / "runs", tmp_path / "runs")
    make_stale(next((tmp_path / "runs" / "coded" / "blobs" / "fake" / "3").glob("*.parquet")))
    with pytest.raises(StoreError, match=r"codec_version was 'fake 0' and is 'fake 2.*give --fresh"):
        measure(blobs, tmp_path)
    measure(blobs, tmp_path, fresh=True)
    assert curve_files(tmp_path) == curve_files(uninterrupted)


@pytest.mark.slow
def test_a_codec_named_again_drops_all_that_its_former_version_left(
    blobs: Dataset, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted / "runs", tmp_path / "runs")
    for path in (tmp_path / "runs").rglob("fake/*/**/*.parquet"):
        make_stale(path)
    measure(blobs, tmp_path, again=["fake"])
    assert curve_files(tmp_path) == curve_files(uninterrupted)


def test_a_stored_bitstream_that_decodes_to_other_pixels_is_noticed(
    blobs: Dataset, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "predicted")
    path = next((tmp_path / "runs" / "coded" / "blobs" / "fake" / "3").glob("*.parquet"))
    table = store.read(path)
    digests = table["decoded_sha256"].to_pylist()
    digests[2] = "0" * 64
    index = table.column_names.index("decoded_sha256")
    store.write(path, table.set_column(index, "decoded_sha256", [digests]), store.read_header(path))
    with pytest.raises(StoreError, match=r"fake at 3, .*\.png: the stored bitstream no longer decodes"):
        measure(blobs, tmp_path)


def swap(folder: Path) -> None:
    first, second = folder / "00000.parquet", folder / "00001.parquet"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def alter(folder: Path) -> None:
    path = folder / "00001.parquet"
    table = pq.read_table(path)
    (name,) = {"n_bytes", "mse_rgb", "detect_s"} & set(table.column_names)
    values = table[name].to_pylist()
    values[2] = 2 * values[2]
    column = pa.array(values, table[name].type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path)


def truncate(folder: Path) -> None:
    path = folder / "00002.parquet"
    path.write_bytes(path.read_bytes()[:-50])


def double_a_row(folder: Path) -> None:
    path = folder / "00002.parquet"
    table = store.read(path)
    store.write(path, pa.concat_tables([table, table.slice(0, 1)]), store.read_header(path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["coded", "compared", "predicted"])
@pytest.mark.parametrize("damage", [swap, alter, truncate, double_a_row])
def test_a_damaged_shard_is_measured_again_with_a_line_that_says_so(
    blobs: Dataset,
    uninterrupted: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    damage: Callable[[Path], None],
) -> None:
    shutil.copytree(uninterrupted / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / kind / "blobs" / "fake" / "3"
    damage(folder / "fake" if kind == "predicted" else folder)
    measure(blobs, tmp_path, codecs=["fake"], qualities=())
    expected = curve_files(uninterrupted)
    assert curve_files(tmp_path) == {name: expected[name] for name in expected if "/fake." in name}
    assert "parquet is measured again: it " in caplog.text


@pytest.fixture
def liar(plugins: Path) -> Path:
    """A codec whose bytes follow a file, and whose version does not."""
    step = plugins / "step"
    step.write_text("8")
    (plugins / "liar.py").write_text(
        "from pathlib import Path\n"
        "from icm_bench.testing import FakeCodec\n"
        "class Liar(FakeCodec):\n"
        "    name = 'liar'\n"
        "    def __init__(self, quality, *, device='cpu'):\n"
        f"        super().__init__(quality, step=int(Path({str(step)!r}).read_text()))\n"
    )
    install(plugins, "codecs", liar="liar:Liar")
    return step


@pytest.mark.slow
def test_a_codec_that_changes_and_keeps_its_version_is_noticed_and_alone_measured_again(
    blobs: Dataset, liar: Path, tmp_path: Path
) -> None:
    some = blobs.limit(10)
    settings: dict[str, Any] = {"codecs": ["liar", "fake"], "qualities": ["liar=1,8", "fake=1,3,8"]}
    assert run_in(some, tmp_path, **settings).n_encoded == 50
    assert run_in(some, tmp_path, **settings, fresh=True).n_encoded == 0
    again = run_in(some, tmp_path, **settings, again=["fake"])
    assert (again.n_encoded, again.n_detected) == (30, 30)
    liar.write_text("20")
    with pytest.raises(StoreError, match=r"liar at 1 no longer makes the same bytes .*'fake 2.*give --fresh"):
        run_in(some, tmp_path, **settings)
    anew = run_in(some, tmp_path, **settings, fresh=True)
    assert (anew.n_encoded, anew.n_detected) == (20, 20)
    fresh = run_in(some, tmp_path / "other", **settings)
    for found, expected in zip(anew.results, fresh.results, strict=True):
        assert found.results == expected.results
    with pytest.raises(UsageError, match="--again: jpeg is not among the codecs"):
        run_in(some, tmp_path, **settings, again=["jpeg"])


def test_a_prediction_from_other_bitstreams_is_made_again(blobs: Dataset, tmp_path: Path) -> None:
    some = blobs.limit(3)
    measure(some, tmp_path, codecs=["fake"], qualities=[])
    path = next((tmp_path / "runs" / "coded" / some.name / "fake" / "3").glob("*.parquet"))
    header = store.read_header(path)
    store.write(path, store.read(path), {**header, "bitstreams": "others"})
    summary = run_in(some, tmp_path, codecs=["fake"], results=tmp_path / "other")
    assert (summary.n_encoded, summary.n_detected) == (0, 3)


def test_one_failing_image_fails_the_run_with_its_name_and_keeps_what_is_finished(
    blob_files: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(blob_files[0], tmp_path / "images")
    dataset = open_dataset("coco-format", images=folder, annotations=folder / "blobs.json")
    victim = dataset.images[-1].path
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(DatasetError, match=victim.name):
        measure(dataset, tmp_path)
    assert list((tmp_path / "runs").rglob("*.parquet"))
    assert not list((tmp_path / "runs").rglob("*.tmp"))
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_plug_in_that_raises_is_named_with_the_image(plugins: Path, blobs: Dataset, tmp_path: Path) -> None:
    (plugins / "clumsy.py").write_text(
        "from icm_bench.testing import FakeCodec\n"
        "class Clumsy(FakeCodec):\n"
        "    name = 'clumsy'\n"
        "    def decode(self, data): return super().decode(data)[1:]\n"
        "class Rude(FakeCodec):\n"
        "    name = 'rude'\n"
        "    def encode(self, image): raise ValueError('no\\nway')\n"
        "class Silent(FakeCodec):\n"
        "    name = 'silent'\n"
        "    def encode(self, image): return b''\n"
        "class Deadly(FakeCodec):\n"
        "    name = 'deadly'\n"
        "    def encode(self, image):\n"
        "        import os\n"
        "        os._exit(9)\n"
    )
    names = ("clumsy", "rude", "silent", "deadly")
    install(plugins, "codecs", **{name: f"clumsy:{name.title()}" for name in names})
    place = r" at 1, .*0001\.png: "
    for codec, error, message in (
        ("clumsy", CodecError, rf"clumsy{place}decode returned uint8 \(.*where uint8 .* was encoded"),
        ("rude", CodecError, rf"rude{place}raised ValueError: no way"),
        ("silent", CodecError, rf"silent{place}encode returned no bytes"),
        ("deadly", IcmBenchError, r"a worker process died .*; run again to continue"),
    ):
        with pytest.raises(error, match=message):
            measure(blobs, tmp_path, codecs=[codec], qualities=(), workers=2 if codec == "deadly" else 1)


def test_loading_a_codec_is_in_no_images_time(plugins: Path, blobs: Dataset, tmp_path: Path) -> None:
    (plugins / "heavy.py").write_text(
        "import time\n"
        "from icm_bench.testing import FakeCodec\n"
        "class Heavy(FakeCodec):\n"
        "    name = 'heavy'\n"
        "    loaded = False\n"
        "    def load(self): time.sleep(2); self.loaded = True\n"
        "    def encode(self, image):\n"
        "        assert self.loaded\n"
        "        return super().encode(image)\n"
    )
    install(plugins, "codecs", heavy="heavy:Heavy")
    paths = measure(blobs.limit(3), tmp_path, codecs=["heavy"], qualities=["heavy=8"])
    assert load(paths["heavy"]).timings["results"]["encode_s"][0] < 1


def test_annotations_that_roboflow_exports_are_measured(
    blob_files: tuple[Path, Path], tmp_path: Path
) -> None:
    file = shutil.copy(blob_files[1], tmp_path / "_annotations.coco.json")
    dataset = open_dataset("coco-format", images=blob_files[0], annotations=Path(file), limit=2)
    paths = measure(dataset, tmp_path, codecs=["fake"], qualities=["fake=1,8"], bootstrap=0)
    assert load(paths["fake"]).dataset == "_annotations.coco-2"


def test_names_that_no_result_file_may_hold_are_refused_before_anything_is_measured(
    blobs: Dataset, tmp_path: Path, plugins: Path
) -> None:
    with pytest.raises(UsageError, match="'my set': is not a name of letters.*give --name"):
        measure(replace(blobs, name="my set"), tmp_path, codecs=["fake"], qualities=[], bootstrap=0)
    (plugins / "filed.py").write_text(
        "from icm_bench.testing import FakeCodec\n"
        "class Filed(FakeCodec):\n"
        "    name = 'filed'\n"
        "    def __init__(self, quality, *, device='cpu', file=''):\n"
        "        super().__init__(quality)\n"
    )
    install(plugins, "codecs", filed="filed:Filed")
    with pytest.raises(UsageError, match="holds characters that cannot be printed"):
        measure(blobs, tmp_path, codecs=["filed:file=a\x1b[2Jb"], qualities=[], bootstrap=0)
    assert not (tmp_path / "runs").exists()


def test_curves_of_another_dataset_of_the_same_name_are_not_joined(
    blobs: Dataset, blob_files: tuple[Path, Path], tmp_path: Path
) -> None:
    measure(blobs, tmp_path, codecs=["fake"], qualities=["fake=1,8"], bootstrap=0)
    other = changed(blob_files[0], tmp_path / "changed")
    before = curve_files(tmp_path)
    for codec in ("png", "fake"):
        said = "was measured with another dataset of this name.*--name"
        with pytest.raises(ResultError, match=said) as caught:
            run_in(other, tmp_path, codecs=[codec], runs=tmp_path / "other-runs")
        assert blobs.fingerprint in str(caught.value)
        assert other.fingerprint in str(caught.value)
    assert curve_files(tmp_path) == before


def test_an_imported_curve_is_not_replaced_by_a_measured_one(blobs: Dataset, tmp_path: Path) -> None:
    (path,) = measure(blobs, tmp_path, codecs=["fake"], qualities=["fake=1,8"], bootstrap=0).values()
    found = load(path)
    save(replace(found, meta={**found.meta, "imported": {"file": "paper.csv", "called": "fake"}}), path, None)
    with pytest.raises(ResultError, match=r"was imported from paper\.csv.*--codec"):
        measure(blobs, tmp_path, codecs=["fake"], qualities=["fake=1,8"], bootstrap=0)


@pytest.mark.slow
def test_a_run_puts_right_what_differs_from_its_stores(
    blobs: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"codecs": ["fake"], "qualities": ["fake=1,8"], "bootstrap": 20}
    (path,) = measure(blobs, tmp_path, **options).values()
    before = curve_files(tmp_path)
    resamples = path.with_name("fake.resamples.parquet")
    text = path.read_text()
    content = json.loads(text)
    content["results"]["map"][0] += 1
    changed = "was changed after it was written: its content does not match its digest; it is written anew"
    for damaged, data, said in (
        (path, json.dumps(content).encode(), changed),
        (path, text.replace('"numpy": "', '"numpy": "0').encode(), changed),  # a text, and no number
        (path, text.replace("\n ", "\n  ").encode(), ""),  # the same content
        (path, b"{", "it is written anew"),
        (resamples, b"PAR1", f"{resamples.name} is not the file that was written with the curve"),
    ):
        assert damaged.read_bytes() != data
        damaged.write_bytes(data)
        caplog.clear()
        measure(blobs, tmp_path, **options)
        assert said in caplog.text
        assert curve_files(tmp_path) == before


def test_a_run_without_replicates_removes_those_of_an_earlier_run(blobs: Dataset, tmp_path: Path) -> None:
    options = {"codecs": ["fake"], "qualities": ["fake=1,8"]}
    (path,) = measure(blobs, tmp_path, bootstrap=20, **options).values()
    assert load(path).replicates is not None
    leftover = path.with_name(".fake.json.1-a.tmp")  # of a run that was killed long ago
    leftover.write_text("{")
    os.utime(leftover, (0, 0))
    measure(blobs, tmp_path, bootstrap=0, **options)
    assert not leftover.exists()
    assert not path.with_name("fake.resamples.parquet").exists()
    assert load(path).warnings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codecs": ["jepg"]}, "unknown codec 'jepg'; did you mean 'jpeg'"),
        (
            {"codecs": ["fake", "fake"], "qualities": ["jpeg=1"]},
            "--qualities: 'jpeg' is not among the codecs",
        ),
        (
            {"codecs": ["fake"], "qualities": ["fake=99"]},
            "fake quality: 99 is not a whole number from 1 to 8",
        ),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_measured(
    blobs: Dataset, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        measure(blobs, tmp_path, **change)
    assert not list(tmp_path.glob("runs/**/*.parquet"))


def test_a_detector_of_other_categories_is_refused(blobs: Dataset, tmp_path: Path) -> None:
    said = "category 1 is 'red' in dataset 'blobs' and 'person' to the detector"
    with pytest.raises(UsageError, match=said):
        run_in(blobs, tmp_path, codecs=["png"], detector="fasterrcnn_resnet50_fpn")


def test_images_without_annotations_cannot_be_scored(blob_files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(blob_files[0], tmp_path / "plain")
    (folder / "blobs.json").unlink()
    with pytest.raises(DatasetError, match="has no annotations to measure detection on; give --annotations"):
        run(open_dataset("folder", images=folder), task="detection", codecs=["png"], detector="fake")


def _threads_told_at_start() -> set[str]:
    environment = Path("/proc/self/environ").read_bytes().split(b"\0")
    return {entry.decode() for entry in environment if b"_NUM_THREADS=" in entry}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process shows what it was started with on Linux alone")
def test_a_worker_is_told_of_one_thread_before_it_loads_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with process_pool(1) as pool:
        told = pool.submit(_threads_told_at_start).result(timeout=60)
    assert told >= {"OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1"}
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_worker_keeps_the_memory_that_arrays_return() -> None:
    program = """
import resource
import numpy as np
from icm_bench.pipeline import worker
worker.start({}, None)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    _ = [np.full(750_000, 1.5) for _ in range(20)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = map(int, ran.stdout.split())
    assert second < first / 10
