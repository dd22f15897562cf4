"""Over test-set items: coverage of the linearised interval of CER and macro F1, with independent and grouped items.

The items of the published runs are the population: their errors are known, so the true value is. Test sets of the
real sizes are drawn from it with replacement, and each interval is asked whether it holds the true value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jiwer import process_characters
from numpy.typing import NDArray

from harness.data.corpora.registry import load_corpus
from harness.data.corpus import SpeechExample, TextExample
from harness.metrics import Answer
from harness.metrics.macro_f1 import macro_f1_influences
from harness.records.predictions import read_predictions
from harness.records.store import RecordStore
from harness.seeding import rng as named_rng
from harness.statistics import Influence, PairedSample, compare_alone
from harness.statistics.samples import Floats

RESULTS = Path(__file__).parents[1] / "results"
TEST_SETS = 2_000
ARMS = ("residual_add_depth", "residual_add")
SPEECH_SIZES, TEXT_SIZES = (60, 120, 240), (250, 626, 1577)
SPEAKERS = (6, 12, 24, 48)
SPEAKER_SHAPE = 8.0  # gamma shape of a speaker's difficulty: a coefficient of variation of 0.35

Ints = NDArray[np.int64]
Draw = Callable[[np.random.Generator], tuple[float, Floats, NDArray[np.int64]]]  # value, influences, groups


@dataclass(frozen=True)
class Speech:
    """Utterances of the speech table's test sets, five seeds of two arms; all [utterances]."""

    errors: tuple[Floats, Floats]
    lengths: Floats


@dataclass(frozen=True)
class Text:
    """Sentences of one domain of the text table; [sentences]."""

    labels: Ints
    predictions: tuple[Ints, Ints]


def speech_items() -> Speech:
    """Character edits of two arms on each test utterance."""
    transcripts = {
        example.key: example.transcript
        for domain in ("it", "en", "es", "fr")
        for example in load_corpus("asterisk").split(domain, "test")
        if isinstance(example, SpeechExample)
    }
    both: list[Floats] = []
    lengths: list[int] = []
    for arm in ARMS:
        errors = []
        for predictions in predictions_of("speech_whisper_strategies", arm):
            for key, text in predictions.items():
                edits = process_characters(transcripts[key], str(text))
                errors.append(edits.substitutions + edits.deletions + edits.insertions)
                if arm == ARMS[0]:
                    lengths.append(edits.hits + edits.substitutions + edits.deletions)
        both.append(np.array(errors, dtype=np.float64))
    return Speech((both[0], both[1]), np.array(lengths, dtype=np.float64))


def text_items(domain: str) -> Text:
    """Labels and two arms' predictions of one domain's test sentences, all five seeds."""
    examples = {e.key: e for e in load_corpus("vader").split(domain, "test") if isinstance(e, TextExample)}
    keys: list[str] = []
    both: list[Ints] = []
    for arm in ARMS:
        runs = predictions_of("text_strategies", arm)
        keys = [key for run in runs for key in run if key in examples]
        both.append(np.array([int(run[key]) for run in runs for key in run if key in examples]))
    return Text(np.array([examples[key].label for key in keys]), (both[0], both[1]))


def predictions_of(experiment: str, arm: str) -> list[dict[str, Answer]]:
    """Key -> prediction of each seed of an arm."""
    store = RecordStore(RESULTS, experiment)
    runs = []
    for trial_id in store.manifest().arms[arm].values():
        predictions = read_predictions(store.trial(trial_id)) or {}
        runs.append({key: value for by_key in predictions.values() for key, value in by_key.items()})
    return runs


def coverage(truth: float, scale: float, draw: Draw, *name: str | int) -> float:
    """How often the interval of a drawn test set holds the true value."""
    sets, hits = max(50, int(TEST_SETS * scale)), 0
    for index in range(sets):
        value, influences, groups = draw(named_rng(0, "calibration", *name, index))
        blocks = Influence.of_items(influences, [str(group) for group in groups])
        sample = PairedSample.over_items(np.array([value]), [blocks], deterministic=True)
        interval = compare_alone(sample).interval()
        hits += interval is not None and interval.contains(truth)
    return hits / sets


def _ratio(errors: Floats, lengths: Floats) -> tuple[float, Floats]:
    rate = float(errors.sum() / lengths.sum())
    return rate, (errors - rate * lengths) / float(lengths.sum())


def calibrate_error_rates(scale: float) -> dict[str, Any]:
    """CER of one arm, and its difference from the other; utterances drawn one by one."""
    pool = speech_items()
    series = {"one": pool.errors[0], "difference": pool.errors[0] - pool.errors[1]}
    found: dict[str, Any] = {}
    for size in SPEECH_SIZES:
        for what, errors in series.items():

            def draw(
                rng: np.random.Generator, size: int = size, errors: Floats = errors
            ) -> tuple[float, Floats, NDArray[np.int64]]:
                i = rng.integers(0, len(pool.lengths), size)
                return *_ratio(errors[i], pool.lengths[i]), np.arange(size)

            truth = float(errors.sum() / pool.lengths.sum())
            found.setdefault(str(size), {})[what] = coverage(truth, scale, draw, "characters", size)
    return found


def calibrate_speakers(scale: float, utterances: int = 240) -> dict[str, Any]:
    """CER of 240 utterances by few speakers who differ in difficulty: groups of speakers against single utterances."""
    pool = speech_items()
    rate = float(pool.errors[0].sum() / pool.lengths.sum())
    found: dict[str, Any] = {}
    for speakers in SPEAKERS:
        for grouped in (True, False):

            def draw(
                rng: np.random.Generator, speakers: int = speakers, grouped: bool = grouped
            ) -> tuple[float, Floats, NDArray[np.int64]]:
                who = np.arange(utterances) % speakers
                difficulty = rng.gamma(SPEAKER_SHAPE, 1.0 / SPEAKER_SHAPE, size=speakers)
                lengths = pool.lengths[rng.integers(0, len(pool.lengths), utterances)]
                errors = rng.poisson(rate * lengths * difficulty[who]).astype(np.float64)
                return *_ratio(errors, lengths), who if grouped else np.arange(utterances)

            held = coverage(rate, scale, draw, "speakers", speakers)
            found.setdefault(str(speakers), {})["grouped" if grouped else "ignored"] = held
    return found


def calibrate_text(scale: float) -> dict[str, Any]:
    """Macro F1 of tweets, one arm and the difference; sentences drawn one by one."""
    pool = text_items("tweets")
    truth = [_macro_f1(pool.labels, guess) for guess in pool.predictions]
    found: dict[str, Any] = {}
    for size in TEXT_SIZES:
        for what in ("one", "difference"):

            def draw(
                rng: np.random.Generator, size: int = size, other: bool = what == "difference"
            ) -> tuple[float, Floats, NDArray[np.int64]]:
                i = rng.integers(0, len(pool.labels), size)
                sides = [(_macro_f1(pool.labels[i], g[i]), _f1(pool.labels[i], g[i])) for g in pool.predictions]
                value, influence = sides[0]
                if other:
                    value, influence = value - sides[1][0], influence - sides[1][1]
                return value, influence, np.arange(size)

            true = truth[0] - truth[1] if what == "difference" else truth[0]
            found.setdefault(str(size), {})[what] = coverage(true, scale / 2, draw, "text", size)
    return found


def _f1(labels: Ints, guess: Ints) -> Floats:
    return macro_f1_influences(labels.tolist(), guess.tolist())


def _macro_f1(labels: Ints, guess: Ints) -> float:
    scores = []
    for label in np.union1d(labels, guess):
        both = ((labels == label) & (guess == label)).sum()
        scores.append(2.0 * both / ((labels == label).sum() + (guess == label).sum()))
    return float(np.mean(scores))
