"""A record's test items: prediction, reference and group, of new files and of those that are older than references."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.predictions import (
    PredictedItem,
    group_digest,
    prediction_lines,
    read_predictions,
    read_test_items,
)
from harness.records.trial_folder import TrialFolder

ITEMS = {
    "tweets": (
        PredictedItem("tweets/é\u2028\n1", 2, 1, group_digest("prompt 1")),
        PredictedItem("tweets/2", 0, 0, group_digest("prompt 2")),
    ),
    "movie": (PredictedItem("movie/1", "a } {", "a b", group_digest("prompt 1")),),
}
OLD = '{"domain": "tweets", "key": "a", "prediction": 2}\n'


def folder_with(tmp_path: Path, content: bytes) -> TrialFolder:
    (tmp_path / "predictions.jsonl").write_bytes(content)
    return TrialFolder(tmp_path)


def test_items_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, prediction_lines(ITEMS))
    assert read_test_items(folder) == {domain: list(items) for domain, items in ITEMS.items()}
    assert read_predictions(folder) == {
        domain: {item.key: item.prediction for item in items} for domain, items in ITEMS.items()
    }


def test_a_group_has_one_digest_in_all_domains() -> None:
    assert ITEMS["tweets"][0].group == ITEMS["movie"][0].group != ITEMS["tweets"][1].group
    assert group_digest("prompt 1") == "7e5b8ad56422"  # sha256sum


def test_old_files_have_predictions_but_no_items(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, OLD.encode())
    assert read_predictions(folder) == {"tweets": {"a": 2}}
    assert read_test_items(folder) is None
    assert read_test_items(TrialFolder(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (prediction_lines(ITEMS) + OLD.encode(), "not a file of predictions"),
        (OLD.encode() + b"no json\n", r"predictions\.jsonl:2: not a JSON line"),
        (b'{"domain": 1},{"domain": 2}\n', r"predictions\.jsonl:1: not a JSON line"),
        (b"3\n", "not a file of predictions"),
    ],
)
def test_damage_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_test_items(folder_with(tmp_path, content))
