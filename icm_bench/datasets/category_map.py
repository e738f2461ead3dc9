"""A dataset's categories under the ids that a detector gives them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from icm_bench.dataset import Dataset
from icm_bench.error import DatasetError, UsageError, system_errors, unknown

BY_NAME = "name"
"""In place of a file: categories are the detector's of the same names."""

_log = logging.getLogger(__name__)


def map_categories(dataset: Dataset, source: str, known: Mapping[int, str]) -> Dataset:
    """Return a dataset whose objects bear a detector's category ids and names; what has none there is left out.

    A warning says what is left out. The fingerprint is another one.

    Args:
        dataset: Images with ground truth.
        source: ``name`` to take equal names for one category, capitals, ``_`` and ``-`` aside; or a JSON file, an
            object of the dataset's ids or names with the detector's ids or names.
        known: The detector's categories, name by id.

    Raises:
        UsageError: The dataset has no ground truth, the file names a category that one of the two lacks, or nothing
            is left.
        DatasetError: The file cannot be read, or is not such an object.
    """
    truth = dataset.ground_truth
    if truth is None:
        raise UsageError(
            "has no categories", where=f"dataset '{dataset.name}'", hint="leave out --category-map"
        )
    own = dataset.categories
    meant = _by_name(own, known) if source == BY_NAME else _by_file(Path(source), own, known)
    left_out = [name for identifier, name in own.items() if identifier not in meant]
    if not meant:
        raise UsageError(
            f"no category of the detector is called {' or '.join(repr(name) for name in own.values())}",
            where=f"dataset '{dataset.name}'",
            hint="give --category-map FILE, a JSON object of its categories with the detector's",
        )
    if left_out:
        _log.warning("%s: objects of these categories are left out: %s", dataset.name, ", ".join(left_out))
    mapped = {
        **truth,
        "annotations": [
            {**row, "category_id": meant[row["category_id"]]}
            for row in truth["annotations"]
            if row["category_id"] in meant
        ],
        "categories": [
            {"id": identifier, "name": known[identifier]} for identifier in sorted({*meant.values()})
        ],
    }
    found = Dataset.measure(dataset.name, dataset.images, mapped, dataset.evaluation)
    return replace(found, provider=dataset.provider)


def _by_name(own: Mapping[int, str], known: Mapping[int, str]) -> dict[int, int]:
    by_name = {_plain(name): identifier for identifier, name in known.items()}
    return {identifier: by_name[_plain(name)] for identifier, name in own.items() if _plain(name) in by_name}


def _by_file(path: Path, own: Mapping[int, str], known: Mapping[int, str]) -> dict[int, int]:
    with system_errors(DatasetError, "the category map cannot be read", where=path):
        data = path.read_bytes()
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"the category map is not JSON ({error})", where=path, hint="correct it"
        ) from error
    if not isinstance(content, dict):
        raise DatasetError(
            "the category map is not a JSON object", where=path, hint='write {"their name": "our name", ...}'
        )
    return {
        _id(key, own, "category of the dataset"): _id(value, known, "category of the detector")
        for key, value in content.items()
    }


def _id(given: Any, categories: Mapping[int, str], kind: str) -> int:
    text = str(given).strip()
    if text.isdecimal() and int(text) in categories:
        return int(text)
    found = [identifier for identifier, name in categories.items() if _plain(name) == _plain(text)]
    if not found:
        raise unknown(kind, text, list(categories.values()))
    return found[0]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
