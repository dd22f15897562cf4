"""A small corpus and recipe for every task, made of the sentences of `tiny_text` and the tones of `tiny_speech`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tiny_speech
import tiny_text

from harness.tasks.registry import TASKS

RATINGS = {"bad": -1.0, "fair": 0.25, "good": 1.5}
Rows = list[dict[str, Any]]


def pairs() -> Rows:
    """Whether a second text judges as the first does."""
    rows: Rows = []
    for number, row in enumerate(tiny_text.corpus_rows()):
        label = list(tiny_text.WORDS)[number % 3]
        judged = tiny_text.WORDS[label][number % 3]
        rows.append({**row, "text_2": f"it is {judged}", "label": "same" if row["label"] == label else "other"})
    return rows


def ratings() -> Rows:
    """A number for each sentence: that of its class, and a little by its length."""
    return [
        {**{name: row[name] for name in ("domain", "text", "group")},
         "value": RATINGS[row["label"]] + len(row["text"]) / 100}
        for row in tiny_text.corpus_rows()
    ]  # fmt: skip


def tagged() -> Rows:
    """Spans: what is judged, with its article (`B-THING I-THING`), and the judging word."""
    rows: Rows = []
    for row in tiny_text.corpus_rows():
        words: list[str] = row["text"].split()
        tags: list[str] = []
        things, judging = tiny_text.THINGS[row["domain"]], [word for of in tiny_text.WORDS.values() for word in of]
        for number, word in enumerate(words):
            behind = tags[number - 1] if number else "O"
            if word in ("the", "a"):
                tags.append("B-THING")
            elif word in things:
                tags.append("I-THING" if behind == "B-THING" else "B-THING")
            else:
                tags.append("S-JUDGED" if word in judging and behind != "B-THING" else "O")
        rows.append({"domain": row["domain"], "group": row["group"], "tokens": words, "tags": tags})
    return rows


def clips() -> Rows:
    """Tones with a class: whether the first is deep."""
    rows: Rows = []
    for domain in tiny_speech.DOMAINS:
        for number, split in enumerate(tiny_speech.SPLITS):
            first = tiny_speech.transcript_of(number)[0]
            label = "deep" if first in "ae" else "shrill"
            path = f"clips/{domain}{number}.wav"
            rows.append({"domain": domain, "path": path, "label": label, "group": str(number), "split": split})
    return rows


ROWS: Mapping[str, Callable[[], Rows]] = {
    "text_classification": lambda: [*tiny_text.corpus_rows()],
    "text_pair_classification": pairs,
    "regression": ratings,
    "token_tagging": tagged,
    "speech_classification": clips,
}


def corpus_of(name: str, root: Path) -> Path:
    """Where a task's corpus lies below the folder that `tiny_task` wrote it to; CTC has that of `tiny_speech`."""
    return root / "corpus.jsonl" if rows_of(name) else tiny_speech.files_in(root).manifest


def rows_of(name: str) -> Callable[[], Rows] | None:
    """What makes the rows of a task; those of text classification for a text task that has none of its own."""
    return ROWS.get(name, ROWS["text_classification"] if TASKS[name].reads == "text" else None)


def tiny_task(name: str, root: Path) -> dict[str, Any]:
    """Write the corpus of a task to the new folder `root`; the recipe of a backbone that learns it in one domain."""
    if TASKS[name].reads == "speech":
        settings = tiny_speech.recipe_settings(tiny_speech.write_corpus(root))
    else:
        root.mkdir()
        settings = tiny_text.recipe_settings(root / "corpus.jsonl")
    path = corpus_of(name, root)
    if rows := rows_of(name):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()), encoding="utf-8")
    data = {**settings["data"], "corpus": f"manifest:{path}"}
    return {**settings, "name": f"tiny_{name}", "task": name, "data": data}
