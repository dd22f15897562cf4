"""The classes of a user's own texts: from the labels of its rows, and from the list that its options may give."""

import re
from collections import Counter
from collections.abc import Sequence

from harness.data.errors import DataError
from harness.data.text_cleaning import clean_name

# What YAML 1.1 reads as a truth value when it stands without quotation marks.
TRUTH_WORDS = {True: ("true", "yes", "on"), False: ("false", "no", "off")}
MANY_NUMBERS, MANY_ROWS = 20, 20
WAY_OUT = "if they are classes all the same, list them in data.options.labels"


def given_classes(labels: object, found: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of the option `labels`, in its order, as texts.

    Numbers may be written without quotation marks, and so may yes, no, on, off, true and false, which YAML reads as
    truth values: the one that the labels `found` in the file have is meant. Raises DataError for anything else than a
    list, an entry that is no class, and one that occurs twice.
    """
    if not isinstance(labels, (list, tuple)):
        raise DataError(f"labels must be a list of classes, as [bad, good], got {labels!r}")
    classes = tuple(_class_name(label, found) for label in labels)
    for name, times in Counter(classes).items():
        if times > 1:
            raise DataError(f"labels: the class {name!r} occurs {times} times in {', '.join(classes)}")
    return classes


def _class_name(label: object, found: Sequence[str]) -> str:
    if isinstance(label, bool):
        words = TRUTH_WORDS[label]
        meant = sorted({name for name in found if name.casefold() in words})
        if len(meant) != 1:
            have = f"the file has {' and '.join(meant)}" if meant else "the file has none of them"
            raise DataError(
                f"labels: YAML reads {', '.join(words)} without quotation marks as one truth value, and {have}; "
                f"write the class in quotation marks, as '{words[1]}'"
            )
        return meant[0]
    if isinstance(label, (int, float)):
        return str(label)
    name = clean_name(label) if isinstance(label, str) else ""
    if not name:
        raise DataError(f"labels: {label!r} is no class; write the name of a class, in quotation marks if in doubt")
    return name


def check_classes(texts: Sequence[str], labels: Sequence[str], place: str) -> None:
    """Refuse labels that are no classes: a tag for each word, a score, or one that hardly any two rows share.

    `labels` are those of `texts`, in their order, and `place` is named in the messages. Raises DataError.
    """
    classes, where = sorted(set(labels)), f"{place}: column 'label'"
    long = [label for label in labels if len(label.split()) > 1]
    as_many = all(len(label.split()) == len(text.split()) for text, label in zip(texts, labels, strict=True))
    if as_many and 2 * len(long) > len(labels):
        raise DataError(f"{where} holds a tag for each word, as {long[0]!r}; a text has one class here; {WAY_OUT}")
    numbers = [float(name) for name in classes if re.fullmatch(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?", name)]
    is_score = len(numbers) == len(classes) > MANY_NUMBERS and any(number % 1 for number in numbers)
    if is_score:
        raise DataError(
            f"{where} holds {len(classes)} different numbers, as {classes[0]}: scores rather than classes; "
            f"to learn them as numbers, set data.options.answer: value; {WAY_OUT}"
        )
    if len(labels) >= MANY_ROWS and 2 * len(classes) > len(labels):
        raise DataError(f"{where} holds {len(classes)} classes in {len(labels)} rows, as {classes[0]!r}; {WAY_OUT}")


def notes_on_classes(classes: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return what a reader must know of classes: joined ones, such as no row has, and such as differ by case alone."""
    counts, notes = Counter(labels), []
    if joined := [name for name in classes if _joins(name, classes)]:
        num_rows = sum(counts[name] for name in joined)
        notes.append(f"labels that join several classes, as {joined[0]!r}, are classes of their own here: {num_rows}")
    if absent := [name for name in classes if not counts[name]]:
        notes.append(f"no text has the class {' or '.join(map(repr, absent))}, which data.options.labels lists")
    if len(classes) == 1:
        notes.append(f"all texts have the class {classes[0]!r}")
    return [*notes, *notes_on_twins("classes", classes)]


def _joins(name: str, classes: Sequence[str]) -> bool:
    """Whether a class is several in one: `p|q` always, `p,q`, `p;q`, `p/q` and `p+q` where p and q are classes too."""
    parts = [part.strip() for part in re.split(r"[|,;/+]", name)]
    return len(parts) > 1 and ("|" in name or all(part in classes for part in parts))


def notes_on_twins(what: str, names: Sequence[str]) -> list[str]:
    """Return a note for each two names that differ by case, spaces, hyphens or underscores alone."""
    known: dict[str, str] = {}
    notes = []
    for name in names:
        first = known.setdefault(re.sub(r"[\W_]", "", name.casefold()) or name, name)
        if first != name:
            notes.append(f"the {what} {first!r} and {name!r} are two, although only their spelling differs")
    return notes
