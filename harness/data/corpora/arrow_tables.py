"""Data sets as Hugging Face's `datasets` saves them (Arrow), and Parquet files: read by pyarrow, without `datasets`.

Nothing of them is run: no loading script, no pickle, no extension type. Audio that lies inside the tables is written
to the data cache, once, under the hash of its bytes, and is read from there as any file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.cache import data_cache
from harness.data.corpora.local_rows import Row
from harness.data.errors import DataError
from harness.disk import write_atomically

STATE, INFO, SPLITS_FILE = "state.json", "dataset_info.json", "dataset_dict.json"
INSTALL = "pip install 'pyarrow>=17'"
BATCH = 256  # rows in memory at a time: with audio in them they are large
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au", ".w64", ".caf"})


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return (folder / STATE).is_file() and (folder / INFO).is_file()


def read_saved_dataset(folder: Path, notes: list[str]) -> Iterator[Row]:
    """Yield the rows of a folder of `Dataset.save_to_disk`, in order.

    Raises DataError when pyarrow is not installed, or the folder or one of its files is damaged.
    """
    arrow = _pyarrow(folder)
    state, info = _read_json(folder / STATE), _read_json(folder / INFO)
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / STATE}: lists no data files, as `save_to_disk` does: {error}") from error
    if state.get("_indices_files"):
        raise DataError(f"{folder}: saved by an old version of datasets, with rows out of order; save it again")
    for name in names:
        path = folder / Path(name).name
        try:
            with arrow.memory_map(str(path)) as source, arrow.ipc.open_stream(source) as reader:
                features = _features(reader.schema) or info.get("features") or {}
                batches = (piece for batch in reader for piece in _pieces(batch))
                yield from _rows(path, batches, features)
        except (arrow.ArrowException, OSError) as error:
            raise _damaged(path, error) from error


def read_parquet(path: Path, notes: list[str]) -> Iterator[Row]:
    """Yield the rows of a Parquet file, in order; raises DataError as `read_saved_dataset`."""
    arrow = _pyarrow(path)
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield from _rows(path, file.iter_batches(BATCH), _features(file.schema_arrow))
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise DataError(f"{path}: Arrow and Parquet files need pyarrow; run: {INSTALL}") from None
    return pyarrow


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return DataError(f"{path}: cannot be read as {'Parquet' if path.suffix == '.parquet' else 'Arrow'}: {reason}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object, got {str(content)[:40]!r}")
    return content


def _features(schema: Any) -> Mapping[str, Any]:
    """The features that `datasets` writes into a file's schema: column -> what it holds; empty where there are none."""
    written = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(written)["info"]["features"] if written else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _pieces(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, BATCH):
        yield batch.slice(start, BATCH)


def _rows(path: Path, batches: Iterator[Any], features: Mapping[str, Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        columns = {name: _values(batch, name, features.get(name)) for name in batch.schema.names}
        for index in range(batch.num_rows):
            number += 1
            place = f"{path}, row {number}"
            values = {name: _text(place, name, column[index]) for name, column in columns.items()}
            yield Row(place, {name: text for name, text in values.items() if text is not None}, path.parent)


def _values(batch: Any, name: str, feature: Any) -> list[Any]:
    """The values of a column as Python has them; the numbers of a ClassLabel as the names of their classes."""
    values = batch.column(batch.schema.get_field_index(name)).to_pylist()
    of_item = feature.get("feature") if isinstance(feature, dict) else None
    if isinstance(of_item, dict):  # a list of classes: tags
        return [value if value is None else _named(value, of_item) for value in values]
    return _named(values, feature)


def _named(values: Sequence[Any], feature: Any) -> list[Any]:
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    if not isinstance(names, list):
        return list(values)
    # -1 stands for a class that is not told, as in the test sets of benchmarks.
    return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None if v == -1 else v for v in values]


def _text(place: str, name: str, value: Any) -> str | None:
    """A value as a manifest has it: a text; of audio, the path of a file; None for no value."""
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
        return _audio_file(place, name, value)
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if isinstance(value, bytes) else str(value)


def _audio_file(place: str, name: str, value: Mapping[str, Any]) -> str | None:
    data, path = value["bytes"], value["path"]
    if data is None:
        return None if path is None else str(path)
    if not isinstance(data, bytes):
        raise DataError(f"{place}: column {name!r} holds no audio as `datasets` stores it")
    suffix = Path(str(path or "")).suffix.lower()
    file = data_cache() / "embedded" / f"{hashlib.sha256(data).hexdigest()}{suffix if suffix in AUDIO_SUFFIXES else ''}"
    if not (file.is_file() and file.stat().st_size == len(data)):
        write_atomically(file, data)
    return str(file)
