"""The test predictions of a record."""

from __future__ import annotations

from collections import defaultdict

from harness.disk import parse_lines
from harness.errors import TrialError, UserError
from harness.records.packed import PREDICTIONS_FILE
from harness.records.store import TrialFolder

Predictions = dict[str, dict[str, int | str]]
"""Domain -> key of an example -> prediction."""


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
        for line in parse_lines(content, path):
            predictions[line["domain"]][line["key"]] = line["prediction"]
    except (TrialError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of predictions ({error})") from error
    return dict(predictions)
