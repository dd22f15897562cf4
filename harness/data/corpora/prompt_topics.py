"""What a telephone prompt is about, in five languages: the texts of the Asterisk prompts, without their recordings.

A prompt's key says its topic (`vm-` voicemail, `conf-` conference ...), the same in every language, so that a
classifier that learnt some languages can be tried on another. The prompts of one key are held out together in all
languages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.data.cache import data_cache
from harness.data.corpora.asterisk import has_asterisk, read_prompts, version_notes
from harness.data.corpora.prompt_groups import prompt_group
from harness.data.corpus import Corpus, LeftOut, TextExample, fingerprint_texts
from harness.data.fetch.asterisk import LANGUAGES, check_languages, fetch_asterisk
from harness.data.text_cleaning import clean_text

TOPICS: dict[str, tuple[str, ...]] = {
    "calls": ("agent", "call", "dir", "followme", "pbx", "priv", "privacy", "queue", "spy", "to"),
    "conference": ("conf", "confbridge"),
    "letters": ("letters", "phonetic"),
    "numbers": ("digits",),
    "voicemail": ("dictate", "vm"),
}
"""Topic -> what its keys begin with, up to the first `-` or `/`."""

_OF_BEGINNING = {beginning: topic for topic, beginnings in TOPICS.items() for beginning in beginnings}
_STAGE_DIRECTION = re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)")
NOTES = (
    "telephone prompts: the words of the test prompts mostly occur in training prompts too",
    "the topic of a prompt is told by its key, not by people who read it",
)


def fetch_prompt_topics(folder: Path, *, allow_other_version: bool = False) -> None:
    """Fetch the corpus `asterisk`, whose texts these are; `folder` is not used."""
    fetch_asterisk(data_cache() / "asterisk", allow_other_version=allow_other_version)


def has_prompt_topics(folder: Path) -> bool:
    """Return whether the corpus `asterisk` is there; `folder` is not used."""
    return has_asterisk(data_cache() / "asterisk")


def load_prompt_topics(folder: Path, *, languages: Sequence[str] = LANGUAGES) -> Corpus:
    """Read the prompts of `languages`, each one domain; `folder` is not used, as the texts are those of `asterisk`.

    Left out are prompts of no topic, and what has no letter outside of stage directions. Raises DataError for an
    unknown language, and where the prompts are not there.
    """
    check_languages(languages)
    symbols, left_out = tuple(TOPICS), LeftOut()
    domains = {}
    for language in languages:
        examples = []
        for key, raw in sorted(read_prompts(data_cache() / "asterisk", language).items()):
            topic = _OF_BEGINNING.get(re.split("[-/]", key)[0])
            text = clean_text(_STAGE_DIRECTION.sub(" ", raw))
            if topic is None or not any(map(str.isalpha, text)):
                left_out.add(language, "no topic" if topic is None else "no words", key)
                continue
            label = symbols.index(topic)
            examples.append(TextExample(f"{language}/{key}", prompt_group(key), language, text, label))
        domains[language] = tuple(examples)
    return Corpus(
        name="prompt_topics",
        modality="text",
        domains=domains,
        symbols=symbols,
        fingerprint=fingerprint_texts(e for examples in domains.values() for e in examples),
        notes=(*NOTES, *version_notes(data_cache() / "asterisk", languages)),
        left_out=left_out.counts,
    )
