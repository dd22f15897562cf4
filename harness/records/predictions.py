"""The test predictions of a record, and what they are scored against.

Each line of predictions.jsonl is one test item: {"domain", "key", "prediction", "reference", "group"}. Lines that are
older than references have the first three alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

from harness.disk import parse_lines
from harness.errors import TrialError, UserError
from harness.metrics import Answer
from harness.records.packed import PREDICTIONS_FILE
from harness.records.trial_folder import TrialFolder

Predictions = dict[str, dict[str, Answer]]
"""Domain -> key of an example -> prediction."""


class PredictedItem(NamedTuple):
    """A test item of a record.

    Attributes:
        key: of the example.
        prediction: what the trial answered: the index of a class, a number, or a text.
        reference: the right answer, of the same kind.
        group: `group_digest` of the example's group. Items of a group are not independent observations.
    """

    key: str
    prediction: Answer
    reference: Answer
    group: str


def group_digest(group: str) -> str:
    """The first 12 hex digits of a group's SHA-256: short, and the same for a group that domains share."""
    return hashlib.sha256(group.encode("utf-8", errors="surrogatepass")).hexdigest()[:12]


def prediction_lines(items: Mapping[str, Sequence[PredictedItem]]) -> bytes:
    """The content of predictions.jsonl, from the items by domain."""
    lines = [
        json.dumps({"domain": domain, **item._asdict()}, ensure_ascii=False)
        for domain, of_domain in items.items()
        for item in of_domain
    ]
    return ("\n".join(lines) + "\n").encode()


def read_predictions(folder: TrialFolder) -> Predictions | None:
    """A record's test predictions: domain -> key -> prediction; None where there are none.

    Raises:
        UserError: the file is corrupt.
    """
    files = folder.files
    content = files.read(PREDICTIONS_FILE)
    if content is None:
        return None
    path = f"{files.place}/{PREDICTIONS_FILE}"
    predictions: Predictions = defaultdict(dict)
    try:
        for line in _parse(content, path):
            predictions[line["domain"]][line["key"]] = line["prediction"]
    except (KeyError, TypeError) as error:
        raise _corrupt(path, error) from error
    return dict(predictions)


def read_test_items(folder: TrialFolder) -> dict[str, list[PredictedItem]] | None:
    """A record's test items by domain, in the order of the corpus; None where it has no predictions or no references.

    Raises:
        UserError: the file is corrupt, or some of its lines have a reference and others have none.
    """
    files = folder.files
    content = files.read(PREDICTIONS_FILE)
    if content is None:
        return None
    path = f"{files.place}/{PREDICTIONS_FILE}"
    lines = _parse(content, path)
    items: dict[str, list[PredictedItem]] = defaultdict(list)
    try:
        if not any("reference" in line for line in lines):
            return None
        for line in lines:
            item = PredictedItem(line["key"], line["prediction"], line["reference"], line["group"])
            items[line["domain"]].append(item)
    except (KeyError, TypeError) as error:
        raise _corrupt(path, error) from error
    return dict(items)


def _parse(content: bytes, path: str) -> list[Any]:
    """All lines in one call, which is ten times as fast as line by line; a last line that was cut short is left out."""
    whole = content[: content.rfind(b"\n") + 1].rstrip(b"\n")
    try:
        parsed = from_json(b"[" + whole.replace(b"\n", b",") + b"]")
        if len(parsed) == whole.count(b"\n") + bool(whole):
            return list(parsed)
    except ValueError:
        pass
    try:
        return parse_lines(content, path)  # slowly: it names the line that is wrong
    except TrialError as error:
        raise _corrupt(path, error) from error


def _corrupt(path: str, error: Exception) -> UserError:
    return UserError(f"{path}: not a file of predictions ({error})")
