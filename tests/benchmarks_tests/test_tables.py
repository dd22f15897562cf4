"""The rendering of results: figures under their own headings, losses told as losses."""

from __future__ import annotations

import pytest

from tables import gain, grid_table, markdown, overhead_table, race_table, target_table, times_text, whole_table

MACHINE = {"date": "2026-01-01", "processor": "P", "cores": "2", "load_average": 0.1, "packages": {"torch": "2"}}


def test_a_row_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2"):
        markdown(("a", "b"), [("x",)])


def test_a_loss_is_told() -> None:
    assert gain(0.96) == "**0.96 (loses)**"
    assert gain(0.97) == "0.97" and gain(2.5) == "2.50"


def test_grid_row() -> None:
    cell = {
        "size": "3 M", "tokens": 64, "depth": "last", "ms": {"plain": 10.0}, "overhead": 0.98, "cut": 1.8,
        "cut_limit": 2.0, "packing": 0.5, "best_pack": 4, "total": 0.9, "chosen": 1.8,
    }  # fmt: skip
    header, _, row = grid_table({"machine": MACHINE, "cells": [cell]}).splitlines()[-3:]
    cells = dict(zip(_cells(header), _cells(row), strict=True))
    assert cells["encoder, tokens a step, depth"] == "3 M, 64, last"
    assert cells["cut"] == "1.80" and cells["limit G"] == "2.00" and cells["cut / G"] == "0.90"
    assert cells["packing"] == "**0.50 (loses)**" and cells["cut x packing"] == "**0.90 (loses)**"
    assert cells["chosen"] == "1.80"


def test_race_row_and_who_did_not_run() -> None:
    one = {
        "name": "a", "note": "", "wall_s": 2.0, "wall_range_s": [1.5, 2.5], "cpu_s": 3.0, "peak_mb": 100.0,
        "speedup": 1.0, "mean_final": 0.5, "greatest_difference": 0.25, "num_runs": 5,
    }  # fmt: skip
    result = {
        "machine": MACHINE, "workload": {"epochs": 2}, "contestants": [one],
        "not_run": [{"name": "i", "note": "no GPU here"}],
    }  # fmt: skip
    text = race_table(result)
    assert "| a | 2.00 (1.50 to 2.50) | 3.0 | 100 | 1.00 | 0.5000 | 0.2500 |" in text
    assert "| i | no GPU here | - | - | - | - | - |" in text and "Medians of 5" in text


def test_a_race_on_speech_has_its_own_metric_and_limits() -> None:
    one = {
        "name": "f", "note": "", "wall_s": 2.0, "wall_range_s": [1.5, 2.5], "cpu_s": 3.0, "peak_mb": 100.0,
        "speedup": 1.0, "mean_final": 0.25, "greatest_difference": 0.0, "num_runs": 3, "padded_tokens": 30,
        "real_tokens": 20,
    }  # fmt: skip
    limits = {"G": 2.5, "scoring": 4.0}
    race = {"machine": MACHINE, "workload": {}, "metric": "valid_target/cer", "limits": limits, "not_run": []}
    text = race_table({**race, "contestants": [one]})
    assert "| mean final CER |" in text and "The cut's limit: 2.50 in training, 4.00 in scoring." in text
    assert text.endswith("\n- f: 30 steps trained on with padding, 20 without.")


def test_padding_is_told_where_it_was_counted() -> None:
    one = {
        "name": "e", "note": "", "wall_s": 2.0, "wall_range_s": [1.5, 2.5], "cpu_s": 3.0, "peak_mb": 100.0,
        "speedup": 1.0, "mean_final": 0.5, "greatest_difference": 0.25, "num_runs": 5, "padded_tokens": 30,
        "real_tokens": 20,
    }  # fmt: skip
    text = race_table({"machine": MACHINE, "workload": {}, "contestants": [one], "not_run": []})
    assert text.endswith("\n- e: 30 tokens trained on with padding, 20 without.")
    noted = [{**one, "name": name, "note": "biases"} for name in ("e", "e2")]
    text = race_table({"machine": MACHINE, "workload": {}, "contestants": noted, "not_run": []})
    assert text.endswith("\n- e; e2: biases.\n- e; e2: 30 tokens trained on with padding, 20 without.")


def search_result(**more: object) -> dict[str, object]:
    lower = {"reached_s": [4.0, 5.0, 6.0], "num_reached": 3, "median_s": 5.0, "least_s": 4.0, "most_s": 6.0}
    higher = {"reached_s": [9.0, None, None], "num_reached": 1, "median_s": None, "least_s": 9.0, "most_s": None}
    one = {
        "name": "e", "targets": [lower, higher], "num_epochs": 30.0, "epochs_per_s": 2.5, "num_complete": 3.0,
        "num_pruned": 1.0, "cpu_s": 20.0, "peak_mb": 100.0,
    }  # fmt: skip
    calibration = {"percentile": 90, "percentiles": {"ours": 0.52, "e": 0.5}}
    return {
        "machine": MACHINE, "workload": {"epochs": 2}, "search": {"budget": 64, "limit_s": 60.0},
        "calibration": calibration, "contestants": [one], **more,
    }  # fmt: skip


def test_a_search_that_never_reached_the_target_is_told_as_such() -> None:
    text = target_table(search_result())
    never = "**never in 60 s**"
    higher = f"{never} (9.0 to {never}; reached by 1 of 3)"
    assert f"| e | 5.0 (4.0 to 6.0) | {higher} | 30 | 2.5 | 3, 1 | 20.0 | 100 |" in text
    assert times_text({"reached_s": [None, None], "num_reached": 0}, 60.0) == f"{never} (none of 2)"
    assert "Targets: the 90th percentiles" in text and "ours: 0.5200" in text and "predicted limit" not in text


def test_the_breakdown_stands_beside_its_limits() -> None:
    parts: list[dict[str, object]] = [
        {"part": "cut", "factor": 1.5, "limit": 1.8},
        {"part": "rest", "factor": None, "limit": None},
    ]
    higher = [{**part, "factor": 2.5} for part in parts]
    text = target_table(search_result(breakdown=[parts, higher]))
    assert "| cut | 1.50 | 2.50 | 1.80 |" in text and "| rest | - | 2.50 | - |" in text


def test_overhead_row_sums_its_parts() -> None:
    parts = {
        "optuna: sampler": 5.0,
        "points": 2.0,
        "looking at records": 1.0,
        "record": 2.0,
        "wandb: messages": 1.0,
        "search": 1.0,
    }
    settings = {"sampler": "tpe", "pruner": "none", "tracker": "offline", "train_ms": 50.0}
    study = {**settings, "mean_ms_at": {"100": {**parts, "wandb: wait for earlier runs": 0.5}}}
    header, _, row = overhead_table({"machine": MACHINE, "studies": [study]}).splitlines()[-3:]
    cells = dict(zip(_cells(header), _cells(row), strict=True))
    assert cells["ms a trial beyond it"] == "12.5" and cells["without the sampler"] == "7.5"
    assert cells["messages to W&B"] == "1.0" and cells["wait for earlier runs"] == "0.5"
    assert (
        cells["study, a training's ms"] == "tpe, pruner none, W&B offline, 50 ms"
        and cells["records of others"] == "3.0"
    )


def test_a_whole_sweep_is_told_by_its_program() -> None:
    runs = {"num_runs": 3, "wall_range_s": [9.0, 12.0], "best": [-0.87, -0.9]}
    found = {
        "machine": MACHINE,
        "workload": {"recipe": "tiny"},
        "search": {"budget": 200},
        "contestants": [{"name": "ours", "wall_s": 10.0, **runs}, {"name": "theirs", "wall_s": 45.0, **runs}],
    }
    header, _, ours, theirs = (_cells(line) for line in whole_table(found).splitlines()[-4:])
    cells = dict(zip(header, theirs, strict=True))
    assert cells["times the first"] == "4.50" and cells["wall s (range)"] == "45.0 (9.0 to 12.0)"
    assert ours[-1] == cells["lowest validation loss found, by round"] == "0.870, 0.900"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
