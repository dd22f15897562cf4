"""The commands `harness data list` and `harness data fetch`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from harness.data.corpora.registry import CORPORA, fetch_corpus, find_source, is_fetched


def list_command() -> None:
    """Print every corpus: whether it is here, what it is, its licence."""
    for name, source in CORPORA.items():
        here = "local" if source.fetch is None else "here" if is_fetched(name) else "not fetched"
        print(f"{name:15} {here:12} {source.family or 'text or speech'}: {source.summary} ({source.licence})")


def show_fetching() -> None:
    """Print what the fetchers log: a fetch can take a minute, and should not look stuck."""
    logger = logging.getLogger("harness.data")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def fetch_command(names: Sequence[str], allow_other_version: bool) -> None:
    """Fetch corpora; every name is checked before the first one is fetched."""
    for name in names:
        find_source(name)
    show_fetching()
    for name in names:
        already = is_fetched(name)
        folder = fetch_corpus(name, allow_other_version=allow_other_version)
        print(f"{name}: {'already' if already else 'now'} in {folder}")
