"""Transcripts to the one alphabet every speech corpus shares, and the rules for clips that cannot be used.

Twenty-eight symbols serve all languages, so that one CTC head carries over from source to target: a-z, the
apostrophe and the space. Accents are stripped and Cyrillic is transliterated (a simplified BGN/PCGN table). What is
written with other letters, with digits or with signs that are spoken is left out: its sound would have no text.
"""

import re
import unicodedata

SPEECH_ALPHABET: tuple[str, ...] = (" ", "'", *"abcdefghijklmnopqrstuvwxyz")
"""Output symbols of a speech corpus, in the order of their class indices; the CTC blank is not among them."""

OTHER_LETTERS = "letters outside a-z"
MIN_CLIP_S = 0.3
MAX_CLIP_S = 7.0
MAX_CHARACTERS_PER_S = 22.0  # beyond it the transcript says more than the clip can hold: a wrong or shortened take

# Rows: Russian, Ukrainian and Belarusian (three rows), Serbian and Macedonian, Kazakh and its neighbours.
CYRILLIC = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i", "й": "y",
    "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u",
    "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y", "ь": "",
    "э": "e", "ю": "yu", "я": "ya", "ґ": "g", "є": "ye", "і": "i", "ї": "yi", "ў": "u",
    "ђ": "dj", "ѓ": "gj", "ј": "j", "љ": "lj", "њ": "nj", "ћ": "c", "ќ": "kj", "ѕ": "dz", "џ": "dz",
    "ә": "a", "ғ": "gh", "җ": "j", "қ": "q", "ң": "ng", "ө": "o", "ұ": "u", "ү": "u", "һ": "h", "ҳ": "h", "ҷ": "j",
}  # fmt: skip
# Latin letters that Unicode does not take apart into a plain letter and an accent.
LATIN = {
    "œ": "oe", "æ": "ae", "ß": "ss", "ø": "o", "đ": "d", "ł": "l", "ı": "i", "ð": "d", "þ": "th", "ħ": "h",
    "ŋ": "ng", "ŧ": "t", "ĸ": "k", "ə": "e", "ǝ": "e", "ɛ": "e", "ɔ": "o", "ɓ": "b", "ɖ": "d", "ɗ": "d", "ƙ": "k",
    "ƴ": "y", "ǥ": "g", "ɨ": "i", "ʉ": "u",
}  # fmt: skip
APOSTROPHES = dict.fromkeys("\u2018\u2019\u201b\u02bb\u02bc\u02bd\u2032\u00b4`\uff07", "'")
SINGLE_CHARACTERS = str.maketrans(CYRILLIC | LATIN | APOSTROPHES)

BRACKET = re.compile(r"[\[\](){}<>]")
OUTSIDE_ALPHABET = re.compile(r"[^a-z' ]+")
LONE_APOSTROPHE = re.compile(r"(?<![a-z])'|'(?![a-z])")
SPOKEN_SIGNS = frozenset("%‰&@#*+=±×÷√∞≤≥≠°§№℃℉™©®")  # and all currencies; they are said, but with letters unknown


def normalise_transcript(text: str) -> str:
    """Return `text` in the 28 symbols of `SPEECH_ALPHABET`: lower case, no accents, single spaces.

    Punctuation and anything unknown becomes a space; an apostrophe stays only between or before letters of a word
    (`l'agent`, `don't`). Signs without width (soft hyphens, joiners) tear no word. Letters and digits that are not
    written are dropped too, so check `rejection` first: their words would be missing.
    """
    letters = "".join(c for c in _mapped(text) if unicodedata.category(c)[0] != "M")
    spaced = OUTSIDE_ALPHABET.sub(" ", letters)
    return " ".join(LONE_APOSTROPHE.sub(" ", spaced).split())


def _mapped(text: str) -> str:
    """Return `text` in lower case with all letters mapped that can be, and accents apart from their letters."""
    # Composed first, so that a short i of two characters is the letter of the table; and mapped before it is taken
    # apart by NFKD, which would make a plain i with a mark of it.
    mapped = unicodedata.normalize("NFC", text.lower()).translate(SINGLE_CHARACTERS)
    decomposed = unicodedata.normalize("NFKD", mapped).lower().translate(SINGLE_CHARACTERS)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Cf" or c == "\u200b")  # U+200B parts words


def unwritable(text: str) -> str:
    """Return the letters of `text` that the alphabet has no writing for, each once."""
    letters = (c for c in _mapped(text) if unicodedata.category(c)[0] == "L" and c not in SPEECH_ALPHABET)
    return "".join(dict.fromkeys(letters))


def rejection(raw: str, seconds: float, *, longest_s: float = MAX_CLIP_S, unspoken: str = "") -> str | None:
    """Return why a clip of `seconds` with the transcript `raw` cannot be used, or None when it can.

    The reasons are a small closed set, so that a corpus can count them: "stage directions", "digits" (and fractions,
    powers, numerals), "spoken signs" (but for those that a corpus knows to be `unspoken`), "letters outside a-z", "no
    words", "too short", "too long", "too dense".
    """
    if BRACKET.search(raw):
        return "stage directions"  # [tones], (emphatic), <beep>: what is spoken is not what is written
    kinds = {unicodedata.category(c) for c in raw}
    if kinds & {"Nd", "Nl", "No"}:
        return "digits"
    if "Sc" in kinds or SPOKEN_SIGNS.difference(unspoken).intersection(raw):
        return "spoken signs"
    if unwritable(raw):
        return OTHER_LETTERS
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
