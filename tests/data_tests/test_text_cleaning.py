"""Cleaning, and what counts as a copy."""

import pytest

from harness.data.text_cleaning import clean_text, copy_key


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("17 deep &amp; strong", "17 deep & strong"),
        ("twice &amp;amp; &lt;3", "twice & <3"),
        ("  tabs\tand\nlines ", "tabs and lines"),
        ("cafe\u0301", "caf\u00e9"),
        ("zero\u200bwidth", "zero width"),
        ("cars_\ufffd_.no thanks", "cars .no thanks"),
        ("snake_case stays", "snake_case stays"),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean_text(raw) == expected
    assert clean_text(expected) == expected


def test_retweets_are_copies() -> None:
    original = "Google's self-driving car still has many flaws http://t.co/abc"
    retweet = "RT @someone: Google's self-driving car still has many flaws via @other http://t.co/xyz"
    assert copy_key(retweet).startswith(copy_key(original))
    assert copy_key("RT @someone: " + original) == copy_key(original)


def test_long_texts_are_compared_by_their_beginning() -> None:
    start = "a very long text that goes on and on until the tweet is cut somewhere in the middle of"
    assert copy_key(start + " the road") == copy_key(start + " the r\u2026")


def test_short_texts_are_copies_only_when_equal() -> None:
    assert copy_key("@united thanks") != copy_key("@delta thanks")
    assert copy_key("Thanks!") == copy_key("thanks!")
