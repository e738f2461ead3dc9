"""Every command and example that the documentation prints is run here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from icm_bench.dataset import VAL2017_ANNOTATIONS, VAL2017_IMAGES
from icm_bench.datasets.coco_category import CATEGORIES
from icm_bench.testing import photograph
from tests.helpers.warm import call

pytestmark = pytest.mark.usefixtures("one_core")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return what a page tells its reader to type, in blocks and in running text, comments left out."""
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    spans = re.findall(
        r"`((?:icm-bench|make|pip|python -m) [^`]+)`",
        re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE),
    )
    return [line for line in [*lines, *spans] if line.strip()]


PAGES = {
    page: commands((ROOT / page).read_text(encoding="utf-8"))
    for page in ("README.md", "docs/coco.md", "docs/fidelity.md", "docs/training.md")
}
COMMANDS = list(dict.fromkeys(command for page in PAGES.values() for command in page))
LADDERS = {
    "hyperprior": ("1", "4"),
    "icm": ("1", "4"),
    "jpeg": ("5", "20"),
    "jpeg2000": ("0.06", "0.25"),
    "tucodec": ("0.1", "0.25"),
    "vvc": ("47", "42"),
}
"""Rate points of each codec, which are as good as all to tell whether a line runs."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with its committed results, in which the commands run one after the other."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "results", folder / "results", ignore=shutil.ignore_patterns("coco-*"))
    for words in (["init", "-q", "-b", "main"], ["add", "-A", "results"], ["commit", "-q", "-m", "Results"]):
        identity = ["-c", "user.name=reader", "-c", "user.email=reader@example.org"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True)
    return folder


def coco(folder: Path) -> None:
    """Lay out a stand-in of val2017 of its full count: pictures of one pixel, but for two that show something."""
    images = folder / "val2017"
    images.mkdir(parents=True)
    (folder / "annotations").mkdir()
    Pillow.new("RGB", (1, 1)).save(images / "pixel.png")
    pixel = (images / "pixel.png").read_bytes()
    rows = []
    for identifier in range(1, VAL2017_IMAGES + 1):
        (images / f"{identifier:012d}.jpg").write_bytes(pixel)
        rows.append({"id": identifier, "file_name": f"{identifier:012d}.jpg", "width": 1, "height": 1})
    (images / "pixel.png").unlink()
    annotations = [
        {
            "id": identifier,
            "image_id": 1 + identifier % VAL2017_IMAGES,
            "category_id": 1,
            "bbox": [0, 0, 1, 1],
            "area": 1,
            "iscrowd": 0,
            "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]],
        }
        for identifier in range(1, VAL2017_ANNOTATIONS + 1)
    ]
    categories = [{"id": identifier, "name": name} for identifier, name in CATEGORIES.items()]
    content = {"images": rows, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))


def scenes(folder: Path) -> None:
    """Lay out one scene as the first hundred, which take a minute to draw."""
    from icm_bench.datasets.scenes.scene import draw_scene

    scene = draw_scene((1, 0))
    shard = folder / "1-0000"
    shard.mkdir(parents=True, exist_ok=True)
    np.save(shard / "images.npy", scene.image[None])
    np.save(shard / "instances.npy", scene.instances[None])
    np.save(
        shard / "categories.npy",
        np.array([[*scene.categories, *[0] * (15 - len(scene.categories))]], np.uint8),
    )


def random_weights(folder: Path, name: str) -> Path:
    """Write a detector of torchvision's with random weights, since the published ones need a network."""
    import torch
    from torchvision.models import detection

    path = folder / f"{name}.pth"
    if not path.exists():
        torch.manual_seed(1)
        torch.save(getattr(detection, name)(weights=None, weights_backbone=None).state_dict(), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("icm-bench")])
def test_each_command_runs_as_printed(line: str, here: Path, shared_data: Callable[[str], Path]) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    if arguments[:2] == ["data", "coco"]:
        coco(here / "data" / "coco")
    if "kodak" in arguments:
        # No stand-in will do: the dataset knows the checksums of its files.
        shutil.copytree(shared_data("kodak"), here / "data" / "kodak", dirs_exist_ok=True)
    # Detectors of photographs take seconds an image.
    n_images, n_points = (1, 1) if "coco" in arguments else (2, 2)
    if arguments[0] == "run":
        for codec in arguments[arguments.index("--codecs") + 1].split(","):
            arguments += ["--qualities", f"{codec}={','.join(LADDERS[codec][:n_points])}"]
        arguments += ["--limit", str(n_images), "--bootstrap", "10"]
    if "coco" in arguments and arguments[0] == "run":
        name = "maskrcnn_resnet50_fpn" if "segmentation" in arguments else "fasterrcnn_resnet50_fpn"
        arguments[arguments.index("cuda")] = "cpu"
        arguments += ["--detector-weights", str(random_weights(here, name))]
    if "training/scenes" in arguments:
        scenes(here / "training" / "scenes")
    if arguments[:2] == ["data", "scenes"]:
        arguments += ["--count", "100"]
    if arguments[0] == "train":
        for name in ("photos", "train2017"):
            (here / name).mkdir(exist_ok=True)
            for seed in range(3):
                Pillow.fromarray(photograph(200, 160, seed)).save(here / name / f"{seed}.png")
        start = here / arguments[arguments.index("--start") + 1] if "--start" in arguments else here
        if start.suffix:  # what the line before would have left after its hours
            start.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "codecs" / "icm_codecs" / "weights" / "icm-mse.safetensors", start)
        arguments += ["--max-steps", "1", "--device", "cpu"]
    output = call(here, arguments, {"ICM_BENCH_CACHE": str(here / "cache")})
    if arguments[0] == "run":
        dataset = "kodak" if "kodak" in arguments else "scenes"
        shown = f"fidelity on {dataset}-2: 2 images" if "fidelity" in arguments else "| uncompressed"
        assert shown in output
        plot = here / output.rpartition("plot: ")[2].strip()
        assert plot.is_file()


def test_what_is_not_ours_to_run_names_what_exists() -> None:
    others = {line for line in COMMANDS if not line.startswith("icm-bench")}
    assert {"pip install .", "make demo"} <= others
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in others - {"pip install ."}:
        made = re.fullmatch(r"make ([a-z]+)", line)
        installed = re.fullmatch(r"pip install '\.\[([a-z]+)\]'", line)
        module = re.fullmatch(r"python -m ([a-z_.]+) NAME", line)
        assert (
            (made and made[1] in targets)
            or (installed and installed[1] in extras)
            or (module and find_spec(module[1]) is not None)
        ), line


def test_the_demo_is_the_main_command() -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (command,) = [line for line in planned.splitlines() if "icm-bench run" in line]
    assert command.partition("icm-bench")[2] in {line.removeprefix("icm-bench") for line in COMMANDS}


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = blocks(README, "python")
    script = tmp_path / "example.py"
    body = "\n".join("    " + line for line in example.splitlines())
    script.write_text(f"if __name__ == '__main__':\n{body}\n")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Estimate\(-?[\d.]+ \[.*overlap", done.stdout)
    assert (tmp_path / "ap50.png").is_file()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "results/README.md",
        *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    ],
)
def test_every_link_within_the_repository_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    inside = [link for link in links if not link.startswith(("http", "../../actions/"))]
    assert [link for link in inside if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_readme_stays_short() -> None:
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", README, flags=re.DOTALL)
    assert len(README.splitlines()) <= 130
    assert len(text.split()) <= 950
