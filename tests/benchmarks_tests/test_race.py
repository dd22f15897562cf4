"""The race: who runs in it, and that a contestant which trained something else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from race import CUT, GRAPHED, PLAIN, PROGRAMS, RACES, E, fresh_cache, grouped, summarise, threaded, undropped


def run_of(wall_s: float, scores: list[list[float]], **more: Any) -> dict[str, Any]:
    trials = [
        {"number": number, "epochs": [{"valid_target/macro_f1": score} for score in epochs]}
        for number, epochs in enumerate(scores)
    ]
    return {"wall_s": wall_s, "cpu_s": 2 * wall_s, "peak_mb": 100.0, "trials": trials, **more}


def test_every_contestant_is_a_program_and_has_a_name_of_its_own() -> None:
    for race in RACES.values():
        names = [contestant.name for contestant in race.contestants]
        assert len(set(names)) == len(names)
        assert all((PROGRAMS / contestant.program).is_file() for contestant in race.contestants)


def test_variants_change_one_thing_each() -> None:
    assert grouped(E).arguments == (*E.arguments, "--grouped")
    assert undropped(E).arguments == (*E.arguments, "--no-dropout")
    threads = threaded(E).arguments
    assert "--workers" in E.arguments and "--workers" not in threads and "--threads" in threads


def test_summary_has_medians_and_differences_trial_by_trial() -> None:
    first = [run_of(wall, [[0.1, 0.5], [0.2, 0.6]]) for wall in (4.0, 6.0, 5.0)]
    runs = [run_of(wall, [[0.1, 0.5], [0.9, 0.4]], padded_tokens=30, real_tokens=20) for wall in (2.0, 2.5, 9.0)]
    found = summarise(CUT, runs, first)
    assert found["wall_s"] == 2.5 and found["wall_range_s"] == [2.0, 9.0] and found["speedup"] == pytest.approx(2.0)
    assert found["final"] == {0: 0.5, 1: 0.4} and found["greatest_difference"] == pytest.approx(0.2)
    assert found["padded_tokens"] == 30 and "padded_tokens" not in summarise(PLAIN, first, first)


@pytest.mark.parametrize("scores", [[[0.1, 0.5]], [[0.1], [0.2]]])
def test_other_trials_or_evaluations_are_refused(scores: list[list[float]]) -> None:
    with pytest.raises(RuntimeError, match=r"trained the trials|evaluated"):
        summarise(CUT, [run_of(1.0, scores)], [run_of(1.0, [[0.1, 0.5], [0.2, 0.6]])])


def test_another_metric_is_summarised_by_its_name() -> None:
    trials = [{"number": 0, "epochs": [{"valid_target/cer": 0.4}, {"valid_target/cer": 0.25}]}]
    run = {**run_of(1.0, []), "trials": trials}
    assert summarise(CUT, [run], [run], "valid_target/cer")["final"] == {0: 0.25}


def test_no_run_finds_what_another_one_kept_behind_its_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contestant computes its frozen prefix in every round, with the user's backbones."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "own"))
    cache = fresh_cache(tmp_path)
    (tmp_path / "own" / "backbones" / "one").touch()
    (cache / "prefix").mkdir()
    assert [path.name for path in (cache / "backbones").iterdir()] == ["one"]
    assert [path.name for path in fresh_cache(tmp_path).iterdir()] == ["backbones"]
    assert (tmp_path / "own" / "backbones" / "one").exists()


def test_ctc_is_never_captured() -> None:
    assert RACES["speech"].others == () and RACES["tiny"].others == (GRAPHED,)
