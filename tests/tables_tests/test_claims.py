"""Claims: judged by the whole interval, and dated by the launch that first declared them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from harness.config.table import TableSettings
from harness.errors import UserError
from harness.records.declared import declare_claims
from harness.records.store import RecordStore
from harness.statistics.samples import Interval
from harness.tables.build import build_experiments
from harness.tables.claims import verdict_of
from harness.tables.model import JudgedClaim

from .golden_experiments import trial_config, write_ablation, write_targets, write_tuned
from .items_by_hand import write_items
from .records_by_hand import text_metrics, write_records

LOWER = {"type": "contrast", "text": "t", "metric": "forgetting", "arm": "a", "than": "b", "expect": "lower"}
A = {seed: text_metrics(0.6 + seed / 100, forgetting=0.01 + seed / 1000) for seed in range(3)}
B = {seed: text_metrics(0.5, forgetting=0.05) for seed in range(3)}


def judge(results: Path, names: tuple[str, ...], *claims: dict[str, Any]) -> tuple[JudgedClaim, ...]:
    settings = TableSettings.model_validate({"claims": claims})
    return build_experiments(results, names, settings).claims


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.1, 0.2), "upheld"),
        ((-0.1, 0.2), "undecided"),
        ((-0.2, -0.1), "not upheld"),
        ((-0.2, 0.0), "not upheld"),
        ((0.0, 0.2), "undecided"),
        (None, "undecided"),
    ],
)
def test_verdicts(interval: tuple[float, float] | None, verdict: str) -> None:
    assert verdict_of(None if interval is None else Interval(*interval), 0.0, math.inf) == verdict


@pytest.mark.parametrize(
    ("change", "verdict", "estimate"),
    [
        ({}, "upheld", -3.9),  # (1.0 + 1.1 + 1.2) / 3 - 5.0, in points
        ({"expect": "better"}, "upheld", -3.9),
        ({"expect": "higher"}, "not upheld", -3.9),
        ({"expect": "worse"}, "not upheld", -3.9),
        ({"by": 3.5}, "upheld", -3.9),
        ({"by": 3.9}, "undecided", -3.9),
        ({"by": 4.5}, "not upheld", -3.9),
        ({"expect": "equal", "by": 5}, "upheld", -3.9),
        ({"expect": "equal", "by": 1}, "not upheld", -3.9),
        ({"metric": "target_accuracy", "expect": "better"}, "upheld", 11.0),
        ({"metric": "target_accuracy", "expect": "lower"}, "not upheld", 11.0),
    ],
)
def test_contrasts(tmp_path: Path, change: dict[str, Any], verdict: str, estimate: float) -> None:
    write_records(tmp_path, {"a": A, "b": B})
    (claim,) = judge(tmp_path, ("mine",), LOWER | change)
    assert (claim.verdict, claim.num_seeds, claim.unit) == (verdict, 3, "points")
    assert claim.estimate == pytest.approx(estimate, abs=1e-9)
    assert len(claim.trials) == 6


def test_the_intervals_of_all_claims_hold_together(tmp_path: Path) -> None:
    """Bonferroni: with four claims each interval has the level 1 - 5 % / 4; t(2) is 4.303 and then 8.860."""
    write_records(tmp_path, {"a": A, "b": B})
    others = [LOWER | {"text": f"{n}", "by": n} for n in range(1, 4)]
    (alone,), (first, *_) = (judge(tmp_path, ("mine",), LOWER, *more) for more in ([], others))
    assert alone.interval is not None and first.interval is not None
    for claim, level in ((alone, 0.95), (first, 0.9875)):
        assert claim.interval is not None and claim.interval.level == pytest.approx(level)
        half = float(stats.t.ppf(0.5 + level / 2, 2)) * 0.1 / math.sqrt(3)  # sd .1 points over three seeds
        assert claim.interval.half_width == pytest.approx(half, rel=1e-6)
    settings = TableSettings.model_validate({"claims": [LOWER, *others]})
    said = build_experiments(tmp_path, ("mine",), settings).footnotes[-1].text
    together = "together they hold with 95 % (Bonferroni over the 4 claims)"
    assert said == f"claims are judged by 95 % intervals over seeds alone; {together}"


def test_a_claim_is_judged_over_seeds_and_items_as_the_table_is(tmp_path: Path) -> None:
    """Its interval is that of the same difference in a table whose baseline is the arm compared with."""
    arms = {"a": 0.62, "b": 0.6, "c": 0.58, "d": 0.55, "e": 0.52, "f": 0.5, "g": 0.48}
    store, _ = write_items(tmp_path, arms)
    claim = LOWER | {"metric": "target_accuracy", "arm": "a", "than": "g", "expect": "better"}
    settings = TableSettings.model_validate({"baseline": "g", "metrics": ["target_accuracy"], "claims": [claim]})
    table = build_experiments(tmp_path, (store.name,), settings)
    in_table = table.cell("a", "target_accuracy").comparison
    assert in_table is not None and in_table.item_error is not None
    assert table.claims[0].interval == in_table.interval
    assert table.footnotes[-1].text == "claims are judged by 95 % intervals over seeds and test items"


def test_what_holds_exactly_is_decided(tmp_path: Path) -> None:
    """A difference that every seed gives is its own interval, as in a table's cells."""
    sizes = {"full": 1000.0, "small": 10.0, "twin": 10.0}
    arms = {
        name: {s: text_metrics(0.7 + 0.01 * s, trainable_parameters=size) for s in range(3)}
        for name, size in sizes.items()
    }
    write_records(tmp_path, arms)
    fewer = {"type": "contrast", "text": "t", "metric": "trainable_parameters", "expect": "lower", "than": "full"}
    equal = fewer | {"expect": "equal", "by": 1}
    first, second, third, fourth = judge(
        tmp_path,
        ("mine",),
        fewer | {"arm": "small"},
        fewer | {"arm": "small", "expect": "higher", "text": "u"},
        equal | {"arm": "twin", "metric": "target_accuracy", "text": "v"},
        equal | {"arm": "twin", "than": "small", "text": "w"},
    )
    assert (first.verdict, first.estimate) == ("upheld", -990.0)
    assert first.interval == Interval(-990.0, -990.0, 0.9875, "constant")
    assert second.verdict == "not upheld"
    assert (third.verdict, third.interval) == ("upheld", Interval(0.0, 0.0, 0.9875, "constant"))
    assert fourth.verdict == "upheld"
    assert "twin is within 1 points of full" in third.statement
    assert "twin is within 1 of small" in fourth.statement


@pytest.mark.parametrize("num_claims", [5, 7])
def test_trends_share_no_variances_however_many_there_are(tmp_path: Path, num_claims: int) -> None:
    """Each is a column of its own: Student's t with two degrees of freedom, at Bonferroni's level."""
    rng = np.random.default_rng(0)
    arms = {
        f"m{a}-{d}": {s: text_metrics(0.7 + 0.01 * rng.normal()) for s in range(3)} for a in range(7) for d in (1, 2)
    }
    write_records(tmp_path, arms, config_of={name: {f"size_{name[:2]}": int(name[3:])} for name in arms})
    trend = {"type": "trend", "text": "t", "metric": "target_accuracy", "expect": "increasing"}
    trends = [trend | {"along": f"size_m{a}", "text": f"{a}"} for a in range(num_claims)]
    for a, claim in enumerate(judge(tmp_path, ("mine",), *trends)):
        low, high = (100.0 * np.array([arms[f"m{a}-{d}"][s]["target_accuracy"] for s in range(3)]) for d in (1, 2))
        expected = stats.ttest_1samp(high - low, 0.0).confidence_interval(1.0 - 0.05 / num_claims)
        assert claim.interval is not None
        assert (claim.interval.low, claim.interval.high) == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    write_records(tmp_path, {"a": {0: A[0]}, "b": {0: B[0]}})
    (claim,) = judge(tmp_path, ("mine",), LOWER)
    assert (claim.verdict, claim.interval) == ("undecided", None)


def test_a_trend_over_experiments(tmp_path: Path) -> None:
    names = tuple(write_targets(tmp_path))
    trend = {
        "type": "trend",
        "text": "adapters gain most where data is least",
        "metric": "target_cer",
        "arm": "adapter",
        "than": "full_fine_tuning",
        "along": "data.train_limit",
        "log": True,
        "expect": "decreasing",
    }
    falls, rises = judge(tmp_path, names, trend, trend | {"text": "most", "expect": "increasing"})
    assert (falls.verdict, rises.verdict) == ("upheld", "not upheld")
    assert falls.estimate is not None and falls.estimate < 0
    assert "gain of adapter over full_fine_tuning in target CER" in falls.statement


def test_the_slope_on_paper(tmp_path: Path) -> None:
    """Per factor of ten: accuracies 50, 60, 64 at 10, 100, 1000 give (64 - 50) / 2 = 7 points."""
    arms = {f"n{n}": {s: text_metrics(v + s * 1e-3) for s in (0, 1)} for n, v in ((10, 0.5), (100, 0.6), (1000, 0.64))}
    configs = {f"n{n}": trial_config(limit=n) for n in (10, 100, 1000)}
    write_records(tmp_path, arms, config_of=configs)
    trend = {"type": "trend", "text": "t", "metric": "target_accuracy", "along": "data.train_limit", "log": True}
    (claim,) = judge(tmp_path, ("mine",), trend | {"expect": "increasing"})
    assert claim.estimate == pytest.approx(7.0, abs=1e-9)
    assert claim.unit == "points per factor of ten of train limit"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "c"}, "table.claims.0.arm: no arm 'c' in mine; choices: a, b"),
        ({"metric": "target_primary", "arm": "nobody"}, "no arm 'nobody'"),
    ],
)
def test_claims_about_what_is_not_there(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_records(tmp_path, {"a": A, "b": B})
    with pytest.raises(UserError) as caught:
        judge(tmp_path, ("mine",), LOWER | change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (LOWER | {"than": "a"}, "arm and than are both 'a'"),
        (LOWER | {"expect": "equal"}, "expect: equal needs a margin"),
        (LOWER | {"expect": "smaller"}, "Input should be 'lower', 'higher', 'better', 'worse' or 'equal'"),
        (
            {"type": "trend", "text": "t", "metric": "m", "along": "x", "expect": "increasing", "than": "b"},
            "than needs",
        ),
    ],
)
def test_claims_that_say_nothing(claim: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TableSettings.model_validate({"claims": [claim]})
    assert message in caught.value.errors()[0]["msg"]


def test_a_claim_declared_before_its_trials(tmp_path: Path) -> None:
    store = write_ablation(tmp_path)
    (claim,) = build_experiments(tmp_path, (store.name,)).claims
    assert (claim.verdict, claim.before_results) == ("upheld", True)
    assert claim.declared_at == "2025-12-31T23:59:59+00:00"


def test_a_claim_declared_after_its_trials_or_never(tmp_path: Path) -> None:
    store = write_ablation(tmp_path)
    manifest = store.manifest()
    (claim_id,) = manifest.claims
    late = manifest.claims[claim_id].model_copy(update={"at": "2026-01-01T00:00:01+00:00", "num_finished": 12})
    store.write_manifest(manifest.model_copy(update={"claims": {claim_id: late}}))
    (claim,) = build_experiments(tmp_path, (store.name,)).claims
    assert (claim.declared_at, claim.before_results) == ("2026-01-01T00:00:01+00:00", False)
    store.write_manifest(manifest.model_copy(update={"claims": {}}))
    (claim,) = build_experiments(tmp_path, (store.name,)).claims
    assert (claim.declared_at, claim.before_results) == (None, False)


def test_a_changed_claim_is_another_claim() -> None:
    settings = TableSettings.model_validate({"claims": [LOWER, LOWER | {"text": "u"}, LOWER | {"text": "v", "by": 1}]})
    assert len({claim.id for claim in settings.claims}) == 3


def test_a_launch_dates_new_claims_and_keeps_old_dates(tmp_path: Path) -> None:
    store = write_records(tmp_path, {"a": A, "b": {0: None}})
    first = declare_claims(store, store.manifest(), {"one": "first"})
    assert first.claims["one"].num_finished == 3
    store.write_manifest(first)
    second = declare_claims(store, store.manifest(), {"one": "first", "two": "second"})
    assert second.claims["one"] == first.claims["one"]
    assert set(second.claims) == {"one", "two"}
    store.write_manifest(second)
    assert declare_claims(store, store.manifest(), {}).claims == second.claims


def test_an_arm_of_a_tuned_sweep_is_its_first_rules_row(tmp_path: Path) -> None:
    store = write_tuned(tmp_path)
    (claim,) = judge(tmp_path, (store.name,), LOWER | {"arm": "plain", "than": "frozen", "expect": "worse"})
    assert "plain (best) is worse than frozen" in claim.statement
    assert "; plain has several rows, of which plain (best) is meant and not plain (constrained)" in claim.statement
    (claim,) = judge(tmp_path, (store.name,), LOWER | {"arm": "plain (best)", "than": "frozen", "expect": "worse"})
    assert "several rows" not in claim.statement
    table = build_experiments(tmp_path, (store.name,), TableSettings(baseline="plain"))
    assert table.baseline == "plain (best)"
    remark = "baseline: plain has several rows, of which plain (best) is meant and not plain (constrained)"
    assert remark in [note.text for note in table.footnotes]
    assert RecordStore(tmp_path, store.name).manifest().claims == {}
