"""A whole experiment with records that were never trained: every number in them follows from made-up predictions.

It has what a real one has (ids, logs, predictions, base scores, digests), in milliseconds, and with sentences of the
test's own choice.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness import metrics
from harness.checks.record_checks import derive_metrics
from harness.config.trial import TrialConfig, trial_id_of
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus, TextExample, class_of, split_of_group
from harness.records.predictions import PredictedItem, group_digest, prediction_lines
from harness.records.schema import Manifest, Provenance, Summary, TrialState
from harness.records.store import RecordStore
from harness.records.trial_folder import TrialFolder

LABELS = ("bad", "fair", "good")
NASTY = '<script>alert("x")</script> & "quotes" <img src=x onerror=alert(1)>'
METRICS = ("macro_f1", "accuracy")
EXTRA = "!"  # begins the keys of extra sentences: they sort first


def write_sentences(path: Path, extra: Sequence[str] = (NASTY,)) -> None:
    """A corpus of 2 domains; every sentence is a group of its own. `extra` are sentences that the test set has."""
    rows = [
        {
            "domain": domain,
            "label": LABELS[number % 3],
            "text": f"{domain} sentence {number}",
            "group": f"{domain}{number}",
            "key": str(number),
        }
        for domain in ("home", "away")
        for number in range(150)
    ]
    # Groups whose hash puts them into the test split are found by trying.
    for place, text in enumerate(extra):
        group = next(f"extra{place}-{n}" for n in range(1000) if split_of_group(f"extra{place}-{n}") == "test")
        rows.append({"domain": "away", "label": "good", "text": text, "group": group, "key": f"{EXTRA}{place}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_experiment(
    results: Path,
    corpus_file: Path,
    arms: Mapping[str, float] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    name: str = "made",
    **manifest: Any,
) -> RecordStore:
    """Write an experiment.

    Args:
        arms: arm -> share of test items that it gets wrong; the first one trains nothing.
        manifest: further fields of the manifest.
    """
    arms = arms or {"frozen": 0.6, "better": 0.2, "worse": 0.8}
    corpus = load_corpus(f"manifest:{corpus_file}")
    store = RecordStore(results, name)
    ids: dict[str, dict[int, str]] = {}
    base: dict[str, dict[str, float]] = {}
    for place, (arm, wrong) in enumerate(arms.items()):
        for seed in seeds:
            config = _config(corpus_file, place, seed)
            folder = store.trial(config.trial_id)
            ids.setdefault(arm, {})[seed] = config.trial_id
            stream = random.Random(f"{arm if place else 'base'} {seed if place else 0}")
            predictions = _predictions(corpus, wrong, stream, trained=place > 0)
            scores = {domain: _scores(corpus, domain, given) for domain, given in predictions.items()}
            base = base or scores
            _write(folder, config, corpus, predictions, scores, base, wrong)
    settings = {"table": {"baseline": next(iter(arms))}, "description": "Made-up sentences", **manifest}
    store.write_manifest(Manifest(name=name, arms=ids, **settings))
    return store


def _config(corpus_file: Path, place: int, seed: int) -> TrialConfig:
    settings: dict[str, Any] = {
        "data": {"corpus": f"manifest:{corpus_file}", "source": ["home"], "target": "away"},
        "backbone": {"recipe": "text_small"},
        "train": "none" if place == 0 else "adapters",
        "optim": {"lr": 10.0**-place},
        "seed": seed,
    }
    if place:
        settings["adapter"] = {"_target_": "harness.adapters.LinearAdapter", "dim": 4 * place}
    return TrialConfig.model_validate(settings)


def _predictions(corpus: Corpus, wrong: float, stream: random.Random, trained: bool) -> dict[str, dict[str, int]]:
    """Wrong with a chance; extra sentences are wrong before training and right after, so a report shows them."""

    def answer(example: Any) -> int:
        assert isinstance(example, TextExample)
        if f"/{EXTRA}" in example.key:
            return class_of(example) if trained else (class_of(example) + 1) % 3
        return (class_of(example) + stream.choice((1, 2))) % 3 if stream.random() < wrong else class_of(example)

    return {domain: {e.key: answer(e) for e in corpus.split(domain, "test")} for domain in ("away", "home")}


def _scores(corpus: Corpus, domain: str, given: Mapping[str, int]) -> dict[str, float]:
    labels = [example.label for example in corpus.text(domain, "test")]
    known = {"num_classes": len(LABELS)}
    return {name: metrics.METRICS[name].score(labels, list(given.values()), known) for name in METRICS}


def _write(
    folder: TrialFolder,
    config: TrialConfig,
    corpus: Corpus,
    predictions: Mapping[str, Mapping[str, int]],
    scores: dict[str, dict[str, float]],
    base: dict[str, dict[str, float]],
    wrong: float,
) -> None:
    folder.start(config.model_dump(mode="json", by_alias=True))
    trained = config.train != "none"
    valid = {f"valid_{domain}/{name}": 1 - wrong for domain in ("target", "source") for name in METRICS}
    log = [
        {
            "epoch": epoch,
            "metrics": {key: value - 0.05 * abs(epoch - 2) for key, value in valid.items()},
            "seconds": 1.0,
        }
        for epoch in (1, 2, 3)
    ]
    folder.restart_log(log if trained else [])
    items = {
        domain: [
            PredictedItem(e.key, given[e.key], class_of(e), group_digest(e.group)) for e in corpus.text(domain, "test")
        ]
        for domain, given in predictions.items()
    }
    (folder.path / "predictions.jsonl").write_bytes(prediction_lines(items))
    summary = Summary(
        trial_id=folder.trial_id,
        state=TrialState.COMPLETE,
        epochs_run=3 if trained else 0,
        best_epoch=2 if trained else 0,
        by_domain=scores,
        base=base,
        valid=valid,
        costs={"seconds": fmean((1.0, 2.0)), "peak_memory_mb": 100.0},
        checks={"base_restored": "adapters off: the base model's outputs, bit for bit"},
        adapters={"layer.0": 40} if trained else {},
    )
    metrics = derive_metrics(config.data.model_dump(), summary, METRICS[0])
    metrics |= {"trainable_parameters": 40.0, "trainable_share": 0.04} if trained else {
        "trainable_parameters": 0.0,
        "trainable_share": 0.0,
    }  # fmt: skip
    folder.finish(summary.model_copy(update={"metrics": metrics}), _provenance(corpus))


def _provenance(corpus: Corpus) -> Provenance:
    return Provenance(
        harness_version="0.1.0",
        git_commit="c" * 40,
        git_dirty=False,
        packages={"python": "3.11.0"},
        corpus_fingerprint=corpus.fingerprint,
        backbone_fingerprint="b" * 64,
        machine={"system": "Linux x86_64", "processor": "made up", "cores": "2"},
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:01:00+00:00",
        num_starts=1,
    )


def age_results(experiment: Path) -> None:
    """Make an experiment's records those of version 1 of what settings mean: each has the id that it had then."""
    folders = sorted((experiment / "records").iterdir())
    new_ids = {}
    for folder in folders:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        new_ids[folder.name] = trial_id_of(config, 1)
    for path in [*experiment.rglob("*.json"), *experiment.rglob("*.jsonl")]:
        text = path.read_text(encoding="utf-8")
        for old, new in new_ids.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    for folder in folders:
        folder.rename(folder.with_name(new_ids[folder.name]))
