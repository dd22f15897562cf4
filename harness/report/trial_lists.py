"""List trials that did not end as planned, by state, and what the records were made with."""

from __future__ import annotations

from collections import Counter

from harness.config.trees import show
from harness.figures.labels import short_labels
from harness.report.settings_view import Grid
from harness.report.sources import Sources

STATES = ("failed", "pruned", "running", "waiting")


def unfinished_grid(sources: Sources) -> Grid | None:
    """Trials of the table that failed or are missing; None where there is none."""
    if sources.manifest is None:
        return None
    rows = []
    for arm, seeds in sources.manifest.arms.items():
        for seed, trial_id in seeds.items():
            record = sources.records.get((arm, seed))
            if record is None:
                rows.append((arm, str(seed), trial_id, "missing", "", ""))
            elif record.summary.state != "complete":
                summary = record.summary
                rows.append(
                    (arm, str(seed), trial_id, str(summary.state.value), summary.reason or "", summary.message or "")
                )
    headers = ("arm", "seed", "trial", "state", "reason", "message")
    return Grid("Trials of the table that are not complete", headers, tuple(rows)) if rows else None


def search_grid(sources: Sources) -> Grid | None:
    """Trials of the search that failed or were pruned, with their settings; None where there is none."""
    if sources.search is None:
        return None
    points = [point for point in sources.search.points if point.state in STATES]
    keys = list(dict.fromkeys(key for point in points for key in point.params))
    rows = tuple(
        (
            point.arm,
            str(point.number),
            point.state,
            point.reason or ("stopped early by the pruner" if point.state == "pruned" else ""),
            str(point.epochs),
            *(show(point.params[key]) if key in point.params else "–" for key in keys),
        )
        for point in points
    )
    headers = ("arm", "trial", "state", "reason", "epochs", *short_labels(keys).values())
    return Grid("Trials of the search that were pruned or failed", headers, rows) if rows else None


def search_counts(sources: Sources) -> Grid | None:
    """How many trials each arm's search had, by state."""
    if sources.search is None:
        return None
    states = ("complete", "pruned", "failed")
    rows = tuple(
        (arm, *(str(sum(p.state == state for p in sources.search.points if p.arm == arm)) for state in states))
        for arm in sources.search.axes
    )
    return Grid("Trials of the search by state", ("arm", *states), rows)


def provenance_grid(sources: Sources) -> Grid | None:
    """What the records were made with: a row a fact, each distinct value with the number of its records."""
    made = [record.provenance for _, _, record in sources.complete() if record.provenance is not None]
    if not made:
        return None
    facts: dict[str, Counter[str]] = {}
    for provenance in made:
        commit = provenance.git_commit or "unknown (not in a checkout)"
        dirty = {True: " with uncommitted changes", False: "", None: ""}[provenance.git_dirty]
        values = {
            "harness": provenance.harness_version,
            "commit": commit + dirty,
            "corpus fingerprint": provenance.corpus_fingerprint,
            "backbone fingerprint": provenance.backbone_fingerprint,
            "machine": ", ".join(
                provenance.machine.get(k, "") for k in ("processor", "system") if k in provenance.machine
            )
            + (f", {provenance.machine['cores']} cores" if "cores" in provenance.machine else ""),
            "packages": ", ".join(f"{name} {version}" for name, version in provenance.packages.items()),
            **{f"user code: {name}": f"SHA-256 {digest[:12]}" for name, digest in provenance.user_code.items()},
        }
        for name, value in values.items():
            facts.setdefault(name, Counter())[value] += 1
    rows = [
        (
            name,
            "; ".join(value if len(counts) == 1 else f"{value} ({count} records)" for value, count in counts.items()),
        )
        for name, counts in facts.items()
    ]
    rows.append(("trained", f"{min(p.started_at for p in made)} to {max(p.finished_at for p in made)}"))
    again = sum(provenance.num_starts > 1 for provenance in made)
    rows.append(("interrupted and resumed", f"{again} of {len(made)} trials"))
    seconds = sum(record.summary.costs.get("seconds", 0.0) for _, _, record in sources.complete())
    rows.append(("training and scoring time", f"{seconds / 60:.1f} min, summed over the trials"))
    return Grid("What the records were made with", ("fact", "value"), tuple(rows))
