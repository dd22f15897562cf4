"""Recordings in folders by class, as people keep them: CLASS/*.wav, in a folder of their domain or split.

The layout of Speech Commands is known: `SPEAKER_nohash_N.wav` names the speaker, who is then the group, and
`validation_list.txt` and `testing_list.txt` beside the classes give the split.
"""

from collections.abc import Iterator
from pathlib import Path

from harness.data.corpora.delimited import lines_of, read_file
from harness.data.corpora.local_rows import CLASS_LISTS, Row
from harness.data.corpus import Split

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au"})
# Beside files of rows, a folder with recordings holds the clips of these, and is no class.
ROWS = frozenset({".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".gz", ".parquet", ".arrow", ".scp"})
NO_CLASSES = frozenset({"train", "training", "valid", "validation", "val", "dev", "test", "testing", "eval"})
SPEAKER_END = "_nohash_"
SPLITS: dict[str, Split] = dict(zip(CLASS_LISTS, ("valid", "test"), strict=True))
NOISE = "_background_noise_"  # of Speech Commands: minutes of noise, of no class


def is_class_folders(folder: Path) -> bool:
    """Whether a folder has a folder of recordings for each of several classes, and nothing that says more of them."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    classes = [path for path in entries if path.is_dir() and path.name != NOISE]
    if len(classes) < 2 or {path.name.casefold() for path in classes} <= NO_CLASSES:
        return False
    files = [*entries, *(path for of_class in classes for path in of_class.iterdir())]
    rows = [path for path in files if path.suffix.lower() in ROWS and path.name not in CLASS_LISTS]
    return not rows and all(_audio_files(path) for path in classes)


def read_class_folders(folder: Path, notes: list[str]) -> Iterator[Row]:
    """Yield a row for each recording: label, path and, where they are told, group (the speaker) and split.

    Raises DataError for a list that cannot be read. A recording that no list names is training data, where there are
    lists. What is no recording is noted.
    """
    splits = {
        line.strip(): split
        for name, split in SPLITS.items()
        if (folder / name).is_file()
        for line in lines_of(read_file(folder / name))
        if line.strip()
    }
    unread: list[Path] = []
    for of_class in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = _audio_files(of_class) if of_class.name != NOISE else []
        unread += [path for path in sorted(of_class.iterdir()) if path not in files and not path.name.startswith(".")]
        for path in files:
            name = f"{of_class.name}/{path.name}"
            columns = {"label": of_class.name, "path": name}
            speaker, is_named, _ = path.stem.partition(SPEAKER_END)
            if is_named:
                columns["group"] = speaker
            if splits:
                columns["split"] = splits.get(name, "train")
            yield Row(str(path), columns, folder)
    if unread:
        first = unread[0].relative_to(folder)
        notes.append(f"{folder.name}: files of the folder that are not read: {len(unread)}, first {first}")


def _audio_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
