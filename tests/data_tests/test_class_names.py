"""Labels of a user's own texts: what YAML makes of them, and labels that are no classes."""

import pytest
import yaml

from harness.data.corpora.class_names import check_classes, given_classes, notes_on_classes, notes_on_twins
from harness.data.errors import DataError

TEXTS = [f"this is text number {number}" for number in range(200)]


@pytest.mark.parametrize(
    ("written", "found", "classes"),
    [
        ("[bad, good]", ["good", "bad"], ("bad", "good")),
        ("[0, 1, 2]", ["0", "1", "2"], ("0", "1", "2")),
        ("[0.5, -1]", ["0.5", "-1"], ("0.5", "-1")),
        ("[no, yes]", ["yes", "no"], ("no", "yes")),
        ("[No, maybe, YES]", ["YES", "No", "maybe"], ("No", "maybe", "YES")),
        ("[false, true]", ["True", "False"], ("False", "True")),  # as JSON's truth values are read
        ("[off, on]", ["on", "off"], ("off", "on")),
        ("['no', ' yes ']", ["yes", "no"], ("no", "yes")),
    ],
)
def test_classes_as_yaml_has_them(written: str, found: list[str], classes: tuple[str, ...]) -> None:
    assert given_classes(yaml.safe_load(written), found) == classes


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("good,bad", r"labels must be a list of classes, as \[bad, good\], got 'good,bad'"),
        ("{good: 1}", "labels must be a list"),
        ("3", "labels must be a list"),
        ("[good, good, bad]", "the class 'good' occurs 2 times in good, good, bad"),
        ("[1, '1']", "the class '1' occurs 2 times"),
        ("[null, good]", "labels: None is no class"),
        ("['', good]", "labels: '' is no class"),
        ("[[a], b]", r"labels: \['a'\] is no class"),
        ("[no, yes]", "labels: YAML reads false, no, off .* the file has none of them; write the class in quotation"),
    ],
)
def test_a_list_that_is_none_says_why(written: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as told:
        given_classes(yaml.safe_load(written), ["a", "b"])
    assert "\n" not in str(told.value)


def test_a_truth_value_that_could_be_two_classes() -> None:
    with pytest.raises(DataError, match="truth value, and the file has no and off; write"):
        given_classes([False], ["no", "off"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["O O B I O"] * 100 + ["O O O O B"] * 100, "m.csv: column 'label' holds a tag for each word, as 'O O B I O'"),
        ([f"{number / 7:.3f}" for number in range(200)], "holds 200 different numbers, as 0.000: scores rather than"),
        ([f"{number % 90 / 8}" for number in range(200)], "holds 90 different numbers"),
        (
            [f"text {number} of its own kind" for number in range(199)] + ["x"],
            "holds 200 classes in 200 rows, as 'text 0 of its own kind'",
        ),
        ([f"id{number}" for number in range(200)], "holds 200 classes in 200 rows, as 'id0'; if they are classes all"),
    ],
)
def test_labels_that_are_no_classes(labels: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_classes(TEXTS, labels, "m.csv")


@pytest.mark.parametrize(
    "labels",
    [
        [f"{number % 5}" for number in range(200)],  # stars
        [f"{number % 10 / 2}" for number in range(200)],  # half stars: 10 classes
        [f"{number % 77}" for number in range(200)],  # 77 intents by number
        ["very good", "good"] * 100,
    ],
)
def test_labels_that_are_classes(labels: list[str]) -> None:
    check_classes(TEXTS, labels, "m.csv")


@pytest.mark.parametrize(
    ("classes", "labels", "notes"),
    [
        (["p", "q"], ["p", "q"], []),
        (["p|q", "r"], ["p|q", "p|q", "r"],
         ["labels that join several classes, as 'p|q', are classes of their own here: 2"]),
        (["p", "p,q", "q"], ["p,q", "q", "p"],
         ["labels that join several classes, as 'p,q', are classes of their own here: 1"]),
        (["arts, crafts", "sports"], ["arts, crafts", "sports"], []),
        (["bad", "good", "so-so"], ["bad", "good"], ["no text has the class 'so-so', which data.options.labels lists"]),
        (["bad"], ["bad"], ["all texts have the class 'bad'"]),
        (["Good", "bad", "good"], ["Good", "good", "bad"],
         ["the classes 'Good' and 'good' are two, although only their spelling differs"]),
    ],
)  # fmt: skip
def test_what_is_noticed(classes: list[str], labels: list[str], notes: list[str]) -> None:
    assert notes_on_classes(classes, labels) == notes


def test_twins() -> None:
    assert len(notes_on_twins("domains", ["Films", "films", "tv-shows", "tv_shows", "+", "-"])) == 2
