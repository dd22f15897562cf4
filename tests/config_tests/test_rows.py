"""Rows: their names, what else means them, and the rows of manifests that did not say what their rows are."""

from __future__ import annotations

import pytest

from harness.config.rows import RowId, clash_of, find_rows, merge_rules, possible_rows, row_of_old_name

BOTH = RowId("add", ("best", "one_se"))
ROWS = [RowId("frozen"), BOTH, RowId("add", ("constrained",)), RowId("add_l2", ("best",))]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("frozen", ["frozen"]),
        ("add", ["add (best, one_se)", "add (constrained)"]),
        ("add (best)", ["add (best, one_se)"]),
        ("add (one_se)", ["add (best, one_se)"]),
        ("add (constrained)", ["add (constrained)"]),
        ("add (best, one_se)", ["add (best, one_se)"]),
        ("add_l2", ["add_l2 (best)"]),
        ("frozen (best)", []),
        ("ad", []),
    ],
)
def test_a_name_means_rows(name: str, found: list[str]) -> None:
    assert find_rows(name, ROWS) == found


def test_the_row_of_a_name_comes_before_the_rows_that_the_name_may_mean() -> None:
    """An arm may be called like a rule's row of another arm: then it is itself."""
    assert find_rows("add (best)", [BOTH, RowId("add (best)")]) == ["add (best)"]


def test_rules_that_chose_one_winner_share_a_row() -> None:
    assert merge_rules("add", {"best": 7, "constrained": 3, "one_se": 7}) == {
        7: BOTH,
        3: RowId("add", ("constrained",)),
    }
    assert merge_rules("add", {"best": 7}) == {7: RowId("add")}


@pytest.mark.parametrize("row", [*ROWS, RowId("a (b) c"), RowId("full - l2"), RowId("a (b)", ("best", "constrained"))])
def test_an_old_manifests_row_is_read_from_its_name(row: RowId) -> None:
    assert row_of_old_name(row.name) == row


@pytest.mark.parametrize("name", ["add (mean)", "add (best,one_se)", "add(best)", " (best", "p=0.5, lambda=0"])
def test_another_name_in_brackets_is_an_arm(name: str) -> None:
    assert row_of_old_name(name) == RowId(name)


def test_possible_rows() -> None:
    rules = ("best", "constrained")
    assert [row.name for row in possible_rows(["frozen", "add"], ["add"], rules)] == [
        "frozen",
        "add (best)",
        "add (constrained)",
    ]
    assert [row.name for row in possible_rows(["frozen", "add"], ["add"], ("best",))] == ["frozen", "add"]


@pytest.mark.parametrize(
    ("arms", "clash"),
    [
        (["add", "add (best)"], ("add (best)", "add")),
        (["add", "add (best, one_se)"], ("add (best, one_se)", "add")),
        (["add", "add (mean)"], None),
    ],
)
def test_an_arm_called_as_a_winner_of_another(arms: list[str], clash: tuple[str, str] | None) -> None:
    assert clash_of(arms, ["add"], ("best", "constrained", "one_se")) == clash
    assert clash_of(arms, ["add"], ("best",)) is None
    assert clash_of(arms, [], ("best", "one_se")) is None
