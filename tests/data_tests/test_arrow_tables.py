"""Data sets of Hugging Face: what `datasets` and pandas write is read back, without either."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import Corpus, DataError, SpeechExample, load_corpus
from harness.data.audio_files import read_audio
from harness.data.corpus import SPLITS, class_of

datasets = pytest.importorskip("datasets", reason="datasets is not installed (pip install -e '.[dev]')")

LABELS = ("sad", "so_so", "glad")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "cache"))


def reviews(num: int, start: int = 0) -> Any:
    rows = range(start, start + num)
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "mood": datasets.ClassLabel(names=list(LABELS))}
    )
    return datasets.Dataset.from_dict(
        {"sentence": [f"remark number {i} of many" for i in rows], "mood": [i % 3 for i in rows]}, features=features
    )


def recordings(folder: Path, make_tone: Callable[..., Path]) -> Any:
    """A data set of tones with the bytes of their files inside, as `save_to_disk` and the hub have it."""
    words = ["one", "two", "three", "four", "five", "six"]
    paths = [make_tone(folder / f"{word}.wav", 0.4 + 0.1 * i, 16000, 300.0 + 40 * i) for i, word in enumerate(words)]
    audio = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    table = {"audio": audio, "transcription": words, "speaker_id": [f"s{i % 3}" for i in range(6)]}
    return datasets.Dataset.from_dict(table).cast_column("audio", datasets.Audio(decode=False))


def contents(corpus: Corpus, domain: str) -> dict[str, list[tuple[str, str]]]:
    return {s: [(e.text, corpus.symbols[class_of(e)]) for e in corpus.text(domain, s)] for s in SPLITS}


def expected(data: Any, label: str = "mood") -> list[tuple[str, str]]:
    return [(row["sentence"], LABELS[row[label]]) for row in data]


def test_official_splits_and_class_names_of_a_saved_data_set(tmp_path: Path) -> None:
    parts = {"train": reviews(30), "validation": reviews(6, 30), "test": reviews(9, 40)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "moods")
    corpus = load_corpus(f"manifest:{tmp_path / 'moods'}", columns={"label": "mood"})
    assert list(corpus.domains) == ["moods"]
    assert corpus.symbols == tuple(sorted(LABELS))
    found = contents(corpus, "moods")
    for split, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
        assert found[split] == expected(datasets.load_from_disk(tmp_path / "moods")[name])
    assert corpus.noticed == (
        "columns by the names of others: text is 'sentence'",
        "there is no column 'domain', so all rows are of one domain: moods",
    )


def test_the_layouts_of_the_hub_and_of_pandas(tmp_path: Path) -> None:
    whole = reviews(40).rename_column("mood", "label")
    hub = tmp_path / "hub/moods"
    (hub / "data").mkdir(parents=True)
    (hub / "README.md").write_text("card", encoding="utf-8")
    whole.select(range(20)).to_parquet(hub / "data/train-00000-of-00002.parquet")
    whole.select(range(20, 30)).to_parquet(hub / "data/train-00001-of-00002.parquet")
    whole.select(range(30, 40)).to_parquet(hub / "data/test-00000-of-00001.parquet")
    corpus = load_corpus("manifest", hub)
    found = contents(corpus, "moods")
    assert found["test"] == expected(whole.select(range(30, 40)), "label")
    # No validation split: some of the training examples, the same everywhere; none is lost.
    assert sorted(found["train"] + found["valid"]) == sorted(expected(whole.select(range(30)), "label"))
    assert 0 < len(found["valid"]) < 12
    assert "no valid split: 15 % of the training split are used, by hash of the group" in corpus.noticed

    one = tmp_path / "moods.parquet"
    frame = whole.to_pandas().assign(label=[LABELS[i] for i in whole["label"]], domain="moods")
    frame.astype({"label": "category"}).to_parquet(one)
    alone = load_corpus("manifest", one)
    both = [{pair for pairs in contents(c, "moods").values() for pair in pairs} for c in (corpus, alone)]
    assert both[0] == both[1]


def test_folders_of_data_sets_are_domains(tmp_path: Path) -> None:
    for number, name in enumerate(("books", "films")):
        reviews(20, 100 * number).rename_column("mood", "label").save_to_disk(tmp_path / "all" / name)
    corpus = load_corpus("manifest", tmp_path / "all")
    assert {name: len(examples) for name, examples in corpus.domains.items()} == {"books": 20, "films": 20}
    assert corpus.fixed_splits is None
    assert corpus.noticed == ("columns by the names of others: text is 'sentence'",)


def test_classes_that_are_not_told_are_left_out(tmp_path: Path) -> None:
    secret = reviews(5, 50)
    secret = datasets.Dataset.from_dict({**secret.to_dict(), "mood": [-1] * 5}, features=secret.features)
    datasets.DatasetDict({"train": reviews(60), "test": secret}).save_to_disk(tmp_path / "moods")
    corpus = load_corpus("manifest", tmp_path / "moods", columns={"label": "mood"})
    assert sum(map(len, corpus.domains.values())) == 60
    assert len(corpus.split("moods", "test")) > 0
    assert any(note.startswith("rows without a label, which are left out: 5, first ") for note in corpus.noticed)


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_recordings_inside_the_tables(tmp_path: Path, make_tone: Callable[..., Path], form: str) -> None:
    data = recordings(tmp_path / "tones", make_tone)
    path = tmp_path / "calls"
    if form == "arrow":
        data.save_to_disk(path)
    else:
        path.mkdir()
        data.to_parquet(path / "0000.parquet")
    (tmp_path / "tones").rename(tmp_path / "gone")  # only the tables have them now
    corpus = load_corpus("manifest", path)
    assert list(corpus.domains) == ["calls"]
    for example, word in zip(corpus.domains["calls"], data["transcription"], strict=True):
        assert isinstance(example, SpeechExample)
        assert example.transcript == word
        samples, rate = read_audio(example.path)
        true, true_rate = read_audio(tmp_path / "gone" / f"{word}.wav")
        assert rate == true_rate == 16000 and np.array_equal(samples, true)
    assert {e.group for e in corpus.domains["calls"]} == {"s0", "s1", "s2"}
    again = load_corpus("manifest", path)
    assert again.fingerprint == corpus.fingerprint
    assert len(list((tmp_path / "cache/embedded").iterdir())) == 6


def test_a_speaker_in_two_official_splits_is_noted(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    data = recordings(tmp_path / "tones", make_tone)
    parts = {"train": range(0, 3), "validation": range(3, 5), "test": range(5, 6)}
    datasets.DatasetDict({name: data.select(rows) for name, rows in parts.items()}).save_to_disk(tmp_path / "calls")
    corpus = load_corpus("manifest", tmp_path / "calls")
    assert [len(corpus.split("calls", split)) for split in SPLITS] == [3, 2, 1]
    note = "speakers or other groups that are in several splits, as the data have it: 3, first 's0'"
    assert note in corpus.noticed


def test_without_pyarrow_the_way_out_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviews(9).save_to_disk(tmp_path / "moods")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"moods: Arrow and Parquet files need pyarrow; run: pip install 'pyarrow>=17'"):
        load_corpus("manifest", tmp_path / "moods")


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("data-00000-of-00001.arrow", b"no table", r"data-00000-of-00001\.arrow: cannot be read as Arrow: "),
        ("data-00000-of-00001.arrow", None, r"data-00000-of-00001\.arrow: cannot be read as Arrow: "),
        ("state.json", b"{", r"state\.json: cannot be read: "),
        ("state.json", b"[]", r"state\.json: expected an object"),
        ("state.json", b"{}", r"state\.json: lists no data files"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, file: str, damage: bytes | None, message: str) -> None:
    reviews(9).save_to_disk(tmp_path / "moods")
    path = tmp_path / "moods" / file
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with pytest.raises(DataError, match=message):
        load_corpus("manifest", tmp_path / "moods")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet: "):
        load_corpus("manifest", tmp_path / "x.parquet")


def test_a_table_cannot_name_files_outside_its_folder(tmp_path: Path) -> None:
    reviews(9).save_to_disk(tmp_path / "moods")
    state = json.loads((tmp_path / "moods/state.json").read_text(encoding="utf-8"))
    state["_data_files"] = [{"filename": "../../etc/passwd"}]
    (tmp_path / "moods/state.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(DataError, match=r"moods/passwd: cannot be read as Arrow"):
        load_corpus("manifest", tmp_path / "moods")
