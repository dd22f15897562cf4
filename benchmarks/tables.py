"""Results of benchmarks as the Markdown of docs/benchmarks.md: medians, predicted limits, losses named as losses.

python benchmarks/tables.py        # prints every section that has a result in benchmarks/results/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reporting import read_result

LOSES_BELOW = 0.97  # of the plain loop's speed
METRICS = {"valid_target/macro_f1": "macro-F1", "valid_target/cer": "CER"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers.

    Raises:
        ValueError: a row has another number of cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"{len(row)} cells under {len(header)} headings: {row}")
    lines = ["| " + " | ".join(header) + " |", "| :--- |" + " ---: |" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def machine_line(machine: dict[str, Any]) -> str:
    """What the numbers were taken on, and under which load."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, {machine.get('gpu') or 'no GPU'}, "
        f"{packages}; load average when it began: {machine['load_average']}."
    )


def grid_table(result: dict[str, Any]) -> str:
    """One row a cell; a loss is printed in bold, with the word."""
    header = (
        "encoder, tokens a step, depth", "plain, ms", "bare / plain", "cut", "limit G", "cut / G", "packing", "K",
        "cut x packing", "chosen",
    )  # fmt: skip
    rows = []
    for cell in result["cells"]:
        rows.append(
            (
                f"{cell['size']}, {cell['tokens']}, {cell['depth']}",
                f"{cell['ms']['plain']:.2f}",
                f"{cell['overhead']:.2f}",
                gain(cell["cut"]),
                f"{cell['cut_limit']:.2f}",
                f"{cell['cut'] / cell['cut_limit']:.2f}",
                gain(cell["packing"]),
                str(cell["best_pack"]),
                gain(cell["total"]),
                f"{cell['chosen']:.2f}",
            )
        )
    return f"{machine_line(result['machine'])}\n\n{markdown(header, rows)}"


def gain(ratio: float) -> str:
    """A speed-up; below `LOSES_BELOW` it is said to be a loss."""
    return f"{ratio:.2f}" if ratio >= LOSES_BELOW else f"**{ratio:.2f} (loses)**"


def race_table(result: dict[str, Any]) -> str:
    """One row a contestant, and the trials' final metrics below."""
    metric = result.get("metric", "valid_target/macro_f1")
    header = (
        "contestant",
        "wall s (range)",
        "CPU s",
        "peak MB",
        "speed-up",
        f"mean final {METRICS[metric]}",
        "largest difference",
    )
    rows = []
    for one in result["contestants"]:
        low, high = one["wall_range_s"]
        rows.append(
            (
                one["name"],
                f"{one['wall_s']:.2f} ({low:.2f} to {high:.2f})",
                f"{one['cpu_s']:.1f}",
                f"{one['peak_mb']:.0f}",
                f"{one['speedup']:.2f}",
                f"{one['mean_final']:.4f}",
                f"{one['greatest_difference']:.4f}",
            )
        )
    rows += [(one["name"], one["note"], *["-"] * 5) for one in result["not_run"]]
    settings = ", ".join(f"{name} {value}" for name, value in result["workload"].items())
    runs = min(one["num_runs"] for one in result["contestants"])
    said: dict[str, list[str]] = {}  # a note -> whom it is about
    for one in result["contestants"]:
        if one["note"]:
            said.setdefault(one["note"], []).append(one["name"])
    for one in result["contestants"]:
        if "padded_tokens" in one:
            unit = "steps" if metric == "valid_target/cer" else "tokens"
            tokens = f"{one['padded_tokens']} {unit} trained on with padding, {one['real_tokens']} without"
            said.setdefault(tokens, []).append(one["name"])
    notes = [f"- {'; '.join(names)}: {note}." for note, names in said.items()]
    found = result.get("limits")
    limits = (
        "" if found is None else f" The cut's limit: {found['G']:.2f} in training, {found['scoring']:.2f} in scoring."
    )
    return (
        f"{machine_line(result['machine'])} List: {settings}. Medians of {runs}, interleaved; speed-up over the first "
        f"row.{limits}\n\n{markdown(header, rows)}\n\n" + "\n".join(notes)
    )


def overhead_table(result: dict[str, Any]) -> str:
    """One row a study and length: milliseconds a trial beyond its training, by part."""
    groups = {
        "Optuna's sampler": ("optuna: sampler",),
        "mirror, pruner": ("mirror", "optuna: pruner", "optuna: tell"),
        "records of others": ("points", "looking at records"),
        "own record": ("record",),
        "messages to W&B": ("wandb: messages",),
        "wait for earlier runs": ("wandb: wait for earlier runs",),
        "search": ("search", "config"),
    }
    header = ("study, a training's ms", "trials so far", "ms a trial beyond it", "without the sampler", *groups)
    rows = []
    for study in result["studies"]:
        for length, parts in study["mean_ms_at"].items():
            total = sum(parts.values())
            rows.append(
                (
                    f"{study['sampler']}, pruner {study['pruner']}, W&B {study['tracker']}, {study['train_ms']:g} ms",
                    str(length),
                    f"{total:.1f}",
                    f"{total - parts.get('optuna: sampler', 0.0):.1f}",
                    *(f"{sum(parts.get(part, 0.0) for part in group):.1f}" for group in groups.values()),
                )
            )
    return f"{machine_line(result['machine'])}\n\n{markdown(header, rows)}"


def target_table(result: dict[str, Any]) -> str:
    """One row a search with its times to both targets, never-reached ones told as such; the breakdowns below."""
    search = result["search"]
    header = (
        "search",
        "median s to the lower target (range)",
        "to the higher target",
        "epochs",
        "epochs a second",
        "complete, pruned",
        "CPU s",
        "peak MB",
    )
    rows = []
    for one in result["contestants"]:
        rows.append(
            (
                one["name"],
                *(times_text(target, search["limit_s"]) for target in one["targets"]),
                f"{one['num_epochs']:.0f}",
                f"{one['epochs_per_s']:.1f}",
                f"{one['num_complete']:.0f}, {one['num_pruned']:.0f}",
                f"{one['cpu_s']:.1f}",
                f"{one['peak_mb']:.0f}",
            )
        )
    found = result["calibration"]
    at = ", ".join(f"{name}: {value:.4f}" for name, value in found["percentiles"].items())
    settings = ", ".join(f"{name} {value}" for name, value in result["workload"].items())
    text = (
        f"{machine_line(result['machine'])} List: {settings}; budget {search['budget']} trials, "
        f"{search['limit_s']:.0f} s. Targets: the {found['percentile']}th percentiles of random trials' best scores "
        f"({at}).\n\n{markdown(header, rows)}"
    )
    parts = [
        (lower["part"], *("-" if value is None else f"{value:.2f}" for value in (*factors, lower["limit"])))
        for lower, higher in zip(*result.get("breakdown", ((), ())), strict=True)
        for factors in [(lower["factor"], higher["factor"])]
    ]
    factors_header = ("factor", "measured, lower target", "higher target", "predicted limit")
    return f"{text}\n\n{markdown(factors_header, parts)}" if parts else text


def whole_table(result: dict[str, Any]) -> str:
    """One row a contestant: seconds from the command to its end."""
    contestants, search = result["contestants"], result["search"]
    rows = [
        (
            one["name"],
            f"{one['wall_s']:.1f} ({one['wall_range_s'][0]:.1f} to {one['wall_range_s'][1]:.1f})",
            f"{one['wall_s'] / contestants[0]['wall_s']:.2f}",
            ", ".join(f"{-best:.3f}" for best in one["best"]),
        )
        for one in contestants
    ]
    header = ("program", "wall s (range)", "times the first", "lowest validation loss found, by round")
    settings = ", ".join(f"{name} {value}" for name, value in result["workload"].items())
    return (
        f"{machine_line(result['machine'])} List: {settings}; {search['budget']} trials. Medians of "
        f"{contestants[0]['num_runs']}, interleaved.\n\n{markdown(header, rows)}"
    )


def times_text(target: dict[str, Any], limit_s: float) -> str:
    """The median with the range, and how many searches reached the target where not all did."""
    if not target["num_reached"]:
        return f"{seconds_or_never(None, limit_s)} (none of {len(target['reached_s'])})"
    low, high = (seconds_or_never(target[name], limit_s) for name in ("least_s", "most_s"))
    number, total = target["num_reached"], len(target["reached_s"])
    reached = "" if number == total else f"; reached by {number} of {total}"
    return f"{seconds_or_never(target['median_s'], limit_s)} ({low} to {high}{reached})"


def seconds_or_never(seconds: float | None, limit_s: float) -> str:
    """A time to the target; where it was not reached, that, with the limit."""
    return f"**never in {limit_s:.0f} s**" if seconds is None else f"{seconds:.1f}"


SECTIONS = {
    "race_pretrained": race_table,
    "race_pretrained_variants": race_table,
    "race_speech": race_table,
    "race_small": race_table,
    "race_tiny": race_table,
    "race_tiny_upper": race_table,
    "time_to_target": target_table,
    "whole_sweep": whole_table,
    "grid": grid_table,
    "study_overhead": overhead_table,
}


def main() -> None:
    """Print the sections."""
    for name, render in SECTIONS.items():
        result = read_result(name)
        print(f"\n### {name}\n\n{render(result) if result else 'not measured'}")


if __name__ == "__main__":
    main()
