"""The detectors of a run: which they are, where their weights lie, and whether they fit task and dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from icm_bench.dataset import Dataset
from icm_bench.detector import NO_DETECTOR, Detector, Task
from icm_bench.error import DatasetError, UsageError
from icm_bench.pipeline.job import DetectorChoice
from icm_bench.spec import Spec, resolve_detector

_WEIGHTS = "weights"
"""The option of a detector's spec that names the file of its weights, and is no part of its identity."""


@dataclass(frozen=True)
class Judge:
    """A frozen detector that scores codecs.

    Attributes:
        choice: The detector and its weights.
        version: Its version.
        published: Its published AP for the task on the whole of COCO val2017, where there is one.
        categories: The categories that it can name, by id.
    """

    choice: DetectorChoice
    version: str
    published: float | None = None
    categories: Mapping[int, str] = field(default_factory=dict)


def choose_detector(text: str, weights: Path | None = None) -> tuple[DetectorChoice, type[Detector]]:
    """Return the detector that a spec names, its options checked, and its class.

    The spec may name its weights as well, ``yolox:weights=FILE``; with neither, they are the published ones.

    Raises:
        UsageError: The detector, an option, an option's value or the file does not exist, or weights are named twice.
        DetectorError: An option follows from the weights, which cannot be read.
    """
    spec = Spec.parse(text)
    options = dict(spec.options)
    named = options.pop(_WEIGHTS, None)
    where = f"--detector-weights {weights}"
    if named is not None:
        if weights is not None:
            raise UsageError(f"'{text}' names weights as well", where=where, hint="leave one of them out")
        weights, where = Path(named).expanduser(), f"detector '{text}'"
    if weights is not None and not weights.is_file():
        raise UsageError("no such file", where=where)
    spec, cls = resolve_detector(str(Spec(spec.name, tuple(options.items()))), weights=weights)
    return DetectorChoice(spec, None if weights is None else weights.resolve()), cls


def choose_detectors(
    detector: str | Sequence[str],
    weights: Path | None,
    task: Task,
    dataset: Dataset,
    *,
    has_truth: bool = True,
) -> list[DetectorChoice]:
    """Return the detectors of a run, none for fidelity; ``weights`` are those of the one detector.

    ``has_truth`` says whether the dataset's annotations are what detectors are scored against.

    Raises:
        UsageError: A detector, an option or a file does not exist or does not fit.
        DatasetError: A detector is to be scored, and the dataset has no ground truth.
    """
    texts = [detector] if isinstance(detector, str) else list(detector)
    if task == "fidelity":
        _refuse_detector(",".join(texts), weights)
        return []
    if has_truth:
        _check_truth(dataset, task)
    if weights is not None and len(texts) > 1:
        raise UsageError(
            f"names the weights of one of {len(texts)} detectors",
            where=f"--detector-weights {weights}",
            hint=f"write them behind their detector: {texts[0]}:weights={weights}",
        )
    choices: list[DetectorChoice] = []
    for text in texts:
        choice, cls = choose_detector(text, weights)
        if any(choice.spec == other.spec for other in choices):
            raise UsageError(f"'{text}' names {choice.spec} again", where="--detector")
        _check_task(cls.tasks, task, choice.spec)
        if has_truth and cls.categories:
            _check_categories(dataset.categories, cls.categories, choice.spec, dataset.name)
        choices.append(choice)
    return choices


def _check_truth(dataset: Dataset, task: Task) -> None:
    if dataset.ground_truth is None:
        raise DatasetError(
            f"has no annotations to measure {task} on",
            where=f"dataset '{dataset.name}'",
            hint="give --annotations FILE in COCO format, or --truth pseudo",
        )
    if not dataset.n_objects:
        n_crowds = len(dataset.ground_truth["annotations"])
        why = f"its {n_crowds} annotations are crowds, which do not count" if n_crowds else "it has none"
        raise DatasetError(
            f"has no object to measure {task} on: {why}",
            where=f"dataset '{dataset.name}'",
            hint="annotate objects, take more images, or measure --task fidelity",
        )
    if task not in dataset.tasks:
        raise UsageError(
            f"has objects without a mask to measure {task} on",
            where=f"dataset '{dataset.name}'",
            hint=f"it can score {', '.join(dataset.tasks)}",
        )


def _refuse_detector(text: str, weights: Path | None) -> None:
    if text != NO_DETECTOR or weights is not None:
        option = "--detector" if text != NO_DETECTOR else "--detector-weights"
        raise UsageError(f"has no use for {option}", where="task 'fidelity'", hint="leave it out")


def _check_categories(wanted: Mapping[int, str], known: Mapping[int, str], spec: Spec, dataset: str) -> None:
    for identifier, name in wanted.items():
        if known.get(identifier) != name:
            raise UsageError(
                f"category {identifier} is '{name}' in dataset '{dataset}' and "
                f"'{known.get(identifier, 'absent')}' to the detector",
                where=f"detector '{spec}'",
                hint="give --category-map name, or a JSON file, where other ids or names mean the same; "
                "else choose a detector of these categories",
            )


def examined(
    choice: DetectorChoice, task: Task, dataset: Dataset, device: str, *, has_truth: bool = True
) -> Judge:
    """Return a detector with the version and the published accuracy of the variant that its options name.

    Raises:
        UsageError: That variant does not do the task, or has other categories than the dataset.
        DetectorError: The weights are missing, broken or of another detector.
    """
    detector = choice.create(device)
    _check_task(detector.tasks, task, choice.spec)
    if has_truth:
        _check_categories(dataset.categories, detector.categories, choice.spec, dataset.name)
    return Judge(choice, detector.version(), detector.published.get(task), dict(detector.categories))


def _check_task(tasks: Sequence[Task], task: Task, spec: Spec) -> None:
    if task not in tasks:
        raise UsageError(
            f"does not do {task}", where=f"detector '{spec}'", hint=f"it does {', '.join(tasks)}"
        )
