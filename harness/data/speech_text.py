"""Transcripts to the one alphabet every speech corpus shares, and the rules for clips that cannot be used.

Twenty-eight symbols serve all languages, so that one CTC head carries over from source to target: a-z, the
apostrophe and the space. Accents are stripped and Cyrillic is transliterated (a simplified BGN/PCGN table).
"""

import re
import unicodedata

SPEECH_ALPHABET: tuple[str, ...] = (" ", "'", *"abcdefghijklmnopqrstuvwxyz")
"""Output symbols of a speech corpus, in the order of their class indices; the CTC blank is not among them."""

MIN_CLIP_S = 0.3
MAX_CLIP_S = 7.0
MAX_CHARACTERS_PER_S = 22.0  # beyond it the transcript says more than the clip can hold: a wrong or shortened take

CYRILLIC = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i", "й": "y",
    "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u",
    "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y", "ь": "",
    "э": "e", "ю": "yu", "я": "ya", "ґ": "g", "є": "ye", "і": "i", "ї": "yi", "ў": "u",
}  # fmt: skip
LIGATURES = {"œ": "oe", "æ": "ae", "ß": "ss", "ø": "o", "đ": "d", "ł": "l"}
APOSTROPHES = dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'")
SINGLE_CHARACTERS = str.maketrans(CYRILLIC | LIGATURES | APOSTROPHES)

DIGIT = re.compile(r"\d")
BRACKET = re.compile(r"[\[\](){}<>]")
OUTSIDE_ALPHABET = re.compile(r"[^a-z' ]+")
LONE_APOSTROPHE = re.compile(r"(?<![a-z])'|'(?![a-z])")


def normalise_transcript(text: str) -> str:
    """Return `text` in the 28 symbols of `SPEECH_ALPHABET`: lower case, no accents, single spaces.

    Punctuation and anything unknown becomes a space; an apostrophe stays only between or before letters of a word
    (`l'agent`, `don't`). Digits are dropped too, so check `rejection` first: their words would be missing.
    """
    # Cyrillic first: taken apart by NFKD, the short i would become a plain i with a mark.
    mapped = text.lower().translate(SINGLE_CHARACTERS)
    decomposed = unicodedata.normalize("NFKD", mapped).translate(SINGLE_CHARACTERS)
    letters = "".join(c for c in decomposed if not unicodedata.combining(c))
    spaced = OUTSIDE_ALPHABET.sub(" ", letters)
    return " ".join(LONE_APOSTROPHE.sub(" ", spaced).split())


def rejection(raw: str, seconds: float, *, longest_s: float = MAX_CLIP_S) -> str | None:
    """Return why a clip of `seconds` with the transcript `raw` cannot be used, or None when it can.

    The reasons are a small closed set, so that a corpus can count them: "no words", "digits", "stage
    directions", "too short", "too long", "too dense".
    """
    if BRACKET.search(raw):
        return "stage directions"  # [tones], (emphatic), <beep>: what is spoken is not what is written
    if DIGIT.search(raw):
        return "digits"
    text = normalise_transcript(raw)
    if not text:
        return "no words"
    if seconds < MIN_CLIP_S:
        return "too short"
    if seconds > longest_s:
        return "too long"
    if len(text) > MAX_CHARACTERS_PER_S * seconds:
        return "too dense"
    return None
