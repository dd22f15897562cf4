"""Scores by domain as one epoch's metrics. Standard library only: every contestant may use it."""

from __future__ import annotations


def average_sources(by_domain: dict[str, dict[str, float]], target: str) -> dict[str, float]:
    """Metrics by the harness's names: the target's, and the mean over the sources'."""
    sources = [scores for name, scores in by_domain.items() if name != target]
    entry = {f"valid_target/{name}": value for name, value in by_domain[target].items()}
    for name in by_domain[target].keys() - {"loss"}:
        entry[f"valid_source/{name}"] = sum(scores[name] for scores in sources) / len(sources)
    return entry
