"""What a user's rows answer: classes of pairs and of recordings, numbers, tags; folders of classes and column files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data import Corpus, DataError, load_corpus
from harness.data.corpus import SPLITS, SpeechExample, TextExample, limit_train

MakeTone = Callable[..., Path]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def texts_of(corpus: Corpus, domain: str) -> tuple[TextExample, ...]:
    return tuple(example for example in corpus.domains[domain] if isinstance(example, TextExample))


def clips_of(corpus: Corpus, domain: str) -> tuple[SpeechExample, ...]:
    return tuple(example for example in corpus.domains[domain] if isinstance(example, SpeechExample))


@pytest.mark.parametrize(
    "first, second", [("text", "text_2"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("Text1", "Text2")]
)
def test_pairs_by_their_usual_names(tmp_path: Path, first: str, second: str) -> None:
    rows = f"domain,{first},{second},label\nnews,A man sleeps,He is awake,no\nnews,A man sleeps,He rests,yes\n"
    corpus = load_corpus("manifest", write(tmp_path / "nli.csv", rows))
    examples = texts_of(corpus, "news")
    assert [(e.text, e.second, corpus.classes[e.label or 0]) for e in examples] == [
        ("A man sleeps", "He is awake", "no"),
        ("A man sleeps", "He rests", "yes"),
    ]
    assert len({e.group for e in examples}) == 1, "pairs that share their first text are held out together"
    assert examples[0].shown == "A man sleeps / He is awake"
    swapped = load_corpus("manifest", write(tmp_path / "nli2.csv", rows.replace("He is awake,no", "He is here,no")))
    assert swapped.fingerprint != corpus.fingerprint


def test_a_pair_twice_is_left_out_and_a_file_with_a_text_has_no_aliases(tmp_path: Path) -> None:
    rows = "domain,text,text_2,label\na,x,y,no\na,x,y,yes\na,x,,no\n"
    path = write(tmp_path / "p.csv", rows)
    with pytest.raises(
        DataError, match=r"p\.csv, line 4: column 'text_2' is missing or empty; needed: domain, text, t"
    ):
        load_corpus("manifest", path)
    corpus = load_corpus("manifest", write(path, rows.rsplit("\n", 2)[0]))
    assert corpus.left_out == {"a": {"same text twice, with another label": 1}}
    lone = load_corpus("manifest", write(tmp_path / "q.csv", "domain,text,premise,hypothesis,label\na,x,y y y,z,no\n"))
    assert texts_of(lone, "a")[0].second is None
    assert any("premise" in note for note in lone.noticed)


@pytest.mark.parametrize(
    "columns, options", [("value", {}), ("label", {"answer": "value"}), ("label,value", {"answer": "value"})]
)
def test_numbers(tmp_path: Path, columns: str, options: dict[str, Any]) -> None:
    """A number has a column of its own, or is called a label, as STS-B calls it: then it is asked for."""
    rows = [("one", "-1.5"), ("two", "3"), ("three", "2e-1")]
    fields = columns.count(",")
    body = "".join(f"a,{text},{'x,' * fields}{number}\n" for text, number in rows)
    corpus = load_corpus("manifest", write(tmp_path / "v.csv", f"domain,text,{columns}\n{body}"), **options)
    assert [example.value for example in texts_of(corpus, "a")] == [-1.5, 3.0, 0.2]
    assert corpus.classes == corpus.symbols == () and corpus.absent_classes(corpus.domains["a"]) == ()
    assert len(limit_train(corpus.domains["a"], 2, 0)) == 2
    if fields:
        assert "the column 'label' is not read; data.options.answer: label would" in " ".join(corpus.noticed)


@pytest.mark.parametrize("number", ["nan", "inf", "good", "1,5"])
def test_what_is_no_number(tmp_path: Path, number: str) -> None:
    path = write(tmp_path / "v.jsonl", json.dumps({"domain": "a", "text": "t", "value": number}))
    with pytest.raises(DataError, match=rf"v\.jsonl, line 1: value must be a finite number, got '{number}'$"):
        load_corpus("manifest", path)


def test_scores_that_are_called_labels_are_refused_with_the_way_out(tmp_path: Path) -> None:
    body = "".join(f"a,text {n},{n / 7:.3f}\n" for n in range(30))
    with pytest.raises(DataError, match=r"scores rather than classes; .*data\.options\.answer: value"):
        load_corpus("manifest", write(tmp_path / "v.csv", f"domain,text,label\n{body}"))


def test_an_answer_that_there_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "v.csv", "domain,text,label\na,b,c\n")
    with pytest.raises(DataError, match=r"^answer: 'lable' is no kind of answer; choices: label, value, tags, t"):
        load_corpus("manifest", path, answer="lable")
    with pytest.raises(DataError, match=r"^.*line 2: label must be a finite number, got 'c'$"):
        load_corpus("manifest", path, answer="value")
    with pytest.raises(DataError, match=r"line 2: column 'path' is missing or empty; needed: domain, path, transcript"):
        load_corpus("manifest", path, answer="transcript")
    with pytest.raises(DataError, match=r"labels names classes, but the answers of these rows are numbers"):
        load_corpus("manifest", write(tmp_path / "w.csv", "domain,text,value\na,b,1\n"), labels=["1"])


def test_recordings_with_classes(tmp_path: Path, make_tone: MakeTone) -> None:
    for number in range(6):
        make_tone(tmp_path / f"{number}.wav")
    body = "".join(f"calls,{n}.wav,{'angry' if n % 3 else 'calm'},press {n} now\n" for n in range(6))
    path = write(tmp_path / "emotion.csv", f"domain,path,label,transcript\n{body}")
    corpus = load_corpus("manifest", path, answer="label")
    clips = clips_of(corpus, "calls")
    assert corpus.classes == ("angry", "calm") and corpus.symbols == ()
    assert [clip.label for clip in clips] == [1, 0, 0, 1, 0, 0]
    assert clips[0].shown == "press 0 now", "digits of a transcript that is not learnt leave no clip out"
    assert [clip.group for clip in clips] == [f"{n}.wav" for n in range(6)]
    assert any("each recording is a group of its own" in note for note in corpus.noticed)
    assert [clip.label for clip in clips_of(corpus, "calls") if clip in limit_train(clips, 3, 0)].count(0) == 2
    with pytest.raises(DataError, match=r"left out of calls: 6 \(digits: 6"):
        load_corpus("manifest", path)


def test_transcripts_come_before_labels(tmp_path: Path, make_tone: MakeTone) -> None:
    make_tone(tmp_path / "a.wav")
    path = write(tmp_path / "c.csv", "domain,path,transcript,label\na,a.wav,hello,calm\n")
    corpus = load_corpus("manifest", path)
    assert corpus.classes == () and clips_of(corpus, "a")[0].transcript == "hello"
    assert "the column 'label' is not read; data.options.answer: label would take it" in " ".join(corpus.noticed)
    line = json.dumps({"audio_filepath": "a.wav", "duration": 0.5, "command": "yes", "domain": "d"})
    commands = load_corpus("manifest", write(tmp_path / "nemo.json", line))
    assert commands.classes == ("yes",)


def test_folders_of_classes(tmp_path: Path, make_tone: MakeTone) -> None:
    """The layout of Speech Commands: speakers in the names, two lists for the splits, and noise of no class."""
    root = tmp_path / "words"
    names = ["yes/ann_nohash_0.wav", "yes/bob_nohash_0.wav", "no/ann_nohash_1.wav", "no/cy_nohash_0.WAV"]
    for name in (*names, "_background_noise_/pink.wav"):
        make_tone(root / name)
    write(root / "validation_list.txt", "yes/bob_nohash_0.wav\n")
    write(root / "testing_list.txt", "no/cy_nohash_0.WAV\r\n")
    corpus = load_corpus(f"manifest:{root}")
    assert corpus.classes == ("no", "yes") and list(corpus.domains) == ["words"]
    found = {s: sorted((c.group, corpus.classes[c.label or 0]) for c in corpus.speech("words", s)) for s in SPLITS}
    assert found == {"train": [("ann", "no"), ("ann", "yes")], "valid": [("bob", "yes")], "test": [("cy", "no")]}
    assert any("not read: 1, first _background_noise_/pink.wav" in note for note in corpus.noticed)

    both = tmp_path / "both"
    for domain in ("near", "far"):
        for label in ("yes", "no"):
            make_tone(both / domain / label / "one.flac" if domain == "far" else both / domain / label / "one.wav")
    corpus = load_corpus(f"manifest:{both}")
    assert {domain: len(clips) for domain, clips in corpus.domains.items()} == {"far": 2, "near": 2}
    assert corpus.fixed_splits is None

    for name in ("train", "test"):  # an audiofolder of Hugging Face
        for label in ("yes", "no"):
            make_tone(tmp_path / "hub" / name / label / "one.wav")
    corpus = load_corpus(f"manifest:{tmp_path / 'hub'}")
    assert corpus.classes == ("no", "yes") and {s: len(corpus.split("hub", s)) for s in ("train", "test")}["test"] == 2
    make_tone(tmp_path / "bare/train/one.wav")
    make_tone(tmp_path / "bare/test/one.wav")
    with pytest.raises(DataError, match="holds no rows"):
        load_corpus(f"manifest:{tmp_path / 'bare'}")


CONLL = """-DOCSTART- -X- -X- O

# sent_id = 1
EU NNP B-NP B-ORG
rejects VBZ B-VP O
# # O O
German JJ B-NP B-MISC

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
-DOCSTART- -X- -X- O

BRUSSELS NNP B-NP B-LOC
"""


def test_column_files(tmp_path: Path) -> None:
    corpus = load_corpus("manifest", write(tmp_path / "news.conll", CONLL))
    examples = texts_of(corpus, "news")
    assert [example.words for example in examples] == [
        ("EU", "rejects", "#", "German"),
        ("Peter", "Blackburn"),
        ("BRUSSELS",),
    ]
    assert examples[0].tags == ("B-ORG", "O", "O", "B-MISC") and examples[1].text == "Peter Blackburn"
    assert [example.group for example in examples] == ["news/1", "news/1", "news/2"]
    assert corpus.symbols == ("B-LOC", "B-MISC", "B-ORG", "B-PER", "I-PER", "O") and corpus.classes == ()


def test_column_files_of_domains_and_splits(tmp_path: Path) -> None:
    for domain in ("news", "chat"):
        for name in ("train", "dev", "test"):
            write(tmp_path / "ner" / domain / f"{name}.conll", f"same\tO\nnew york\tB-LOC\n\n{domain}{name}\tO\n")
    corpus = load_corpus(f"manifest:{tmp_path / 'ner'}")
    words = {split: [texts.words for texts in corpus.text("news", split)] for split in SPLITS}
    files = {"train": "train", "valid": "dev", "test": "test"}
    assert words == {split: [("same", "new york"), (f"news{name}",)] for split, name in files.items()}
    assert corpus.left_out == {} and any("texts that are in several splits" in note for note in corpus.noticed)
    write(tmp_path / "ner/news/other.conll", "a\tO\n")
    noticed = load_corpus(f"manifest:{tmp_path / 'ner'}").noticed
    assert any("their names name no split: other.conll" in note for note in noticed)


@pytest.mark.parametrize(
    "row, options",
    [
        ({"tokens": ["Peter", "sleeps"], "tags": ["B-PER", "O"]}, {}),
        ({"words": ["Peter", "sleeps"], "ner_tags": ["B-PER", "O"]}, {}),
        ({"tokens": ["Peter", "sleeps"], "ner_tags": [1, 0]}, {"labels": ["O", "B-PER"]}),
        ({"text": "Peter sleeps", "tokens": ["Peter", "sleeps"], "tags": ["B-PER", "O"]}, {"answer": "tags"}),
    ],
)
def test_lists_of_words_and_tags(tmp_path: Path, row: dict[str, Any], options: dict[str, Any]) -> None:
    corpus = load_corpus("manifest", write(tmp_path / "t.jsonl", json.dumps({"domain": "a", **row})), **options)
    (example,) = texts_of(corpus, "a")
    assert (example.words, example.tags) == (("Peter", "sleeps"), ("B-PER", "O"))
    assert set(corpus.symbols) == {"O", "B-PER"}


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.conll", "EU B-ORG\nrejects\n", r"a\.conll, line 2: the word 'rejects' has no tag"),
        ("a.conll", "1\tA\ta\tX\tX\t_\t0\troot\t_\t_\n", r"has the ten columns of CoNLL-U"),
        ("a.conll", "\n\n", r"holds no rows"),
        ("t.jsonl", '{"domain": "a", "tokens": ["x"], "tags": ["O", "O"]}', r"line 1: 1 tokens and 2 tags"),
        ("t.jsonl", '{"domain": "a", "tokens": "x y", "tags": ["O", "O"]}', r"tokens must be a list of words"),
        ("t.jsonl", '{"domain": "a", "tokens": [["x"]], "tags": ["O"]}', r"tokens must be a list of words"),
        ("t.jsonl", '{"domain": "a", "tokens": ["x"], "tags": ["B PER"]}', r"the tag 'B PER' is empty or holds a"),
    ],
)
def test_mistakes_in_tags_name_the_place(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as told:
        load_corpus("manifest", write(tmp_path / name, content))
    assert "\n" not in str(told.value)


def test_tags_by_number_need_names_for_all_of_them(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", json.dumps({"domain": "a", "tokens": ["x"], "tags": [3]}))
    with pytest.raises(DataError, match=r"tag 3 is none of the 2 that labels lists, from 0"):
        load_corpus("manifest", path, labels=["O", "B-PER"])
    assert load_corpus("manifest", path).symbols == ("3",)
