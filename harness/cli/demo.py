"""The command `harness demo`: real data, a small text sweep, a speech experiment, their tables and reports."""

from __future__ import annotations

import os
from pathlib import Path

from harness.cli.data import show_fetching
from harness.cli.options import RESULTS, Quiet, Results
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.sweep import sweep
from harness.errors import UserError

SWEEP = "quickstart"


def demo(results: Results = RESULTS, quiet: Quiet = False) -> None:
    """Run a sweep on real text and an experiment on speech. The data is fetched first, reports are written last."""
    from harness.data.corpora.registry import fetch_corpus

    show_fetching()
    jobs = min(2, os.cpu_count() or 1)
    print("== Text: fetching the sentences (from vaderSentiment's source package, through pip)", flush=True)
    fetch_corpus("vader")
    sweep(Path(SWEEP), jobs=jobs, results=results, yes=True, quiet=quiet)
    speech = speech_experiment()
    run(Path(speech), jobs=jobs, engine="cut", results=results, quiet=quiet)
    print("\n== Reports: one page each, with the table, the methods, figures and changed examples", flush=True)
    for name in (SWEEP, speech):
        report(name, results)
    print(
        "\nNext: `harness plan text_depth_x_l2` says what a larger sweep costs; "
        "`harness init my_project` writes a small project with a strategy of your own."
    )


def speech_experiment() -> str:
    """The name of the speech experiment: with real recordings where they can be fetched, else with synthetic speech."""
    from harness.data.corpora.registry import fetch_corpus

    print("\n== Speech: fetching the recordings (Asterisk's core sounds, through apt)", flush=True)
    try:
        fetch_corpus("asterisk", allow_other_version=True)  # the table says so if it is another one
    except UserError as error:
        print(f"The recordings cannot be fetched here: {error}")
        print("The demo therefore uses SYNTHETIC speech (py-nanotts), and its table says so.", flush=True)
        fetch_corpus("nanotts")
        return "demo_speech_synthetic"
    return "demo_speech"
