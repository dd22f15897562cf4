"""The test predictions of a record."""

from __future__ import annotations

from collections import defaultdict

from harness.disk import read_lines
from harness.errors import TrialError, UserError
from harness.records.store import TrialFolder

Predictions = dict[str, dict[str, int | str]]
"""Domain -> key of an example -> prediction."""


def read_predictions(folder: TrialFolder) -> Predictions | None:
    """A record's test predictions: domain -> key -> prediction; None where there are none.

    Raises:
        UserError: the file is corrupt.
    """
    path = folder.path / "predictions.jsonl"
    if not path.exists():
        return None
    predictions: Predictions = defaultdict(dict)
    try:
        for line in read_lines(path):
            predictions[line["domain"]][line["key"]] = line["prediction"]
    except (TrialError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of predictions ({error})") from error
    return dict(predictions)
