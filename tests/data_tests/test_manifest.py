"""A user's own corpus: manifests, folders, and mistakes in them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import Corpus, DataError, load_corpus
from harness.data.corpus import SPLITS

CSV = """domain,text,label,group
books,A fine book,good,b1
books,"Dull, and long",bad,b2
films,A fine film,good,b1
films,a  fine film,good,b9
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def texts(corpus: Corpus, domain: str) -> list[tuple[str, str]]:
    found = [e for split in SPLITS for e in corpus.text(domain, split)]
    return sorted((e.text, corpus.symbols[e.label]) for e in found)


def test_csv(tmp_path: Path) -> None:
    corpus = load_corpus("manifest", write(tmp_path / "mine.csv", CSV))
    assert corpus.name == "manifest:mine"
    assert corpus.modality == "text"
    assert corpus.symbols == ("bad", "good")
    assert texts(corpus, "books") == [("A fine book", "good"), ("Dull, and long", "bad")]
    assert corpus.left_out == {"films": {"same text twice": 1}}
    assert {e.group for e in corpus.domains["films"]} == {"b1"}


def test_name_with_path_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.csv", CSV)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_corpus("manifest:~/mine.csv") == load_corpus("manifest", tmp_path / "mine.csv")


def test_same_contents_same_fingerprint_in_any_format(tmp_path: Path) -> None:
    rows = [{"domain": "a", "text": f"text {i}", "label": i % 2} for i in range(6)]
    jsonl = write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    header = "domain\ttext\tlabel\n"
    tsv = write(tmp_path / "x.tsv", header + "".join(f"a\ttext {i}\t{i % 2}\n" for i in range(6)))
    assert load_corpus("manifest", jsonl).fingerprint == load_corpus("manifest", tsv).fingerprint


def test_given_splits_are_kept(tmp_path: Path) -> None:
    rows = "domain,text,label,split\n" + "".join(f"a,text {i},x,{s}\n" for i, s in enumerate(SPLITS))
    corpus = load_corpus("manifest", write(tmp_path / "x.csv", rows))
    assert [corpus.text("a", split)[0].text for split in SPLITS] == ["text 0", "text 1", "text 2"]
    other = load_corpus("manifest", write(tmp_path / "x.csv", rows.replace("test", "valid")))
    assert other.fingerprint != corpus.fingerprint


def test_class_order_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", CSV)
    assert load_corpus("manifest", path, labels=("good", "bad")).symbols == ("good", "bad")
    with pytest.raises(DataError, match=r"mine\.csv, line 3: unknown label 'bad'; choices: good"):
        load_corpus("manifest", path, labels=("good",))


def test_text_folder(tmp_path: Path) -> None:
    write(tmp_path / "books/good.txt", "A fine book\n\nAnother\n")
    write(tmp_path / "books/bad.txt", "Dull\n")
    write(tmp_path / "films/good/one.txt", "A fine film\nof two lines\n")
    write(tmp_path / ".hidden/good.txt", "no\n")
    corpus = load_corpus("manifest", tmp_path)
    assert texts(corpus, "books") == [("A fine book", "good"), ("Another", "good"), ("Dull", "bad")]
    assert texts(corpus, "films") == [("A fine film of two lines", "good")]
    assert set(corpus.domains) == {"books", "films"}


def test_speech_folder(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    make_tone(tmp_path / "calls/one.wav", seconds=1.0)
    make_tone(tmp_path / "calls/deep/two.wav", seconds=1.0)
    write(tmp_path / "calls/transcripts.tsv", "one.wav\tPerché no?\ndeep/two.wav\tpress 1\n")
    corpus = load_corpus("manifest", tmp_path)
    assert corpus.modality == "speech"
    (example,) = corpus.domains["calls"]
    assert corpus.speech("calls", corpus.split_of(example.group))[0].transcript == "perche no"
    assert corpus.left_out == {"calls": {"digits": 1}}


def test_speech_manifest_with_relative_paths_and_limits(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    make_tone(tmp_path / "audio/long.wav", seconds=3.0)
    make_tone(tmp_path / "audio/short.wav", seconds=1.0)
    rows = "domain,path,transcript,group\na,audio/long.wav,yes,s1\na,audio/short.wav,no,s2\n"
    path = write(tmp_path / "m.csv", rows)
    assert len(load_corpus("manifest", path).domains["a"]) == 2
    corpus = load_corpus("manifest", path, longest_s=2.0)
    assert [e.group for e in corpus.domains["a"]] == ["s2"]


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("m.csv", "domain,text\na,hello\n", r"line 2: column 'label' is missing or empty; needed: domain, t"),
        ("m.csv", "domain,text,label\na,,x\n", r"m\.csv, line 2: column 'text' is missing or empty"),
        ("m.csv", "domain,text,label\na,b\n", r"m\.csv, line 2: expected 3 columns"),
        ("m.csv", "domain,text,label\na,b,c,d\n", r"m\.csv, line 2: expected 3 columns"),
        ("m.csv", "domain,text,label\n", r"m\.csv: holds no rows"),
        ("m.csv", "domain,file\na,b\n", r"column 'path' is missing or empty; needed: domain, path, tr"),
        ("m.csv", "domain,path,transcript\na,b.wav,hi\n", r"b\.wav: cannot be read as audio: .+"),
        ("m.csv", "domain,text,label,split\na,b,c,dev\n", r"split is 'dev'; choices: train, valid, test"),
        ("m.csv", "domain,text,label,split,group\na,b,c,test,g\na,d,c,train,g\n",
         "group 'g' is in train and in test"),
        ("m.csv", "domain,text,label,key\na,b,c,1\na,d,c,1\n", "key 'a/1' occurs twice"),
        ("m.jsonl", "{broken\n", r"m\.jsonl, line 1: not JSON"),
        ("m.jsonl", "[1, 2]\n", r"m\.jsonl, line 1: expected an object with columns"),
        ("m.json", "{}", r"m\.json: not a manifest; expected a \.csv, \.tsv or \.jsonl file, or a folder"),
        ("a/transcripts.tsv", "no tab here\n", r"transcripts\.tsv, line 1: expected FILE<tab>TRANSCRIPT"),
        ("a/readme.md", "nothing", r"holds no rows; expected DOMAIN/LABEL\.txt"),
    ],
)  # fmt: skip
def test_mistakes_name_the_place(tmp_path: Path, name: str, contents: str, message: str) -> None:
    path = write(tmp_path / name, contents)
    with pytest.raises(DataError, match=message):
        load_corpus("manifest", tmp_path if "/" in name else path)


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.csv: cannot be read: No such file or directory"):
        load_corpus("manifest", tmp_path / "nope.csv")
    (tmp_path / "latin.csv").write_bytes(b"domain,text,label\na,caf\xe9,x\n")
    with pytest.raises(DataError, match=r"latin\.csv: not UTF-8: .* at byte 23"):
        load_corpus("manifest", tmp_path / "latin.csv")
