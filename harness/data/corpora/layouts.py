"""Where the rows of a user's corpus lie: one file, a data set in a folder, or a folder of data sets.

A folder with a data set in it has files or folders of rows (`READERS`, `FOLDERS`). Where their names name a split
(train.csv, dev-other/, test-00000-of-00002.parquet), they are the official splits of one domain; any others are a
domain each, but for the numbered pieces of one file. A folder of such folders has a domain each.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.data.corpora.arrow_tables import is_saved_dataset, read_parquet, read_saved_dataset
from harness.data.corpora.class_folders import is_class_folders, read_class_folders
from harness.data.corpora.conll import read_column_rows
from harness.data.corpora.kaldi import is_kaldi, read_kaldi
from harness.data.corpora.local_rows import (
    FOLDER_HELP,
    Row,
    is_own_folder,
    read_folder,
    read_json_rows,
    read_table_rows,
)
from harness.data.corpus import Split
from harness.data.errors import DataError

Reader = Callable[[Path, list[str]], Iterable[Row]]
READERS: dict[str, Reader] = {
    ".csv": read_table_rows,
    ".tsv": read_table_rows,
    ".jsonl": read_json_rows,
    ".ndjson": read_json_rows,
    ".json": read_json_rows,
    ".jsonl.gz": read_json_rows,
    ".json.gz": read_json_rows,
    ".parquet": read_parquet,
    **dict.fromkeys((".conll", ".iob", ".iob2", ".bio", ".bioes"), read_column_rows),
}
"""Files by how their names end. To add a format, write its reader, and add it here."""
FOLDERS: dict[str, tuple[Callable[[Path], bool], Reader]] = {
    "a saved data set of Hugging Face's datasets": (is_saved_dataset, read_saved_dataset),
    "a data folder of Kaldi": (is_kaldi, read_kaldi),
    "folders of recordings by class": (is_class_folders, read_class_folders),
}
"""Folders that are read as one, and what tells them from others."""
FILE_HELP = "a .csv, .tsv, .jsonl, .json, .parquet or .conll file, or a folder"
SPLIT_WORDS: dict[Split, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "valid": frozenset({"valid", "validation", "val", "dev"}),
    "test": frozenset({"test", "testing", "eval", "evaluation"}),
}
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of an audiofolder: `file_name` and other columns
PIECE = re.compile(r"(?:^|[-_.])\d+(?:[-_]of[-_]\d+)?$")


@dataclass(frozen=True)
class FoundRows:
    """The rows of a corpus, and how they were found.

    Attributes:
        notes: on how they were read.
        domain: the domain of those that name none.
        foreign: whether they are laid out as others do it, so that columns may have others' names, and values lack.
        official: whether their splits come from the names of files or folders.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    domain: str = ""
    foreign: bool = False
    official: bool = False


@dataclass(frozen=True)
class Source:
    """A file or folder of rows, with the split and the domain that its name says."""

    path: Path
    read: Reader
    split: Split | None = None
    domain: str | None = None


def read_layout(path: Path) -> FoundRows:
    """Return the rows of a manifest file or of a folder.

    Raises DataError when it is neither, cannot be read, has no rows, or leaves open what it is.
    """
    if not path.is_dir():
        read = _reader(path)
        if read is None:
            raise DataError(f"{path}: not a manifest; expected {FILE_HELP}")
        notes: list[str] = []
        # train.json is of the data set that its folder is named by.
        name = path.resolve().parent.name if _splits_in(path.name) else _stem(path)
        return _with_rows(path, FoundRows(list(read(path, notes)), notes, name, foreign=read is read_parquet))
    if is_own_folder(path):
        notes = []
        return _with_rows(path, FoundRows(list(read_folder(path, notes)), notes))
    name, notes = path.resolve().name, []
    sources = _sources(path, notes)
    if not sources:
        folders = [entry for entry in _entries(path) if entry.is_dir()]
        sources = [replace(s, domain=folder.name) for folder in folders for s in _sources(folder, notes)]
    rows = [row for source in sources for row in _rows_of(source, notes)]
    official = any(source.split for source in sources) or any(
        source.path.name in METADATA and any(map(_split_of_clip, rows)) for source in sources
    )
    return _with_rows(path, FoundRows(rows, notes, name, foreign=True, official=official))


def _with_rows(path: Path, found: FoundRows) -> FoundRows:
    if found.rows:
        return found
    kinds = " or ".join(FOLDERS)
    expected = f"; expected {FOLDER_HELP}, files of rows as train.csv, or {kinds}" if path.is_dir() else ""
    raise DataError(f"{path}: holds no rows{expected}")


def _rows_of(source: Source, notes: list[str]) -> Iterator[Row]:
    """Yield the rows of a source, with what its name says; their own domain goes first, their own split does not."""
    is_metadata = source.path.name in METADATA
    for row in source.read(source.path, notes):
        columns = dict(row.columns)
        if source.domain:
            columns.setdefault("domain", source.domain)
        split = source.split or (_split_of_clip(row) if is_metadata else None)
        if split:
            own = columns.get("split", split)
            columns |= {"split": split} if own == split else {"split": split, "split (of the row)": own}
        yield replace(row, columns=columns)


def _split_of_clip(row: Row) -> Split | None:
    """The split that a clip's folder says, as in train/one.wav."""
    folder = Path(row.columns.get("file_name", "")).parts[:-1]
    return split_named(Path(folder[0])) if folder else None


def _sources(folder: Path, notes: list[str], split: Split | None = None) -> list[Source]:
    """The sources of one data set: the folder itself, or the files and folders in it."""
    if read := _folder_reader(folder):
        return [Source(folder, read, split)]
    metadata = [folder / name for name in METADATA if (folder / name).is_file()]
    if metadata:
        return [Source(path, READERS[path.suffix], split) for path in metadata[:1]]
    found: list[Source] = []
    for entry in _entries(folder):
        if read := _reader(entry) or _folder_reader(entry):
            found.append(Source(entry, read, split or split_named(entry)))
        elif entry.is_dir() and (entry.name == "data" or split_named(entry)):
            found += _sources(entry, notes, split or split_named(entry))
    return found if split else _told_apart(folder, found, notes)


def _told_apart(folder: Path, found: list[Source], notes: list[str]) -> list[Source]:
    """Keep the sources that name a split, if any do; else make each a domain, pieces of one file together."""
    if named := [source for source in found if source.split]:
        if unread := [source.path.name for source in found if not source.split]:
            what = "not read, because their names name no split"
            notes.append(f"{folder.name}: files beside those of the splits, {what}: {', '.join(unread)}")
        return named
    names = {PIECE.sub("", _stem(source.path)) for source in found}
    if len(names) < 2:
        return found
    return [replace(source, domain=PIECE.sub("", _stem(source.path))) for source in found]


def split_named(path: Path) -> Split | None:
    """Return the split that the name of a file or folder says, as a word of its own; raises DataError for two."""
    named = _splits_in(path.name)
    if len(named) > 1:
        raise DataError(f"{path}: the name says {' and '.join(named)}; rename it, so that it says one split")
    return named[0] if named else None


def _splits_in(name: str) -> list[Split]:
    words = set(re.split(r"[^a-z]+", name.casefold()))
    return [split for split, choices in SPLIT_WORDS.items() if words & choices]


def _reader(path: Path) -> Reader | None:
    """The reader of a file; None for what is no file of rows."""
    if path.is_dir() or path.name in DESCRIPTIONS:
        return None
    return next((read for suffix, read in READERS.items() if path.name.lower().endswith(suffix)), None)


def _folder_reader(path: Path) -> Reader | None:
    if not path.is_dir():
        return None
    return next((read for is_one, read in FOLDERS.values() if is_one(path)), None)


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _stem(path: Path) -> str:
    """The name of a file without what says its format; of a folder, its name."""
    suffix = next((s for s in READERS if path.name.lower().endswith(s)), "") if not path.is_dir() else ""
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :]) if suffix else path.name
