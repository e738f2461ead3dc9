"""Codecs and detectors that are not installed: classes and objects, in this process and in others."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from icm_bench import registry
from icm_bench.dataset import Dataset
from icm_bench.error import StoreError, UsageError
from icm_bench.pipeline.given import codec_specs, detector_specs, metric_names
from icm_bench.pipeline.readback import decoded
from icm_bench.pipeline.runner import Summary
from icm_bench.testing import FakeCodec, FakeDetector
from tests.helpers.small_run import run_in


@pytest.fixture(autouse=True)
def _nothing_stays_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_given", {})


class Coarse(FakeCodec):
    name = "coarse"
    qualities = (1, 4)


class Bound:
    """A codec whose object is one operating point, made by hand."""

    name = "bound"

    def __init__(self, quality: int) -> None:
        self.quality = quality
        self._codec = FakeCodec(quality)
        self.encode, self.decode = self._codec.encode, self._codec.decode

    def version(self) -> str:
        return "bound 1"


class Sharp(FakeDetector):
    name = "sharp"


def measure(dataset: Dataset, folder: Path, codecs: Any, detector: Any = Sharp, **options: Any) -> Summary:
    return run_in(
        dataset.limit(4), folder, codecs=codecs, detector=detector, bootstrap=20, **{"workers": 1, **options}
    )


def test_a_class_that_is_not_installed_is_measured_as_an_installed_one(
    blobs: Dataset, plugins: Path, tmp_path: Path
) -> None:
    ours, theirs, finer = measure(
        blobs, tmp_path, [Coarse, "fake", "coarse:step=4"], qualities={"fake": (1, 4)}
    ).results
    assert (ours.codec, ours.detector) == ("coarse", "sharp")
    assert ours.results == theirs.results
    assert finer.results["bpp"] != ours.results["bpp"]
    assert decoded(ours, 4, blobs.limit(4).images[0].id, runs=tmp_path / "runs").dtype == "uint8"


def test_objects_are_the_operating_points_of_one_codec(blobs: Dataset, tmp_path: Path) -> None:
    (points,) = measure(blobs, tmp_path, [Bound(1), Bound(4)], Sharp(contrast=60)).results
    (ladder,) = measure(blobs, tmp_path / "class", [Coarse], Sharp(contrast=60)).results
    assert points.qualities == [1, 4]
    assert [points.results[key] for key in ("bpp", "map")] == [ladder.results[key] for key in ("bpp", "map")]


def test_threads_of_this_process_need_nothing_sent(blobs: Dataset, tmp_path: Path) -> None:
    class Local(Coarse):
        name = "local"
        lock = ThreadPoolExecutor(1)  # nothing that could be sent

    with ThreadPoolExecutor(1) as executor:
        (result,) = measure(blobs, tmp_path, [Local], executor=executor).results
    assert result.codec == "local"


def test_a_class_that_is_defined_anew_and_makes_other_bytes_is_noticed(
    blobs: Dataset, tmp_path: Path
) -> None:
    measure(blobs, tmp_path, [Coarse])

    class Other(FakeCodec):
        name = "coarse"
        qualities = (1, 4)

        def __init__(self, quality: float, *, device: str = "cpu") -> None:
            super().__init__(quality, device=device, step=3)

    with pytest.raises(StoreError, match="no longer makes the same bytes"):
        measure(blobs, tmp_path, [Other])
    (result,) = measure(blobs, tmp_path, [Other], fresh=True).results
    assert result.codec == "coarse"


def test_other_processes_get_the_classes_or_the_user_a_clear_error(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(
        UsageError, match=r"codec 'coarse', detector 'sharp': .*pip install cloudpickle, give workers=1"
    ):
        measure(blobs, tmp_path, [Coarse], workers=2)


@pytest.mark.slow
def test_workers_measure_what_a_script_defines(blob_files: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import icm_bench
from icm_bench.testing import FakeCodec, FakeDetector

class Mine(FakeCodec):
    name, qualities = "mine", (1, 3)

class Eye(FakeDetector):
    name = "eye"

if __name__ == "__main__":
    from pathlib import Path
    images, annotations = Path({str(blob_files[0])!r}), Path({str(blob_files[1])!r})
    dataset = icm_bench.open_dataset("coco-format", images=images, annotations=annotations)
    print(icm_bench.run(dataset, task="detection", codecs=[Mine], detector=Eye, workers=2, device="cpu"))
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Summary(mine: encoded 40 and looked at 60 images in ")


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (object(), r"codec an object of object: has no name"),
        (
            type("Half", (), {"name": "half", "encode": 1, "decode": 1, "version": 1}),
            "codec Half: has no qualities",
        ),
        (Coarse(4), "codec an object of Coarse: has no quality"),
        (
            type("Jpeg", (FakeCodec,), {"name": "jpeg"}),
            "codec 'jpeg': icm_baselines.jpeg:Jpeg is installed under",
        ),
    ],
    ids=["no codec", "no ladder", "no quality", "an installed name"],
)
def test_what_is_no_codec_is_refused_with_what_it_lacks(thing: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        codec_specs([thing])


def test_what_is_no_detector_is_refused() -> None:
    with pytest.raises(UsageError, match="detector FakeCodec: has no tasks; see docs/python.md"):
        detector_specs(cast(Any, FakeCodec))


def test_an_installed_class_keeps_its_name(plugins: Path) -> None:
    assert codec_specs([FakeCodec, "jpeg"]) == ["fake", "jpeg"]
    assert registry.provider("codec", "fake") == "fakes"
    codec_specs([cast(Any, Coarse)])
    assert registry.provider("codec", "coarse") == "this process"
    assert "coarse" in registry.names("codec")


class Brightness:
    name, label, unit, digits = "brightness", "Brightness", "levels", 1

    def __init__(self, channel: int = 0) -> None:
        self.channel = channel

    def measure(self, outcome: Any) -> float:
        return float(outcome.decoded[..., self.channel].mean())

    def version(self) -> str:
        return f"brightness of {self.channel}"


def test_a_metric_that_is_not_installed_becomes_a_column_with_an_interval(
    blobs: Dataset, tmp_path: Path
) -> None:
    (red,) = measure(blobs, tmp_path, [Coarse], metrics=[Brightness]).results
    (blue,) = measure(blobs, tmp_path, [Coarse], metrics=[Brightness(2)]).results
    images = blobs.limit(4).images
    for result, channel in ((red, 0), (blue, 2)):
        means = [
            decoded(result, 4, record.id, runs=tmp_path / "runs")[..., channel].mean() for record in images
        ]
        assert result.results["brightness"][1] == pytest.approx(np.mean(means))
        low, high = result.meta["intervals"]["brightness"][1]
        assert low <= result.results["brightness"][1] <= high


def test_what_is_no_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="metric FakeCodec: has no label"):
        metric_names([cast(Any, FakeCodec)])
