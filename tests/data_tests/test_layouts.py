"""Corpora as others lay them out: official splits in files, Common Voice, NeMo, Kaldi, lhotse, audiofolder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data import Corpus, DataError, SpeechExample, load_corpus
from harness.data.corpus import SPLITS, Split

Tone = Callable[..., Path]
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def shown(corpus: Corpus, domain: str) -> dict[Split, list[str]]:
    return {split: [example.shown for example in corpus.split(domain, split)] for split in SPLITS}


def clips(corpus: Corpus, domain: str) -> list[SpeechExample]:
    return [example for example in corpus.domains[domain] if isinstance(example, SpeechExample)]


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_splits_by_the_names_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "moods"
    for name, numbers in (("my_train-00000", (0, 1)), ("my_train-00001", (2,)), ("dev", (3,)), ("test", (4,))):
        write(folder / f"{name}.csv", "text,label\n" + "".join(f"remark number {n},{n % 2}\n" for n in numbers))
    write(folder / "validated.csv", "text,label\nanother remark,1\n")
    corpus = load_corpus("manifest", folder)
    assert shown(corpus, "moods") == {
        "train": ["remark number 0", "remark number 1", "remark number 2"],
        "valid": ["remark number 3"],
        "test": ["remark number 4"],
    }
    assert corpus.noticed[0] == (
        "moods: files beside those of the splits, not read, because their names name no split: validated.csv"
    )


@pytest.mark.parametrize(
    ("names", "domains"),
    [
        (("books.csv", "films.csv"), {"books": 10, "films": 10}),
        (("reviews-00000-of-00002.csv", "reviews-00001-of-00002.csv"), {"all": 20}),
        (("books/all.csv", "films/all.csv"), {"books": 10, "films": 10}),
        (("train/0.csv", "test/0.csv"), {"all": 20}),
    ],
)
def test_other_names_are_domains_or_pieces(tmp_path: Path, names: tuple[str, str], domains: dict[str, int]) -> None:
    for number, name in enumerate(names):
        rows = "".join(f"remark number {number}{n},{n % 2}\n" for n in range(10))
        write(tmp_path / "all" / name, f"text,label\n{rows}")
    corpus = load_corpus("manifest", tmp_path / "all")
    assert {name: len(examples) for name, examples in corpus.domains.items()} == domains
    assert (corpus.fixed_splits is not None) == (names[0] == "train/0.csv")


def test_copies_over_official_splits_stay_and_are_said(tmp_path: Path) -> None:
    for split, domain in (("train", "a"), ("test", "b")):
        write(tmp_path / domain / f"{split}.csv", "text,label\nthe very same remark,x\nthe other remark,y\n")
    write(tmp_path / "a/test.csv", "text,label\na third remark,x\n")
    write(tmp_path / "b/train.csv", "text,label\na fourth remark,x\n")
    corpus = load_corpus("manifest", tmp_path)
    assert shown(corpus, "b")["test"] == ["the very same remark", "the other remark"]
    assert "texts that are in several splits, as the data have it: 2, first 'theotherremark'" in corpus.noticed
    assert "2 of 3 test texts are copies of training texts" in corpus.noticed


MARKS = (("&#39;", "&amp;", "!"), ("'", "&", "?"))


def test_an_official_split_that_repeats_texts_of_another_keeps_them(tmp_path: Path) -> None:
    """Also in one domain, whichever file's name comes first; a copy within a split is left out, and counted."""
    rows = "the very same remark,x\nthe other remark,y\n"
    for split, more in (("train", "a third remark,x\n" * 2), ("validation", ""), ("test", "a fourth remark,y\n")):
        write(tmp_path / "a" / f"{split}.csv", f"text,label\n{rows}{more}")
    corpus = load_corpus("manifest", tmp_path)
    assert shown(corpus, "a") == {
        "train": ["the very same remark", "the other remark", "a third remark"],
        "valid": ["the very same remark", "the other remark"],
        "test": ["the very same remark", "the other remark", "a fourth remark"],
    }
    assert corpus.left_out == {"a": {"same text twice": 1}}


def test_a_copy_that_is_written_with_entities_is_in_the_same_group(tmp_path: Path) -> None:
    texts = [f"I don{quote}t like film {n} rock {sign} roll{end}" for n in range(40) for quote, sign, end in MARKS]
    path = write(
        tmp_path / "x.csv", "domain,text,label\n" + "".join(f'd,"{t}!",{n % 2}\n' for n, t in enumerate(texts))
    )
    examples = load_corpus("manifest", path).examples("d")
    by_film: dict[str, set[str]] = {}
    for example in examples:
        by_film.setdefault(example.shown.split()[4], set()).add(example.group)
    assert (len(examples), len(by_film)) == (80, 40) and all(len(groups) == 1 for groups in by_film.values())


def test_columns_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "body,text,stars\nfine,1,good\nawful,2,bad\n")
    corpus = load_corpus("manifest", path, columns={"text": "body", "label": "stars"}, domain="shop")
    assert sorted(example.shown for example in corpus.examples("shop")) == ["awful", "fine"]
    assert "columns that are not read: text (of the file)" in corpus.noticed


@pytest.mark.parametrize(
    ("options", "header", "message"),
    [
        ({"columns": {"words": "body"}}, "domain,body,label", r"columns: unknown column 'words'; choices: domain, "),
        ({"columns": {"text": "bdy"}}, "domain,body,label", r"line 2 has no column 'bdy'; .*body"),
        ({"columns": ["text"]}, "domain,body,label", r"columns must say the file's column"),
        ({"domain": "shop"}, "domain,text,label", r"have a column of domains; leave out data\.options\.domain"),
        ({"domain": 3}, "kind,text,label", r"domain must be the name of a domain, got 3"),
        ({}, "Domains,text,label", r"column 'domain' is missing; if it is 'domains', call it domain"),
    ],
)
def test_mistakes_in_columns(tmp_path: Path, options: dict[str, Any], header: str, message: str) -> None:
    path = write(tmp_path / "x.csv", f"{header}\na,b,c\n")
    with pytest.raises(DataError, match=message):
        load_corpus("manifest", path, **options)


def test_a_name_that_says_two_splits(tmp_path: Path) -> None:
    write(tmp_path / "train_dev.csv", "text,label\na,b\n")
    with pytest.raises(DataError, match=r"train_dev\.csv: the name says train and valid; rename it"):
        load_corpus("manifest", tmp_path)
    assert list(load_corpus("manifest", tmp_path / "train_dev.csv").domains) == [tmp_path.name]


def test_common_voice(tmp_path: Path, make_tone: Tone) -> None:
    header = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\t"
    folder = tmp_path / "cv-corpus/en"
    names = iter(WORDS)
    for file, count in (("train", 3), ("dev", 1), ("test", 1), ("validated", 1)):
        rows = []
        for number in range(count):
            word = next(names)
            make_tone(folder / f"clips/common_voice_en_{word}.wav", 0.6, 16000)
            rows.append(f"c{file}{number}\tcommon_voice_en_{word}.wav\tx\tThe {word}, \t\t2\t0\t\t\t\t\ten\t\n")
        write(folder / f"{file}.tsv", header + "variant\tlocale\tsegment\n" + "".join(rows))
    corpus = load_corpus("manifest", folder)
    assert shown(corpus, "en") == {
        "train": ["the one", "the two", "the three"], "valid": ["the four"], "test": ["the five"]
    }  # fmt: skip
    assert {example.group for example in corpus.split("en", "train")} == {"ctrain0", "ctrain1", "ctrain2"}
    told = "transcript is 'sentence', domain is 'locale', group is 'client_id'"
    assert f"columns by the names of others: {told}" in corpus.noticed
    assert load_corpus("manifest", folder.parent).fingerprint == corpus.fingerprint  # a folder of such folders


def test_manifests_of_nemo_in_a_folder(tmp_path: Path, make_tone: Tone) -> None:
    folder = tmp_path / "calls"
    for word in WORDS[:4]:
        make_tone(folder / f"wavs/{word}.wav", 0.6, 16000)
    for split, words in (("train", WORDS[:2]), ("dev", WORDS[2:3]), ("test", WORDS[3:4])):
        rows = [
            {"audio_filepath": f"wavs/{word}.wav", "duration": 0.6, "text": word, "speaker": f"s{word}", "lang": "en"}
            for word in words
        ]
        write(folder / f"{split}_manifest.json", lines(*rows))
    corpus = load_corpus("manifest", folder)
    assert shown(corpus, "en") == {"train": WORDS[:2], "valid": WORDS[2:3], "test": WORDS[3:4]}
    # With a domain of its own, a manifest of NeMo is read as ever: the speaker is no group.
    row = {"domain": "calls", "audio_filepath": "wavs/one.wav", "text": "one", "speaker": "s1"}
    path = write(folder / "one.json", lines(row))
    assert [example.group for example in load_corpus("manifest", path).examples("calls")] == ["one"]
    write(path, lines({**row, "audio_filepath": "audio_0.wav", "shard_id": 0}))
    with pytest.raises(
        DataError, match=r"one\.json, line 1: .*audio_0\.wav: cannot be read .* tar files \(shard_id\): u"
    ):
        load_corpus("manifest", path)


def test_audiofolder(tmp_path: Path, make_tone: Tone) -> None:
    for word, split in zip(WORDS, ("train", "train", "validation", "test"), strict=False):
        make_tone(tmp_path / f"a/{split}/{word}.wav", 0.6, 16000)
        make_tone(tmp_path / f"b/{split}/{word}.wav", 0.6, 16000)
    table = "file_name,transcription\n"
    write(tmp_path / "a/metadata.csv", table + "train/one.wav,one\ntrain/two.wav,two\nvalidation/three.wav,three\n"
          "test/four.wav,four\n")  # fmt: skip
    write(tmp_path / "b/train/metadata.csv", f"{table}one.wav,one\ntwo.wav,two\n")
    write(tmp_path / "b/validation/metadata.jsonl", lines({"file_name": "three.wav", "transcription": "three"}))
    write(tmp_path / "b/test/metadata.csv", f"{table}four.wav,four\n")
    for name in ("a", "b"):
        found = shown(load_corpus("manifest", tmp_path / name), name)
        assert found == {"train": WORDS[:2], "valid": WORDS[2:3], "test": WORDS[3:4]}


def kaldi_folder(folder: Path, make_tone: Tone) -> Path:
    """A data folder of Kaldi as its scripts make one: paths start from the folder above `data`."""
    make_tone(folder.parents[1] / "audio/rec1.wav", 3.0)
    make_tone(folder.parents[1] / "audio/rec2.wav", 2.0)
    write(folder / "wav.scp", "rec1 audio/rec1.wav\nrec2\taudio/rec2.wav\n")
    write(folder / "segments", "ann-1 rec1 0.0 1.0\nann-2 rec1 1.5 2.75\nbob-1 rec2 0.5 -1\n")
    write(folder / "text", "ann-1 hello  there\nann-2 GOOD bye\nbob-1 see you\n")
    write(folder / "utt2spk", "ann-1 ann\nann-2 ann\nbob-1 bob\n")
    return folder


def test_kaldi_folders_with_segments(tmp_path: Path, make_tone: Tone) -> None:
    folder = kaldi_folder(tmp_path / "data/calls", make_tone)
    corpus = load_corpus("manifest", folder)
    found = {e.key: (e.transcript, e.segment, e.seconds, e.group) for e in clips(corpus, "calls")}
    assert found == {
        "calls/ann-1": ("hello there", (0.0, 1.0), 1.0, "ann"),
        "calls/ann-2": ("good bye", (1.5, 1.25), 1.25, "ann"),
        "calls/bob-1": ("see you", (0.5, 1.5), 1.5, "bob"),
    }
    write(folder / "text", "ann-1 hello there\nann-2\n")
    corpus = load_corpus("manifest", folder)
    assert [e.key for e in clips(corpus, "calls")] == ["calls/ann-1"]
    assert "calls: utterances without a line in text: 1, first bob-1" in corpus.noticed
    assert any(note.startswith("rows without a transcript, which are left out: 1, first ") for note in corpus.noticed)


def test_kaldi_folders_of_splits_and_of_whole_files(tmp_path: Path, make_tone: Tone) -> None:
    for split, words in (("train_clean_5", WORDS[:2]), ("dev_clean_2", WORDS[2:3]), ("test", WORDS[3:4])):
        for word in words:
            make_tone(tmp_path / f"wav/{word}.wav", 0.6)
        folder = tmp_path / "data" / split
        write(folder / "wav.scp", "".join(f"{word} wav/{word}.wav\n" for word in words))
        write(folder / "text", "".join(f"{word} {word}\n" for word in words))
        write(folder / "utt2spk", "".join(f"{word} {word}\n" for word in words))  # no speaker is known
    corpus = load_corpus("manifest", tmp_path / "data")
    assert shown(corpus, "data") == {"train": WORDS[:2], "valid": WORDS[2:3], "test": WORDS[3:4]}


@pytest.mark.parametrize(
    ("file", "contents", "message"),
    [
        (
            "wav.scp",
            "rec1 sph2pipe -f wav a.sph |\n",
            r"wav\.scp, line 1: 'sph2pipe -f wav a\.sph \|' is a command, wh",
        ),
        ("wav.scp", "rec1 raw.ark:42\n", r"wav\.scp, line 1: 'raw\.ark:42' is no audio file"),
        ("wav.scp", "rec1 gone.wav\nrec2 gone.wav\n", r"text, line 1: .*gone\.wav: cannot be read as audio"),
        (
            "wav.scp",
            "rec2 audio/rec2.wav\n",
            r"text, line 1: recording 'rec1' of utterance 'ann-1' is not in .*wav\.scp",
        ),
        ("segments", "ann-1 rec1 0.0 1.0 1\n", r"segments, line 1: expected UTTERANCE RECORDING BEGIN END"),
        ("segments", "ann-1 rec1 zero 1.0\n", r"segments, line 1: expected UTTERANCE RECORDING BEGIN END"),
        ("segments", "ann-1 rec1 0.5 9.0\n", r"text, line 1: offset 0\.5, duration 8\.5 does not lie in"),
        ("segments", "ann-2 rec1 0.5 0.9\n", r"text, line 1: utterance 'ann-1' is not in .*segments"),
        ("text", "ann-1 a\nann-1 b\n", r"text, line 2: 'ann-1' occurs twice"),
    ],
)
def test_mistakes_in_kaldi_folders(tmp_path: Path, make_tone: Tone, file: str, contents: str, message: str) -> None:
    folder = kaldi_folder(tmp_path / "data/calls", make_tone)
    write(folder / "text", "ann-1 hello there\n")
    write(folder / file, contents)
    with pytest.raises(DataError, match=message):
        load_corpus("manifest", folder)


def cut(path: Path, **changes: Any) -> dict[str, Any]:
    """A cut as lhotse 1.32 writes it behind `trim_to_supervisions()`."""
    supervision = {"id": "s1", "recording_id": "a", "start": 0.0, "duration": 2.0, "channel": 0, "text": "hello there",
                   "language": "en", "speaker": "ann", "custom": {"dialect": "x"}}  # fmt: skip
    source = {"type": "file", "channels": [0], "source": str(path)}
    recording = {"id": "a", "sources": [source], "sampling_rate": 8000, "num_samples": 48000, "duration": 6.0,
                 "channel_ids": [0]}  # fmt: skip
    return {"id": "s1", "start": 1.0, "duration": 2.0, "channel": 0, "supervisions": [supervision],
            "recording": recording, "type": "MonoCut", **changes}  # fmt: skip


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_cuts_of_lhotse(tmp_path: Path, make_tone: Tone, name: str) -> None:
    first = cut(make_tone(tmp_path / "a.wav", 6.0))
    inner = {**first["supervisions"][0], "start": 0.25, "duration": 1.0, "text": "a part"}
    text = lines(first, {**first, "supervisions": [inner]}, {**first, "supervisions": []})
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    corpus = load_corpus("manifest", tmp_path / name)
    assert [(e.transcript, e.segment, e.group) for e in clips(corpus, "en")] == [
        ("hello there", (1.0, 2.0), "ann"),
        ("a part", (1.25, 1.0), "ann"),
    ]
    assert any(note.startswith("rows without a transcript, which are left out: 1, ") for note in corpus.noticed)


def test_cuts_that_are_no_piece_of_one_file(tmp_path: Path, make_tone: Tone) -> None:
    whole = cut(make_tone(tmp_path / "a.wav", 6.0))
    recording, said = whole["recording"], whole["supervisions"][0]
    source = recording["sources"][0]
    for item, message in (
        ({**whole, "type": "MultiCut", "channel": [0, 1]}, "a MultiCut of lhotse"),
        ({"id": "m", "tracks": [], "type": "MixedCut"}, "a MixedCut of lhotse"),
        ({**whole, "recording": None, "features": {}}, "a cut with features alone"),
        ({**whole, "recording": {**recording, "transforms": [{"name": "Speed"}]}}, "a recording with transforms"),
        (
            {**whole, "recording": {**recording, "sources": [{**source, "channels": [0, 1]}]}},
            "a recording with several channels",
        ),
        (
            {**whole, "recording": {**recording, "sources": [{**source, "type": "command", "source": "touch x"}]}},
            "the audio is a command 'touch x', which is not read or run",
        ),
        (
            {**whole, "supervisions": [said, said]},
            r"a cut with 2 supervisions, expected one; call trim_to_supervisions",
        ),
        (said, "a recording or supervision of lhotse; expected cuts"),
        (recording, "a recording or supervision of lhotse; expected cuts"),
        ({**whole, "recording": {"id": "a"}}, "no cut as lhotse writes it: KeyError: 'sources'"),
    ):
        path = write(tmp_path / "cuts.jsonl", lines(item))
        with pytest.raises(DataError, match=rf"cuts\.jsonl, line 1: {message}"):
            load_corpus("manifest", path)
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-9])
    with pytest.raises(DataError, match=r"cuts\.jsonl\.gz: cannot be unpacked: "):
        load_corpus("manifest", tmp_path / "cuts.jsonl.gz")
