"""Compute numbers that a record does not name: errors, relative gain, the base model's scores."""

from __future__ import annotations

from harness.metrics import PRIMARY_METRICS, as_error, original_scale, relative_gain
from harness.records.schema import Record
from harness.records.task import primary_of


def primary_metric(record: Record) -> str | None:
    """The primary metric of a record's task; None without test metrics."""
    primary = primary_of(record)
    return primary if f"target_{primary}" in record.summary.metrics else None


def primary_name(name: str, record: Record) -> str:
    """`target_primary` as the metric that it stands for in this record; any other name as it is."""
    if name not in PRIMARY_METRICS:
        return name
    primary = primary_metric(record)
    return name if primary is None else f"{name.removesuffix('primary')}{primary}"


def derived_value(name: str, record: Record) -> float | None:
    """One of `DERIVED_METRICS` (a fraction), from the test metrics before and after adapting; None if they lack."""
    summary, primary = record.summary, primary_metric(record)
    data = record.config.get("data", {})
    target, sources = data.get("target"), data.get("source", ())
    domains = [target, *sources]
    if primary is None or not sources:
        return None
    if any(primary not in table.get(domain, {}) for table in (summary.base, summary.by_domain) for domain in domains):
        return None
    before = [summary.base[source][primary] for source in sources]
    after = [summary.by_domain[source][primary] for source in sources]
    base, adapted = summary.base[target][primary], summary.by_domain[target][primary]
    errors = {
        "target_error": adapted,
        "base_target_error": base,
        "source_error": sum(after) / len(after),
        "base_source_error": sum(before) / len(before),
    }
    if name in errors:
        return as_error(primary, errors[name])
    if name == "relative_gain":
        return relative_gain(primary, base, adapted)
    return original_scale(primary, before, after) if name == "original_scale" else None
