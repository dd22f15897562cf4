"""Cleaning, and what counts as a copy."""

from collections.abc import Callable

import pytest

from harness.data.text_cleaning import ascii_copy_key, clean_name, clean_text, copy_key


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("17 deep &amp; strong", "17 deep & strong"),
        ("twice &amp;amp; &lt;3", "twice & <3"),
        ("  tabs\tand\nlines ", "tabs and lines"),
        ("cafe\u0301", "caf\u00e9"),
        ("zero\u200bwidth", "zero width"),
        ("lost\ufffdletter, half an emoji \ud83d", "lost letter, half an emoji"),
        ("co\u00adoperate \u2066left\u2069 \ufeffmarks", "cooperate left marks"),
        ("fi\u200dlms", "films"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian "I want": the joiner is part of the spelling
        ("ക്\u200dഷ 👩\u200d👧", "ക്\u200dഷ 👩\u200d👧"),
        ("Շատ լավ ֆիլմ է", "Շատ լավ ֆիլմ է"),
        ("snake_case stays", "snake_case stays"),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean_text(raw) == expected
    assert clean_text(expected) == expected


def test_names_that_look_alike_are_one() -> None:
    assert {clean_name(name) for name in ("films", " films ", "films\u200b", "\ufefffi\u00adlms\t", "films\x00")} == {
        "films"
    }
    assert clean_name("cafe\u0301") == "caf\u00e9"
    assert clean_name("R&amp;D") == "R&amp;D"
    clean_name("\ud83d").encode()


@pytest.mark.parametrize("key", [copy_key, ascii_copy_key])
def test_retweets_are_copies(key: Callable[[str], str]) -> None:
    original = "Google's self-driving car still has many flaws http://t.co/abc"
    retweet = "RT @someone: Google's self-driving car still has many flaws via @other http://t.co/xyz"
    assert key(retweet).startswith(key(original))
    assert key("RT @someone: " + original) == key(original)


def test_long_texts_are_compared_by_their_beginning() -> None:
    start = "a very long text that goes on and on until the tweet is cut somewhere in the middle of"
    assert copy_key(start + " the road") == copy_key(start + " the r\u2026")


def test_short_texts_are_copies_only_when_equal() -> None:
    assert copy_key("@united thanks") != copy_key("@delta thanks")
    assert copy_key("Thanks!") == copy_key("thanks!")


@pytest.mark.parametrize(
    "copies",
    [
        ("Отличный телефон", "отличный  телефон!!!"),  # Russian
        ("电影太难看了", "电影，太难看了！"),  # Chinese: six letters say as much as twenty of ours
        ("これは良い映画です", "これは良い映画です。"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("yo\u0308u are nai\u0308ve", "yöu are naïve"),  # NFD and NFC
        ("هذا الفيلم جميل", "هَذَا الفِيلْمُ جَمِيـــل"),  # Arabic with its vowel points, and a word stretched
        ("می\u200cخواهم ببینم", "میخواهم ببینم!"),
        ("यह फ़िल्म अच्छी है", "यह फ़िल्म अच्छी है।"),
        ("ภาพยนตร์เรื่องนี้ดี", "ภาพยนตร์เรื่องนี้ดี !!"),
        ("Straße nach Weißenburg", "STRASSE NACH WEISSENBURG"),
        ("ΟΔΥΣΣΕΑΣ ΣΟΦΟΣ", "Οδυσσεας Σοφος."),  # two forms of one small letter
        ("I love this phone \u2764", "I love this phone \u2764\ufe0f!"),
    ],
)
def test_copies_in_every_script(copies: tuple[str, str]) -> None:
    assert copy_key(copies[0]) == copy_key(copies[1])


@pytest.mark.parametrize(
    "others",
    [
        ("Очень доволен Samsung Galaxy S21", "Вернул Samsung Galaxy S21 через день"),
        ("2023年10月15日买的，很好", "2023年10月15日买的，坏了"),
        ("यह फ़िल्म अच्छी है", "यह फ़िल्म अच्छा है"),  # they differ by a vowel sign
        ("ภาพยนตร์เรื่องนี้ดี", "ภาพยนตร์เรื่องนี้ดู"),
        ("看这里 http://t.co/abc这部电影很好看", "看这里 http://t.co/abd这部电影不好看"),
        ("很好", "不好"),
        ("\U0001f600", "\U0001f621"),
    ],
)
def test_other_texts_are_no_copies_in_any_script(others: tuple[str, str]) -> None:
    assert copy_key(others[0]) != copy_key(others[1])


@pytest.mark.parametrize("text", ["RT @a: A fine film, really", "short", "http://x.y/z and then some words", ""])
def test_both_keys_agree_on_plain_letters(text: str) -> None:
    """So the groups of English corpora, and with them their splits, are those of earlier versions."""
    assert copy_key(text) == ascii_copy_key(text)
