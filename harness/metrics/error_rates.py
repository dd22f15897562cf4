"""Error rates of transcripts: edits (insertions, deletions, substitutions) by the length of the references."""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics.metric import ItemErrors, ScoredMetric, Unit, case


def character_error_rate(references: Sequence[str], predictions: Sequence[str]) -> float:
    """Edit distance over characters of all pairs, by the number of reference characters (can exceed 1)."""
    import jiwer

    return float(jiwer.cer(list(references), list(predictions)))


def word_error_rate(references: Sequence[str], predictions: Sequence[str]) -> float:
    """Edit distance over words of all pairs, by the number of reference words (can exceed 1)."""
    import jiwer

    return float(jiwer.wer(list(references), list(predictions)))


def num_edits(reference: str, prediction: str, unit: Unit) -> float:
    """The least number of insertions, deletions and substitutions between two texts, in characters or words."""
    glue = "" if unit == "character" else " "
    one, other = (list(text.strip()) if unit == "character" else text.split() for text in (reference, prediction))
    if not one or not other:  # jiwer refuses an empty reference
        return float(max(len(one), len(other)))
    import jiwer

    process = jiwer.process_characters if unit == "character" else jiwer.process_words
    found = process(glue.join(one), glue.join(other))
    return float(found.substitutions + found.deletions + found.insertions)


CER = ScoredMetric(
    direction="lower",
    unit="%",
    meaning="character error rate",
    label="CER",
    scorer=character_error_rate,
    cases=(
        case(["abcd"], ["abxd"], 1 / 4),  # a substitution
        case(["abcd"], ["abd"], 1 / 4),  # a deletion
        case(["abcd"], ["abcde"], 1 / 4),  # an insertion
        case(["abcd"], [""], 1.0),
        case(["a"], ["abc"], 2.0),  # more errors than characters
        case(["abcd", "ab"], ["abcd", ""], 2 / 6),  # pooled over all characters, not a mean of rates
        case(["ab cd"], ["abcd"], 1 / 5),  # the space is a character
    ),
    items=ItemErrors(lambda reference, text: num_edits(reference, text, "character"), len, "character"),
    answers="text",
)

WER = ScoredMetric(
    direction="lower",
    unit="%",
    meaning="word error rate",
    label="WER",
    scorer=word_error_rate,
    cases=(
        case(["press one now"], ["press two now"], 1 / 3),
        case(["press one now"], ["press one"], 1 / 3),
        case(["press one"], ["please press one"], 1 / 2),
        case(["one"], [""], 1.0),
        case(["one two three", "four"], ["one two three", "five"], 1 / 4),
    ),
    items=ItemErrors(
        lambda reference, text: num_edits(reference, text, "word"), lambda reference: len(reference.split()), "word"
    ),
    reduction="WERR",
    answers="text",
)
