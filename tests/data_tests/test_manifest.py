"""A user's own corpus: manifests, folders, and mistakes in them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import Corpus, DataError, SpeechExample, load_corpus
from harness.data.corpus import SPLITS, class_of
from harness.data.features import FeatureCache, LogMel

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
    return sorted((e.text, corpus.symbols[class_of(e)]) for e in found)


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
    corpus = load_corpus("manifest", path, shortest_s=1.5)
    assert [e.group for e in corpus.domains["a"]] == ["s1"]
    assert corpus.left_out_text("a") == "left out of a: 1 (too short: 1, first in m.csv, line 3)"
    with pytest.raises(DataError, match=r"option longest_s must be a number of seconds, got 'long'"):
        load_corpus("manifest", path, longest_s="long")


def test_small_letters_of_turkish_are_noticed(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    make_tone(tmp_path / "a.wav", seconds=3.0)
    path = write(tmp_path / "m.csv", "domain,path,transcript\ntr,a.wav,IŞIK kırmızı\n")
    (note,) = load_corpus("manifest", path, normaliser="basic").noticed
    assert note.endswith("whose capital the normaliser basic reads as i; basic_turkish reads it as ı")
    assert load_corpus("manifest", path, normaliser="basic_turkish").noticed == ()


def test_transcripts_have_the_text_of_the_normaliser(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    make_tone(tmp_path / "long.wav", seconds=12.0)
    raw = "Ёж, 你好 — IŞIK 3!"
    path = write(tmp_path / "m.csv", f'domain,path,transcript,split\nа,long.wav,"{raw}",train\n')
    found = {}
    for name in ("basic", "basic_turkish", "none"):
        corpus = load_corpus("manifest", path, normaliser=name)
        (clip,) = corpus.speech("а", "train")
        assert clip.raw == raw and clip.seconds == 12.0 and corpus.symbols == tuple(sorted(set(clip.transcript)))
        assert f"the text of the normaliser {name} (" in corpus.notes[-1]
        found[clip.transcript] = corpus.fingerprint
        assert not corpus.noticed
    assert list(found) == ["ёж 你好 işik 3", "ёж 你好 ışık 3", raw] and len(set(found.values())) == 3
    with pytest.raises(DataError, match=r"left out of а: 1 \(digits: 1, first in m\.csv, line 2\)"):
        load_corpus("manifest", path)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("m.csv", "domain,text\na,hello\n", r"line 2: column 'label' is missing or empty; needed: domain, t"),
        ("m.csv", "domain,text,label\na,,x\n", r"m\.csv, line 2: column 'text' is missing or empty"),
        ("m.csv", "domain,text,label\na,b\n", r"m\.csv, line 2: expected 3 columns"),
        ("m.csv", "domain,text,label\na,b,c,d\n", r"m\.csv, line 2: expected 3 columns"),
        ("m.csv", "domain,text,label\n", r"m\.csv: holds no rows"),
        ("m.csv", "domain,file\na,b\n", r"no column of texts .* or recordings .path.; found: domain, file; say "),
        ("m.csv", "domain,path,transcript\na,b.wav,hi\n", r"b\.wav: cannot be read as audio: .+"),
        ("m.csv", "domain,text,label,split\na,b,c,dev\n", r"split is 'dev'; choices: train, valid, test"),
        ("m.csv", "domain,text,label,split,group\na,b,c,test,g\na,d,c,train,g\n",
         "group 'g' is in train and in test"),
        ("m.csv", "domain,text,label,key\na,b,c,1\na,d,c,1\n", "key 'a/1' occurs twice"),
        ("m.jsonl", "{broken\n", r"m\.jsonl, line 1: not JSON"),
        ("m.jsonl", "[1, 2]\n", r"m\.jsonl, line 1: expected an object with columns"),
        ("m.json", "{}", r"m\.json, line 1: column 'domain' is missing or empty; .*; found: none"),
        ("m.json", '[{"domain": "a"}, 3]', r"m\.json, object 2: expected an object with columns, got '3'"),
        ("m.xlsx", "", r"m\.xlsx: not a manifest; expected a \.csv, \.tsv, \.jsonl, \.json, \.parquet or \.conll f"),
        ("m.jsonl", '{"domain": "a", "domain": "b"}\n', r"line 1: the column 'domain' occurs 2 times"),
        ("m.jsonl", '{"domain": "a", "text": ["b"], "label": "c"}\n', r"line 1: column 'text' must be a text or a num"),
        ("m.jsonl", '{"domain": "a", "text": "b", "label": NaN}\n', r"line 1: column 'label' is missing or empty"),
        ("m.jsonl", '{"domain": "a", "text": "b", "label": null}\n', r"line 1: column 'label' is missing or empty"),
        ("m.jsonl", '{"domain": %s}\n' % ("9" * 5000), r"m\.jsonl, line 1: cannot be read as JSON: Exceeds the limit"),
        ("m.jsonl", '{"domain": %s1\n' % ("[" * 100_000), r"m\.jsonl, line 1: cannot be read as JSON: "),
        ("m.csv", "domain,text,Text,label\na,b,c,d\n", r"m\.csv, line 1: the column 'text' occurs 2 times"),
        ("m.csv", "domain,text,label\n\u200b,b,c\n", r"line 2: column 'domain' holds invisible characters alone"),
        ("m.csv", "domain,path,transcript,offset\na,b.wav,hi,1\n", r"m\.csv, line 2: .*b\.wav: cannot be read"),
        ("m.csv", "domain,path,transcript\na,~nobody_here/b.wav,hi\n", r"m\.csv, line 2: Could not determine home"),
        ("a/transcripts.tsv", "a.wav\thello\tanna\n", r"transcripts\.tsv, line 1: expected FILE<tab>TRANSCRIPT"),
        ("a/transcripts.tsv", "no tab here\n", r"transcripts\.tsv, line 1: expected FILE<tab>TRANSCRIPT"),
        ("a/readme.md", "nothing", r"holds no rows; expected DOMAIN/LABEL\.txt"),
    ],
)  # fmt: skip
def test_mistakes_name_the_place(tmp_path: Path, name: str, contents: str, message: str) -> None:
    path = write(tmp_path / name, contents)
    with pytest.raises(DataError, match=message):
        load_corpus("manifest", tmp_path if "/" in name else path)


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("x.csv", "Domain, TEXT ,label\nfilms , a fine film,good \nfilms\u200b,a dull film,\u00a0bad\n"),
        ("x.csv", ",domain,text,label\n0,films,a fine film,good\n1,films,a dull film,bad\n"),  # pandas' index
        ("x.csv", "domain;text;label\r\nfilms;a fine film;good\r\nfilms;a dull film;bad\r\n"),
        ("x.TSV", "domain\ttext\tlabel\nfilms\ta fine film\tgood\nfi\u00adlms\ta dull film\tbad\n"),
        ("x.json", '[{"domain": "films", "text": "a fine film", "label": "good"},\n'
                   '{"domain": "films", "text": "a dull film", "label": "bad"}]'),
        ("x.json", '{"domain": "films", "text": "a fine film", "label": "good", "score": NaN}\r\n\r\n'
                   '{"domain": "films ", "text": "a dull\\u0000film", "label": "bad"}\r\n'),
        ("x.ndjson", '\ufeff{"domain": "films", "text": "a fine film \\ud83d", "label": "good"}\n'
                     '{"domain": "films", "text": "a dull film", "label": "bad"}\n'),
    ],
)  # fmt: skip
def test_as_users_write_them(tmp_path: Path, name: str, contents: str) -> None:
    corpus = load_corpus("manifest", write(tmp_path / name, contents))
    assert {domain: texts(corpus, domain) for domain in corpus.domains} == {
        "films": [("a dull film", "bad"), ("a fine film", "good")]
    }
    json.dumps(
        [example.shown for example in corpus.examples("films")], ensure_ascii=False
    ).encode()  # no half an emoji in it


def test_composed_and_other_letters_are_one_domain(tmp_path: Path) -> None:
    rows = "domain,text,label\ncafe\u0301,one text,x\ncaf\u00e9,another text,x\nCAFÉ,a third text,x\n"
    corpus = load_corpus("manifest", write(tmp_path / "x.csv", rows))
    assert {domain: len(members) for domain, members in corpus.domains.items()} == {"caf\u00e9": 2, "CAFÉ": 1}
    assert "the domains 'CAFÉ' and 'café' are two, although only their spelling differs" in corpus.noticed


def test_labels_that_yaml_reads_as_something_else(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "domain,text,label\na,one,no\na,two,yes\n")
    assert load_corpus("manifest", path, labels=[True, False]).symbols == ("yes", "no")
    write(path, "domain,text,label\na,one,0\na,two,1\n")
    assert load_corpus("manifest", path, labels=[0, 1]).symbols == ("0", "1")


def test_what_is_left_out_is_said_with_its_place(tmp_path: Path) -> None:
    rows = "domain,text,label\na,one text,x\na,\ufffd,x\na,One  text,x\na,ONE text,y\na,one text,x\nb,\ufffd,y\n"
    corpus = load_corpus("manifest", write(tmp_path / "x.csv", rows))
    assert corpus.left_out["a"] == {"no text": 1, "same text twice": 2, "same text twice, with another label": 1}
    assert corpus.remarks(["a"])[-1] == (
        "left out of a: 4 (no text: 1, first in x.csv, line 3; same text twice: 2, first in x.csv, line 4; "
        "same text twice, with another label: 1, first in x.csv, line 5)"
    )
    assert "texts with lost characters (U+FFFD, half an emoji): 2, first in x.csv, line 3" in corpus.noticed
    with pytest.raises(DataError, match=r"domain 'b' has no usable example; left out of b: 1 \(no text: 1, first in x"):
        corpus.examples("b")
    only = write(tmp_path / "y.csv", "domain,text,label\nb,\ufffd,y\n")
    with pytest.raises(DataError, match=r"has no domains with a usable example; left out of b: 1"):
        load_corpus("manifest", only)


def test_transcripts_in_another_script_are_said(tmp_path: Path, make_tone: Callable[..., Path]) -> None:
    make_tone(tmp_path / "a.wav", seconds=2.0)
    path = write(tmp_path / "x.csv", "domain,path,transcript\nzh,a.wav,今天天气很好\nzh,a.wav,明天见\n")
    message = (
        r"no domains with a usable example; left out of zh: 2 \(letters outside a-z: 2, first in x\.csv, line 2 \(今"
    )
    with pytest.raises(DataError, match=message):
        load_corpus("manifest", path)


def test_columns_that_are_not_read_are_said(tmp_path: Path) -> None:
    header = "domain,text,label,premise,groups,id,transcript\n"
    rows = "".join(f"a,text {i},x,the {i}th premise of it,g{i},{i},\n" for i in range(4))
    corpus = load_corpus("manifest", write(tmp_path / "x.csv", header + rows))
    assert corpus.noticed[1:] == (
        "the column 'premise' holds texts too, and is not read: an example is its text alone",
        "the column 'groups' is not read; if it is the group, call it group",
        "columns that are not read: id, transcript",
    )


def test_test_texts_in_training_are_said(tmp_path: Path) -> None:
    rows = "domain,text,label,group,split\na,the very same remark,x,1,train\nb,The very same remark!,y,2,test\n"
    corpus = load_corpus("manifest", write(tmp_path / "x.csv", rows))
    assert corpus.noticed == ("1 of 1 test texts are copies of training texts",)


def test_files_of_a_folder_that_are_not_read_are_said(tmp_path: Path) -> None:
    write(tmp_path / "books/good.TXT", "A fine book\r\nAnother\r\n")
    write(tmp_path / "books/bad/one.txt", "Dull")
    write(tmp_path / "books/bad/two.doc", "Dull")
    write(tmp_path / "notes.md", "Dull")
    corpus = load_corpus("manifest", tmp_path)
    assert [text for text, _ in texts(corpus, "books")] == ["A fine book", "Another", "Dull"]
    assert corpus.noticed[0].endswith(": files of the folder that are not read: 2, first books/bad/two.doc")


def test_manifest_of_nemo(tmp_path: Path, make_tone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_tone(tmp_path / "audio/long.wav", seconds=3.0)
    rows: list[dict[str, object]] = [
        {"audio_filepath": "audio/long.wav", "text": "all of it", "duration": 3.01},
        {"audio_filepath": "~/audio/long.wav", "text": "a part", "offset": 1.0, "duration": 0.5},
        {"audio_filepath": str(tmp_path / "audio/long.wav"), "text": "the rest", "offset": 2.0},
    ]
    path = write(tmp_path / "train.json", "".join(json.dumps({"domain": "calls", **row}) + "\n" for row in rows))
    whole, part, rest = load_corpus("manifest", path).domains["calls"]
    assert [e.shown for e in (whole, part, rest)] == ["all of it", "a part", "the rest"]
    assert isinstance(part, SpeechExample) and isinstance(whole, SpeechExample) and isinstance(rest, SpeechExample)
    assert (whole.segment, part.segment, rest.segment) == (None, (1.0, 0.5), (2.0, 1.0))
    assert (whole.seconds, part.seconds, rest.seconds) == (3.0, 0.5, 1.0)
    num_frames = [
        len(features)
        for features in FeatureCache(load_corpus("manifest", path), LogMel(), tmp_path).features([whole, part, rest])
    ]
    assert num_frames == [301, 51, 101]
    for wrong in ({"offset": 4.0}, {"offset": -1.0}, {"duration": 5.0}, {"duration": 0}, {"duration": "long"}):
        row = {"domain": "calls", "audio_filepath": "audio/long.wav", "text": "all of it", **wrong}
        write(path, json.dumps(row))
        with pytest.raises(
            DataError, match=r"train\.json, line 1: (offset .* does not lie in|duration must be a number)"
        ):
            load_corpus("manifest", path)


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.csv: cannot be read: No such file or directory"):
        load_corpus("manifest", tmp_path / "nope.csv")
    (tmp_path / "latin.csv").write_bytes(b"domain,text,label\na,caf\xe9,x\n")
    with pytest.raises(DataError, match=r"latin\.csv: not UTF-8: .* at byte 23"):
        load_corpus("manifest", tmp_path / "latin.csv")
