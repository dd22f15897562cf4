"""What is tried again after which failures, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records.failures import ASKED, Failures


def noted(folder: Path, *failures: tuple[str, int]) -> Failures:
    found = Failures(folder)
    for reason, epochs in failures:
        found.note(reason, epochs, "why")
    return found


@pytest.mark.parametrize(
    ("failures", "reason", "tried_again"),
    [
        ([], "error", True),
        ([("error", 0)], "error", True),
        ([("error", 0), ("error", 3)], "error", False),
        ([("error", 0), ("oom", 0)], "error", True),  # each cause has its own count
        ([("oom", 1)] * 2, "oom", True),
        ([("oom", 1)] * 3, "oom", False),
        ([("damaged", 2)], "damaged", True),
        ([("nan", 1)], "nan", False),
        ([], "nan", False),
        ([], "not_restored", False),
        ([("killed", 2)] * 4, "killed", True),
        ([("killed", 2)] * 5, "killed", False),
        ([("killed", 1)] * 4 + [("killed", 2)] * 4, "killed", True),  # an epoch has ended in between
        ([("error", 0), ("error", 0), (ASKED, 0)], "error", True),
        ([("error", 0), ("error", 0), (ASKED, 0), ("error", 0)], "error", True),
        ([("killed", 2)] * 5 + [(ASKED, 2)] + [("killed", 2)] * 5, "killed", False),
    ],
)
def test_what_is_tried_again(failures: list[tuple[str, int]], reason: str, tried_again: bool, tmp_path: Path) -> None:
    noted(tmp_path, *failures)
    assert Failures(tmp_path).may_try(reason) == tried_again


@pytest.mark.parametrize(
    ("deaths", "epochs", "alone"),
    [([], 0, False), ([0], 0, True), ([0], 1, False), ([0, 1], 1, True), ([0, 0], 1, False)],
)
def test_who_may_have_killed_its_process_is_alone(deaths: list[int], epochs: int, alone: bool, tmp_path: Path) -> None:
    """From the start after its second death on, which that start writes down; until an epoch has ended."""
    found = noted(tmp_path, *(("killed", epoch) for epoch in deaths))
    (tmp_path / "log.jsonl").write_text("{}\n" * epochs, encoding="utf-8")
    assert found.must_be_alone() == alone
