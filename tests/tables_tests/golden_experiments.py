"""Small experiments that stand for the real ones: three speech targets, a factorial, an ablation, a tuned sweep.

All numbers follow from a formula without randomness, so golden tables do too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.design import Factorial, LeaveOneOut, describe_design
from harness.config.notes import Note
from harness.config.table import ContrastClaim
from harness.disk import write_json
from harness.metrics import constrained_score, forgetting
from harness.records.schema import Summary, TrialState
from harness.records.search import Objective, SearchPoint, SearchResult, Value
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder

from .records_by_hand import DomainTables, provenance, write_records

METHODS = {"frozen": 0.0, "full_fine_tuning": 0.30, "adapter": 0.26, "simadapter": 0.33, "meta_adapter": 0.35}
TARGETS = {"ro": (100, 0.62), "cs": (300, 0.55), "ar": (800, 0.70)}  # training clips, CER of the base model


def wobble(*numbers: float) -> float:
    """A number in [-1, 1) that looks irregular and follows from its arguments."""
    return (sum((n + 1) * 0.6180339887 * (k + 1.5) for k, n in enumerate(numbers)) % 1.0) * 2.0 - 1.0


def speech_outcome(base: float, gain: float, loss: float, noise: float) -> tuple[dict[str, float], Any]:
    """Metrics of a speech trial, and its tables by domain: the base CER, the relative gain, the loss on the sources."""
    after = base * (1.0 - gain) + 0.01 * noise if gain else base
    sources = {"en": 0.20, "fr": 0.30}
    lost = {name: cer + (loss + 0.004 * noise if gain else 0.0) for name, cer in sources.items()}
    metrics = {
        "target_cer": after,
        "target_wer": min(1.2, 1.4 * after),
        "source_cer": sum(lost.values()) / 2,
        "source_wer": 1.4 * sum(lost.values()) / 2,
        "forgetting": forgetting("cer", 0.25, sum(lost.values()) / 2),
        "constrained_score": constrained_score("cer", base, after, list(sources.values()), list(lost.values())),
        "trainable_parameters": 33792.0 if gain else 0.0,
        "trainable_share": 0.0271 if gain else 0.0,
    }
    domains = {"target": base, **sources}, {"target": after, **lost}
    return metrics, tuple({n: {"cer": c, "wer": 1.4 * c} for n, c in side.items()} for side in domains)


def trial_config(target: str = "target", limit: int | None = 100, **adapter: Any) -> dict[str, Any]:
    """As much of a trial's config as tables look at."""
    return {
        "data": {"corpus": "prompts", "options": {}, "source": ["en", "fr"], "target": target, "train_limit": limit},
        "backbone": {"recipe": "speech_small", "layers": "all"},
        "train": "adapters",
        "adapter": {
            "dim": adapter.get("dim", 32),
            "adapter_strategy": {"stochastic_depth": adapter.get("p", 0.0), "l2_lambda": adapter.get("l2", 0.0)},
        },
        "optim": {"lr": adapter.get("lr", 3e-3)},
    }


def untrained(arm: str) -> dict[str, str]:
    """What the config of an arm says if nothing is trained in it."""
    return {"train": "none"} if arm == "frozen" else {}


def write_targets(results: Path) -> list[str]:
    """Three experiments, one a target language, all methods in each; one trial failed in the last."""
    names = []
    for place, (target, (limit, base)) in enumerate(TARGETS.items()):
        outcomes: dict[str, dict[int, Any]] = {}
        tables: dict[str, Any] = {}
        for number, (arm, gain) in enumerate(METHODS.items()):
            for seed in range(5):
                scarce = gain * (1.2 - 0.2 * place) if arm != "full_fine_tuning" else gain * (0.8 + 0.2 * place)
                metrics, domains = speech_outcome(base, scarce, 0.02 + gain / 20, wobble(place, number, seed))
                outcomes.setdefault(arm, {})[seed] = metrics
                tables[f"{arm}-{seed}"] = tuple(
                    {target if name == "target" else name: row for name, row in side.items()} for side in domains
                )
        if target == "ar":
            outcomes["meta_adapter"][4] = "failed:nan"
        name = f"speech_{target}"
        write_records(
            results,
            outcomes,
            name=name,
            description=f"Speech recognition in {target}",
            config_of={arm: trial_config(target, limit) | untrained(arm) for arm in METHODS},
            by_domain_of=tables,
            table={"metrics": [], "baseline": "frozen", "title": None},
            notes={"frozen-0": ("one voice a language",)},
        )
        names.append(name)
    return names


def write_arms(
    results: Path, name: str, gains: Mapping[str, tuple[float, float]], configs: Mapping[str, Any], **manifest: Any
) -> RecordStore:
    """An experiment on one target: arm -> (gain, loss)."""
    outcomes: dict[str, dict[int, Any]] = {}
    tables: DomainTables = {}
    for number, (arm, (gain, loss)) in enumerate(gains.items()):
        for seed in range(4):
            metrics, domains = speech_outcome(0.6, gain, loss, wobble(number, seed))
            outcomes.setdefault(arm, {})[seed] = metrics
            tables = {**tables, f"{arm}-{seed}": domains}
    return write_records(results, outcomes, name=name, config_of=configs, by_domain_of=tables, **manifest)


def write_factorial(results: Path) -> RecordStore:
    """p x lambda x dim, two levels each (three of dim), with a known interaction of p and lambda."""
    design = Factorial.model_validate(
        {
            "type": "factorial",
            "factors": {
                "p": {"key": "adapter.adapter_strategy.stochastic_depth", "levels": [0.0, 0.5]},
                "lambda": {"key": "adapter.adapter_strategy.l2_lambda", "levels": [0.0, 0.001]},
                "dim": {"key": "adapter.dim", "levels": [16, 32, 64]},
            },
        }
    )
    described = describe_design(design)
    gains, configs = {}, {}
    for arm, at in described["arms"].items():
        both = 1.0 if at["p"] and at["lambda"] else 0.0
        gain = 0.30 - 0.05 * bool(at["p"]) - 0.08 * bool(at["lambda"]) + 0.04 * both + 0.0002 * at["dim"]
        gains[arm] = (gain, 0.10 - 0.05 * bool(at["p"]) - 0.04 * bool(at["lambda"]) + 0.02 * both)
        configs[arm] = trial_config(p=at["p"], l2=at["lambda"], dim=at["dim"])
    return write_arms(results, "grid", gains, configs, description="Depth, l2 and width", design=described)


def write_ablation(results: Path) -> RecordStore:
    """Leave one out, with a claim that was declared."""
    design = LeaveOneOut.model_validate(
        {
            "type": "leave_one_out",
            "components": {
                "depth": {"adapter.adapter_strategy.stochastic_depth": 0.5},
                "l2": {"adapter.adapter_strategy.l2_lambda": 0.001},
            },
        }
    )
    claim = ContrastClaim(
        type="contrast",
        text="depth lowers forgetting",
        metric="forgetting",
        arm="full",
        than="full - depth",
        expect="lower",
    )
    gains = {"full": (0.20, 0.01), "full - depth": (0.24, 0.06), "full - l2": (0.22, 0.03)}
    described = describe_design(design)
    configs = {
        arm: trial_config(p=0.5 * described["arms"][arm]["depth"], l2=0.001 * described["arms"][arm]["l2"])
        for arm in gains
    }
    return write_arms(
        results,
        "components",
        gains,
        configs,
        description="What depth and l2 do",
        design=described,
        table={"metrics": [], "baseline": None, "title": None, "claims": [claim.model_dump(mode="json")]},
        claims={claim.id: {"text": claim.text, "at": "2025-12-31T23:59:59+00:00", "num_finished": 0}},
    )


def write_tuned(results: Path) -> RecordStore:
    """The confirm phase of a sweep with two rules."""
    gains = {
        "frozen": (0.0, 0.0),
        "plain (best)": (0.30, 0.09),
        "plain (constrained)": (0.15, 0.012),
        "depth (best, constrained)": (0.25, 0.018),
    }
    note = "each searched arm tuned with 16 trials (tpe, pruner none) on valid_target/cer, validation only"
    budget = Note("budget", f"{note}; rule: best, constrained; confirmed on fresh seeds")
    manifest_notes = (budget, Note("selection", "not tuned: frozen"))
    configs = {arm: trial_config(lr=1e-3 * (number + 1)) | untrained(arm) for number, arm in enumerate(gains)}
    outcomes: dict[str, dict[int, Any]] = {}
    tables: dict[str, Any] = {}
    for (number, (arm, (gain, loss))), seed in itertools.product(enumerate(gains.items()), range(4)):
        metrics, domains = speech_outcome(0.6, gain, loss, wobble(number, seed))
        outcomes.setdefault(arm, {})[seed] = metrics
        tables[f"{arm}-{seed}"] = domains
    store = write_records(
        results,
        outcomes,
        name="tuned",
        description="Tuned on validation",
        config_of=configs,
        by_domain_of=tables,
        table={"metrics": [], "baseline": "frozen", "title": None},
    )
    store.write_manifest(store.manifest().model_copy(update={"notes": manifest_notes}))
    return store


def write_search(results: Path, arms: tuple[str, ...] = ("residual_add",)) -> None:
    """A sweep's search over a grid of learning rate, width and depth: validation numbers, no test number."""
    folder = results / "searched"
    points = []
    grid = itertools.product(arms, (1e-3, 1e-4), (32, 64), (0.0, 0.5, 0.9))
    for number, (arm, lr, dim, p) in enumerate(grid):
        trial_id = f"point-{number}"
        cer = 0.4 + 0.05 * (lr < 5e-4) + 0.1 * p**2 - 0.0002 * dim
        trial = TrialFolder(folder / "search" / trial_id)
        trial.start({**trial_config(lr=lr, dim=dim, p=p), "seed": 1000})
        trial.finish(
            Summary(trial_id=trial_id, state=TrialState.COMPLETE, valid={"valid_target/cer": cer}),
            provenance("corpus"),
        )
        params: dict[str, Value] = {"optim.lr": lr, "adapter.dim": dim, "adapter.adapter_strategy.stochastic_depth": p}
        points.append(SearchPoint(arm=arm, number=number, state="complete", params=params, trial_ids=(trial_id,)))
    objective = Objective(metric="valid_target/cer", direction="minimize")
    result = SearchResult(
        name="searched", objectives=(objective,), axes={arm: () for arm in arms}, points=tuple(points)
    )
    write_json(folder / "search.json", result.model_dump(mode="json"))


def write_all(results: Path) -> None:
    """Everything above."""
    write_targets(results)
    write_factorial(results)
    write_ablation(results)
    write_tuned(results)
    write_search(results)
