"""Read a file with the outputs of one system on a test set, whoever wrote it.

.tsv, .csv      a header line, and columns for key, reference and hypothesis (a group, such as a speaker, may follow)
.jsonl, .json   one object a line: this harness's own predictions.jsonl; a NeMo manifest with `pred_text`; the
                `samples_*.jsonl` of lm-evaluation-harness, whose own scores of each document are taken as they are
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.data.corpora.layouts import read_layout
from harness.data.corpora.local_rows import Row, read_json_objects
from harness.errors import UserError

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")
KEYS = ("key", "id", "utt_id", "utterance_id", "audio_filepath", "doc_id", "file", "path", "name")
REFERENCES = ("reference", "ref", "text", "transcript", "target", "label", "gold")
HYPOTHESES = ("hypothesis", "hyp", "pred_text", "prediction", "pred", "predicted", "output")
GROUPS = ("group", "speaker", "speaker_id", "document", "session")
NOT_A_SCORE = {"doc_id", "idx", "index"}  # numbers in a line of lm-evaluation-harness that say which document it is


@dataclass(frozen=True)
class OutputItem:
    """One test item: what is right, what the system answered (None where only scores are known), and its group."""

    reference: str
    hypothesis: str | None
    group: str


@dataclass(frozen=True)
class SystemOutputs:
    """The outputs of one system.

    Attributes:
        items: by key, in the order of the file.
        scores: the file's own scores: metric -> key -> value.
        notes: what of the file was not used, and why.
    """

    path: Path
    items: Mapping[str, OutputItem]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_output_file(asked: str) -> bool:
    """Whether what was asked for is a file of outputs, and no experiment."""
    path = Path(asked)
    return path.suffix.lower() in SUFFIXES and path.is_file() and not (path.parent / "experiment.json").is_file()


def read_outputs(path: Path) -> SystemOutputs:
    """Read a file of outputs.

    Raises:
        UserError: a column is missing, a key occurs twice, or a line is not readable: one line with the place.
    """
    found = read_layout(path)
    rows, notes = found.rows, found.notes
    if "doc_id" in rows[0].columns and any(name in rows[0].columns for name in ("resps", "filtered_resps")):
        return _lm_evaluation(path, list(read_json_objects(path)))  # with its lists and numbers, which a row has not
    names = {
        what: _column(path, rows[0], what, known)
        for what, known in (("key", KEYS), ("reference", REFERENCES), ("hypothesis", HYPOTHESES))
    }
    group_name = next((name for name in GROUPS if name in rows[0].columns), None)
    items: dict[str, OutputItem] = {}
    places: dict[str, str] = {}
    for row in rows:
        values = {what: _value(row, name) for what, name in names.items()}
        key = values["key"]
        if "offset" in row.columns and names["key"] == "audio_filepath":
            key = f"{key} from {row.columns['offset']} s"  # several utterances of one recording
        if "domain" in row.columns:
            key = f"{row.columns['domain']}: {key}"
        if key in items:
            raise UserError(f"{row.place}: key {key!r} is already in {places[key]}; every item needs a key of its own")
        group = key if group_name is None else _value(row, group_name)
        items[key] = OutputItem(values["reference"].strip(), values["hypothesis"].strip(), group)
        places[key] = row.place
    return SystemOutputs(path, items, notes=tuple(notes))


def _column(path: Path, row: Row, what: str, known: Sequence[str]) -> str:
    found = next((name for name in known if name in row.columns), None)
    if found is None:
        raise UserError(
            f"{path}: no column for the {what} among {', '.join(row.columns)}; choices: {', '.join(known)} "
            "(a table needs them in its first line)"
        )
    return found


def _value(row: Row, name: str) -> str:
    if name not in row.columns:
        raise UserError(f"{row.place}: {name} is missing")
    return row.columns[name]


def _lm_evaluation(path: Path, objects: Sequence[tuple[str, dict[str, Any]]]) -> SystemOutputs:
    """The samples of lm-evaluation-harness: a document may stand there once for each filter of its answers."""
    filters = list(dict.fromkeys(str(content.get("filter", "none")) for _, content in objects))
    items: dict[str, OutputItem] = {}
    scores: dict[str, dict[str, float]] = {}
    unusable: set[str] = set()
    for place, content in objects:
        key, kind = str(content.get("doc_id")), str(content.get("filter", "none"))
        items.setdefault(key, OutputItem(str(content.get("target")), None, key))
        named = content.get("metrics")
        for metric in named if isinstance(named, list) else [k for k in content if k not in NOT_A_SCORE]:
            value = content.get(metric)
            if isinstance(value, bool | int | float) and math.isfinite(value):
                name = f"{metric}, {kind}" if len(filters) > 1 else str(metric)
                by_key = scores.setdefault(name, {})
                if key in by_key:
                    raise UserError(f"{place}: document {key} stands there twice with filter {kind!r}")
                by_key[key] = float(value)
            elif isinstance(named, list):
                unusable.add(str(metric))
    notes = [f"{path.name}: {metric} is not compared: it is no number a document" for metric in sorted(unusable)]
    for name, by_key in scores.items():
        if len(by_key) < len(items) and name not in unusable:
            notes.append(f"{path.name}: {name} is not compared: {len(by_key)} of {len(items)} documents have it")
    whole = {name: by_key for name, by_key in scores.items() if len(by_key) == len(items)}
    if not whole:
        raise UserError(f"{path}: no document has a score that is a number, so there is nothing to compare")
    return SystemOutputs(path, items, whole, tuple(notes))
