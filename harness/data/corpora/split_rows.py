"""The splits of a user's rows: in a column, by the names of files or folders, or by hash of their groups."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from harness.data.corpora.layouts import FoundRows
from harness.data.corpora.local_rows import Row
from harness.data.corpus import SPLITS, Split, split_of_group
from harness.data.errors import DataError
from harness.data.text_cleaning import clean_text, copy_key


def group_of(row: Row) -> str:
    """Return the group of a row; the same for all domains, so that a shared group is held out in each of them."""
    if group := row.columns.get("group", ""):
        return group
    return copy_key(clean_text(row.columns.get("text") or row.columns["transcript"]))


def fixed_splits(rows: Sequence[Row]) -> dict[str, Split] | None:
    """Return group -> split when the rows have a split column, else None.

    Raises DataError for a row without a split, for another word, and for a group in two splits.
    """
    if not any("split" in row.columns for row in rows):
        return None
    splits: dict[str, Split] = {}
    for row in rows:
        written = row.columns.get("split", "").strip().casefold()
        split = next((s for s in SPLITS if s == written), None)
        if split is None:
            raise DataError(f"{row.place}: split is {row.columns.get('split')!r}; choices: {', '.join(SPLITS)}")
        if splits.setdefault(group_of(row), split) != split:
            raise DataError(f"{row.place}: group {group_of(row)!r} is in {split} and in {splits[group_of(row)]}")
    return splits


def official_splits(found: FoundRows) -> FoundRows:
    """Return rows whose splits come from names of files, with the splits that they lack and with groups in one each.

    A data set with one split is split by hash. One without validation or test data gets them from its training split,
    by the hash of the group, so the same everywhere. A group (a text, a speaker) that is in several splits, as official
    ones have it, stays where it is, as a group of each. All of it is noted.
    """
    if not found.official:
        return found
    rows, notes = found.rows, list(found.notes)
    there: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        there[row.columns["domain"]].add(row.columns["split"])
    if len(only := set().union(*there.values())) == 1:
        notes.append(f"the data have one split, {min(only)}, so they are split by hash, 70 / 15 / 15 %")
        rows = [replace(row, columns={k: v for k, v in row.columns.items() if k != "split"}) for row in rows]
        return replace(found, rows=rows, notes=notes, official=False)
    for split in ("valid", "test"):
        if lacking := [domain for domain, splits in there.items() if split not in splits and "train" in splits]:
            where = "" if len(lacking) == len(there) else f" of {', '.join(lacking)}"
            notes.append(f"no {split} split{where}: 15 % of the training split are used, by hash of the group")
    rows = [_drawn(row, there[row.columns["domain"]]) for row in rows]
    return replace(found, rows=_one_split_a_group(rows, notes), notes=notes)


def _drawn(row: Row, there: set[str]) -> Row:
    """Move a training row to the split that its group's hash says, if its domain lacks that."""
    split = split_of_group(group_of(row))
    if row.columns["split"] != "train" or split in there:
        return row
    return replace(row, columns={**row.columns, "split": split})


def _one_split_a_group(rows: list[Row], notes: list[str]) -> list[Row]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[group_of(row)].add(row.columns["split"])
    shared = {group for group, names in splits.items() if len(names) > 1}
    if not shared:
        return rows
    what = "speakers or other groups" if any(row.columns.get("group") for row in rows) else "texts"
    notes.append(f"{what} that are in several splits, as the data have it: {len(shared)}, first {min(shared)!r}")
    return [
        replace(row, columns={**row.columns, "group": f"{group} ({row.columns['split']})"})
        if (group := group_of(row)) in shared
        else row
        for row in rows
    ]
