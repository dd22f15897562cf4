"""Over test-set items: coverage of intervals of CER, WER, accuracy and macro-F1, with independent and clustered items.

The items of the published runs are the population: their errors are known, so the true value is. Test sets of the
real sizes are drawn from it with replacement, item by item or in whole blocks (documents), and each interval is asked
whether it holds the true value. All intervals come from the library itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from calibration_f1 import compare_macro_f1, macro_f1_score
from calibration_noise import RESULTS
from calibration_scores import error_rate, mcnemar, mean_score
from jiwer import process_characters, process_words
from numpy.typing import NDArray

from harness.data.corpora.registry import load_corpus
from harness.data.corpus import SpeechExample, TextExample
from harness.records.predictions import read_predictions
from harness.records.store import RecordStore
from harness.seeding import rng as named_rng
from harness.statistics import Interval, compare_error_rates, sign_flip_test
from harness.statistics.bootstrap import METHODS, Method
from harness.statistics.samples import Floats

TEST_SETS = 800
RESAMPLES = 999
ARMS = ("residual_add_depth", "residual_add")
SPEECH_SIZES = {"characters": (60, 120, 240), "words": (60, 240)}
TEXT_SIZES = (250, 626, 1577)
SPEAKERS = (6, 12, 24, 48)
SEEDS = 5  # of the published tables
SPEAKER_SHAPE = 8.0  # gamma shape of a speaker's difficulty: a coefficient of variation of 0.35

Ints = NDArray[np.int64]
Make = Callable[[np.random.Generator], Interval | None]  # draws a test set, makes its interval


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
    documents: Ints


def speech_items(unit: str) -> Speech:
    """Edit operations of two arms on each test utterance; `unit` is `words` or `characters`."""
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
        for predictions in predictions_of("speech_strategies", arm):
            for key, text in predictions.items():
                edits = (process_words if unit == "words" else process_characters)(transcripts[key], str(text))
                errors.append(edits.substitutions + edits.deletions + edits.insertions)
                if arm == ARMS[0]:
                    lengths.append(edits.hits + edits.substitutions + edits.deletions)
        both.append(np.array(errors, dtype=np.float64))
    return Speech((both[0], both[1]), np.array(lengths, dtype=np.float64))


def text_items(domain: str) -> Text:
    """Labels, two arms' predictions and the documents of one domain's test sentences, all five seeds."""
    examples = {e.key: e for e in load_corpus("vader").split(domain, "test") if isinstance(e, TextExample)}
    keys: list[str] = []
    both: list[Ints] = []
    for arm in ARMS:
        runs = predictions_of("text_strategies", arm)
        keys = [key for run in runs for key in run if key in examples]
        both.append(np.array([int(run[key]) for run in runs for key in run if key in examples]))
    groups = {group: index for index, group in enumerate(dict.fromkeys(examples[key].group for key in keys))}
    return Text(
        np.array([examples[key].label for key in keys]),
        (both[0], both[1]),
        np.array([groups[examples[key].group] for key in keys]),
    )


def predictions_of(experiment: str, arm: str) -> list[dict[str, int | str]]:
    """Key -> prediction of each seed of an arm."""
    store = RecordStore(RESULTS, experiment)
    runs = []
    for trial_id in store.manifest().arms[arm].values():
        predictions = read_predictions(store.trial(trial_id)) or {}
        runs.append({key: value for by_key in predictions.values() for key, value in by_key.items()})
    return runs


@dataclass
class Tally:
    """How often an interval held the truth."""

    truth: float
    hits: int = 0
    count: int = 0
    lengths: float = 0.0

    def add(self, interval: Interval | None) -> None:
        """Count one interval; none at all counts as a miss."""
        self.count += 1
        if interval is not None:
            self.hits += interval.contains(self.truth)
            self.lengths += interval.high - interval.low

    def result(self) -> dict[str, float | None]:
        """Coverage and mean length."""
        length = self.lengths / self.count
        return {"coverage": self.hits / self.count, "mean_length": length if math.isfinite(length) else None}


def tally(truth: float, sets: int, make: Make, *name: str | int) -> dict[str, float | None]:
    """Coverage of the intervals that `make` makes over `sets` simulated test sets; one name, the same test sets."""
    counted = Tally(truth)
    for index in range(sets):
        counted.add(make(named_rng(0, "calibration", *name, index)))
    return counted.result()


def calibrate_error_rates(unit: str, sets: int) -> dict[str, Any]:
    """WER or CER of one arm, and its difference from the other, utterances drawn one by one."""
    pool = speech_items(unit)
    total = pool.lengths.sum()
    truth, truth_difference = (
        float(errors.sum() / total) for errors in (pool.errors[0], pool.errors[0] - pool.errors[1])
    )

    def one(size: int, method: Method) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            i = rng.integers(0, len(pool.lengths), size)
            return error_rate(pool.errors[0][i], pool.lengths[i], rng, method=method, num_resamples=RESAMPLES).interval

        return make

    def difference(size: int, method: Method) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            i = rng.integers(0, len(pool.lengths), size)
            x, y, n = pool.errors[0][i], pool.errors[1][i], pool.lengths[i]
            return compare_error_rates(x, y, n, rng, method=method, num_resamples=RESAMPLES).interval

        return make

    return {
        str(size): {
            "one": {m: tally(truth, sets, one(size, m), unit, size) for m in METHODS},
            "difference": {m: tally(truth_difference, sets, difference(size, m), unit, size) for m in METHODS},
        }
        for size in SPEECH_SIZES[unit]
    }


def calibrate_speakers(sets: int, utterances: int = 240) -> dict[str, Any]:
    """CER of 240 utterances by few speakers who differ in difficulty: blocks of speakers against single utterances."""
    pool = speech_items("characters")
    rate = float(pool.errors[0].sum() / pool.lengths.sum())

    def maker(speakers: int, by_speaker: bool, method: Method) -> Make:
        who = np.arange(utterances) % speakers

        def make(rng: np.random.Generator) -> Interval | None:
            difficulty = rng.gamma(SPEAKER_SHAPE, 1.0 / SPEAKER_SHAPE, size=speakers)
            lengths = pool.lengths[rng.integers(0, len(pool.lengths), utterances)]
            errors = rng.poisson(rate * lengths * difficulty[who]).astype(np.float64)
            blocks = who if by_speaker else None
            return error_rate(errors, lengths, rng, blocks, method=method, num_resamples=RESAMPLES).interval

        return make

    found = {}
    for speakers in SPEAKERS:
        makers = {f"speakers_{method}": maker(speakers, True, method) for method in METHODS}
        makers["utterances_bootstrap_t"] = maker(speakers, False, "bootstrap_t")
        found[str(speakers)] = {name: tally(rate, sets, make, "speakers", speakers) for name, make in makers.items()}
    return found


def calibrate_text(sets: int) -> dict[str, Any]:
    """Accuracy and macro-F1 of tweets, one arm and the difference, sentences drawn one by one."""
    pool = text_items("tweets")
    first, second = (pool.labels == guess for guess in pool.predictions)
    one, other = (true_macro_f1(pool.labels, guess) for guess in pool.predictions)

    def accuracy(size: int, method: Method) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            right = first[rng.integers(0, len(first), size)].astype(np.float64)
            return mean_score(right, rng, method=method, num_resamples=RESAMPLES).interval

        return make

    def macro(size: int, method: Method) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            i = rng.integers(0, len(first), size)
            labels, guess = pool.labels[i], pool.predictions[0][i]
            return macro_f1_score(labels, guess, 3, rng, method=method, num_resamples=RESAMPLES).interval

        return make

    def difference(size: int, method: Method) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            i = rng.integers(0, len(first), size)
            labels, x, y = pool.labels[i], pool.predictions[0][i], pool.predictions[1][i]
            return compare_macro_f1(labels, x, y, 3, rng, method=method, num_resamples=RESAMPLES, num_swaps=1).interval

        return make

    found = {}
    for size in TEXT_SIZES:
        few = sets // 2 if size > 1_000 else sets
        found[str(size)] = {
            "accuracy": {m: tally(float(first.mean()), few, accuracy(size, m), "text", size) for m in METHODS},
            "macro_f1": {m: tally(one, few, macro(size, m), "text", size) for m in METHODS},
            "macro_f1_difference": {m: tally(one - other, few, difference(size, m), "text", size) for m in METHODS},
            "tests": test_errors(first, second, size, sets),
        }
    return found


def true_macro_f1(labels: Ints, predictions: Ints) -> float:
    """Macro-F1 of the whole population."""
    return macro_f1_score(labels, predictions, 3, np.random.default_rng(0), num_resamples=2).value


def test_errors(first: NDArray[np.bool_], second: NDArray[np.bool_], size: int, sets: int) -> dict[str, float]:
    """False-positive rates on accuracy where each item's two systems are swapped at random: no effect."""
    marks = {"mcnemar_exact": 0, "mcnemar_mid_p": 0, "sign_flip": 0}
    for index in range(sets):
        rng = named_rng(0, "calibration", "tests", size, index)
        i, swap = rng.integers(0, len(first), size), rng.random(size) < 0.5
        x, y = np.where(swap, second[i], first[i]), np.where(swap, first[i], second[i])
        found = mcnemar(x, y)
        marks["mcnemar_exact"] += found.exact <= 0.05
        marks["mcnemar_mid_p"] += found.mid_p <= 0.05
        differences = x.astype(np.float64) - y
        marks["sign_flip"] += sign_flip_test(differences, rng, num_flips=RESAMPLES).p_value <= 0.05
    return {name: count / sets for name, count in marks.items()}


def calibrate_documents(sets: int) -> dict[str, Any]:
    """Accuracy and macro-F1 of product reviews, sentences in documents of 3 to 51: documents or sentences resampled."""
    pool = text_items("product")
    members = [np.flatnonzero(pool.documents == document) for document in range(pool.documents.max() + 1)]
    right = (pool.labels == pool.predictions[0]).astype(np.float64)

    def drawn(rng: np.random.Generator) -> tuple[Ints, Ints]:
        """As many documents as there are, each with the predictions of one seed; sentences, and their documents."""
        picked = rng.integers(0, len(members), len(members))
        parts = [np.array_split(members[document], SEEDS)[rng.integers(SEEDS)] for document in picked]
        return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])

    def accuracy(by_document: bool, method: Method) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            i, labels = drawn(rng)
            blocks = labels if by_document else None
            return mean_score(right[i], rng, blocks, method=method, num_resamples=RESAMPLES).interval

        return make

    def macro(by_document: bool, method: Method) -> Make:
        def make(rng: np.random.Generator) -> Interval | None:
            i, labels = drawn(rng)
            truth, guess, blocks = pool.labels[i], pool.predictions[0][i], labels if by_document else None
            return macro_f1_score(truth, guess, 3, rng, blocks, method=method, num_resamples=RESAMPLES).interval

        return make

    truths = {"accuracy": float(right.mean()), "macro_f1": true_macro_f1(pool.labels, pool.predictions[0])}
    found: dict[str, Any] = {}
    for name, maker in (("accuracy", accuracy), ("macro_f1", macro)):
        makers = {f"documents_{method}": maker(True, method) for method in METHODS}
        makers["sentences_bootstrap_t"] = maker(False, "bootstrap_t")
        found[name] = {key: tally(truths[name], sets, make, "documents") for key, make in makers.items()}
    return found
