"""Texts as a model should see them, and the key by which two of them count as copies of each other."""

import html
import re
import unicodedata

# What no model can read as a character: U+FFFD (lost when the file was made) and halves of an emoji (a cut tweet).
LOST = re.compile("[\ufffd\ud800-\udfff]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029]")
# Signs without width that no script spells with: soft hyphen, marks of direction, joiners of words, byte order mark.
WIDTHLESS = re.compile("[\u00ad\u034f\u061c\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
# U+200C and U+200D are dropped behind Latin letters only: words of Persian and Hindi, and emoji, are spelt with them.
LOOSE_JOINERS = re.compile("(?<![^\\x00-\u024f])[\u200c\u200d]+")

URL = re.compile(r"https?://\S*|www\.\S+|\bt\.co/\S+")
ASCII_URL = re.compile(r"https?://[!-~]*|www\.[!-~]+|\bt\.co/[!-~]+")  # Chinese may follow it without a space
RETWEET = re.compile(r"\b(?:rt|mt)\s*@\w+:?")
MENTION = re.compile(r"@\w+")
NOT_ASCII_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
# Vowel points of Hebrew and Arabic, and the stroke that stretches Arabic words: the same text is written without them.
# So are emoji without the signs that choose their picture (variation selectors, keycaps).
OPTIONAL_MARKS = re.compile(
    "[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u200c\u200d\u20d0-\u20ff\ufe00-\ufe0f]"
)

COPY_CHARACTERS = 60  # a retweet is cut at 140 characters, its header included: compare beginnings only
LEAST_CHARACTERS = 8  # below them too little is left to tell copies from short answers; Chinese letters count double


def clean_text(text: str) -> str:
    """Return `text` with HTML entities resolved, composed (NFC), single spaces, and without invisible characters."""
    return _readable(html.unescape(html.unescape(text)), lost=" ")  # twice: "&amp;amp;" occurs


def clean_name(name: str) -> str:
    """Return the name of a domain, class or group as a user reads it: two that look alike are one.

    Composed (NFC), single spaces, and without invisible characters, as `clean_text` does; entities stay as they are.
    """
    return _readable(name, lost="\ufffd")


def _readable(text: str, lost: str) -> str:
    """Return `text` composed, with single spaces, without what cannot be seen, and `lost` for what no one can read."""
    if text.isascii() and text.isprintable():  # all of the below leaves it as it is: most texts, five times as fast
        return " ".join(text.split())
    visible = CONTROL.sub(" ", LOST.sub(lost, WIDTHLESS.sub("", text)))
    return " ".join(unicodedata.normalize("NFC", LOOSE_JOINERS.sub("", visible)).split())


def copy_key(text: str) -> str:
    """Return what copies of a text have in common: its first 60 letters and digits, without mentions and links.

    Letters and digits of every script count, with the marks that belong to them (the vowels of Hindi and Thai); case,
    width and other ways to encode a letter do not (NFKC, case folding). A tweet and its retweets share the key, so it
    serves as their group. Texts with too little left to tell (fewer than 8 letters, or 4 of the wide letters of
    Chinese, Japanese and Korean) are only copies of texts that are equal in full.
    """
    folded = _fold(text)
    bare = MENTION.sub(" ", RETWEET.sub(" ", ASCII_URL.sub(" ", folded)))
    letters = "".join(c for c in OPTIONAL_MARKS.sub("", bare) if unicodedata.category(c)[0] in "LNM")
    width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in letters)
    return letters[:COPY_CHARACTERS] if width >= LEAST_CHARACTERS else folded


def ascii_copy_key(text: str) -> str:
    """Return the shipped corpora's `copy_key`, by a-z and 0-9 alone: their published splits are hashes of it."""
    lowered = text.casefold()
    bare = MENTION.sub(" ", RETWEET.sub(" ", URL.sub(" ", lowered)))
    letters = NOT_ASCII_ALPHANUMERIC.sub("", bare)
    return letters[:COPY_CHARACTERS] if len(letters) >= LEAST_CHARACTERS else lowered


def _fold(text: str) -> str:
    """Return `text` without what two ways to type it differ in; composed again, because folding takes letters apart."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)
