"""Transcripts as a task learns and scores them: the normalisers by name, and the rules for clips that cannot be used.

The published results have `latin28`: 28 symbols for all languages, so that one CTC head carries over from source to
target: a-z, the apostrophe and the space. Accents are stripped and Cyrillic is transliterated (a simplified BGN/PCGN
table). What is written with other letters, with digits or with signs that are spoken is left out: its sound would have
no text. The other normalisers keep every script; a character is then a Unicode code point of the composed text (NFC),
so that é is one, and a Devanagari letter with its vowel sign is two.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.data.text_cleaning import clean_name

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
BRACKETED, PARENTHESES = (
    re.compile(r"[<\[][^>\]]*[>\]]"),
    re.compile(r"\(([^)]+?)\)"),
)  # as Whisper's normaliser has them
VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
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


def without_punctuation(text: str, lower: Callable[[str], str]) -> str:
    """Return `text` in lower case, without what stands in brackets, with punctuation and symbols as spaces.

    As the `BasicTextNormalizer` of Whisper (Radford et al. 2022), but for marks that no letter can be composed with:
    the vowel signs of Hindi, Arabic and Thai are kept (Whisper's makes spaces of them, so that words fall apart), and
    invisible signs are dropped.
    """
    bare = PARENTHESES.sub("", BRACKETED.sub("", clean_name(text)))
    composed = VARIATION_SELECTORS.sub("", unicodedata.normalize("NFKC", bare))
    kept: list[str] = []
    for character in composed:
        kind = unicodedata.category(character)
        is_part = kind in ("Mn", "Mc") and kept and kept[-1] != " "  # a mark belongs to the letter before it
        kept.append(" " if kind[0] in "SP" or (kind[0] == "M" and not is_part) else character)
    # Lower case last, because a wide capital is one only now; it may make an accent of its own, so compose again.
    return " ".join(unicodedata.normalize("NFC", lower("".join(kept))).split())


def lower_turkish(text: str) -> str:
    """Return `text` in lower case, with the dotless i of I, and the dotted one of İ (Turkish and Azerbaijani)."""
    return unicodedata.normalize("NFC", text).replace("I", "ı").replace("İ", "i").lower()


def lower_plain(text: str) -> str:
    """Return `text` in lower case; Python alone would make an i and a dot of its own of İ."""
    return unicodedata.normalize("NFC", text).replace("İ", "i").lower()


@dataclass(frozen=True)
class Normaliser:
    """How the transcripts of a corpus are written. `normalise` of what it gave gives the same again.

    Attributes:
        name: what a recipe calls it.
        meaning: what it does, for the note under a table.
        normalise: raw transcript -> the text that is learnt and scored; empty where no words are left.
        symbols: the alphabet that all its texts are written in; None: whatever characters there are.
    """

    name: str
    meaning: str
    normalise: Callable[[str], str]
    symbols: tuple[str, ...] | None = None

    def alphabet(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Return the symbols of a corpus with these normalised transcripts: the fixed ones, or those found, sorted."""
        return self.symbols or tuple(sorted({character for text in texts for character in text}))

    @property
    def note(self) -> str:
        """What a table of such transcripts has to state."""
        return (
            f"transcripts and outputs have the text of the normaliser {self.name} ({self.meaning}); "
            "a character is a code point of composed text (NFC)"
        )


LATIN28 = Normaliser(
    "latin28", "a-z, apostrophe and space; accents stripped, Cyrillic transliterated", normalise_transcript,
    SPEECH_ALPHABET,
)  # fmt: skip
NORMALISERS: dict[str, Normaliser] = {
    normaliser.name: normaliser
    for normaliser in (
        LATIN28,
        Normaliser(
            "basic",
            "lower case, punctuation and symbols as spaces",
            lambda text: without_punctuation(text, lower_plain),
        ),
        Normaliser(
            "basic_turkish",
            "lower case by the rules of Turkish, punctuation and symbols as spaces",
            lambda text: without_punctuation(text, lower_turkish),
        ),
        Normaliser("none", "text as it is, with single spaces", clean_name),
    )
}
"""Every normaliser by the name that a recipe gives it. To add one: add it here."""


def rejection(
    raw: str,
    seconds: float,
    *,
    shortest_s: float = MIN_CLIP_S,
    longest_s: float = MAX_CLIP_S,
    unspoken: str = "",
    normaliser: Normaliser = LATIN28,
    has_directions: bool = False,
) -> str | None:
    """Return why a clip of `seconds` with the transcript `raw` cannot be used, or None when it can.

    The reasons are a small closed set, so that a corpus can count them: "stage directions", "digits" (and fractions,
    powers, numerals), "spoken signs" (but for those that a corpus knows to be `unspoken`), "letters outside a-z", "no
    words", "too short", "too long", "too dense". The second to fourth are reasons for `latin28` alone: other
    normalisers have the characters as they are written. So are brackets, but in a corpus that `has_directions` in them.
    """
    if BRACKET.search(raw) and (has_directions or normaliser is LATIN28):
        return "stage directions"  # [tones], (emphatic), <beep>: what is spoken is not what is written
    if normaliser is LATIN28 and (reason := _unsayable(raw, unspoken)):
        return reason
    text = normaliser.normalise(raw)
    if not text:
        return "no words"
    if seconds < shortest_s:
        return "too short"
    if seconds > longest_s:
        return "too long"
    if len(text) > MAX_CHARACTERS_PER_S * seconds:
        return "too dense"
    return None


def _unsayable(raw: str, unspoken: str) -> str | None:
    """Return what is spoken in `raw` that the 28 symbols have no writing for."""
    kinds = {unicodedata.category(c) for c in raw}
    if kinds & {"Nd", "Nl", "No"}:
        return "digits"
    if "Sc" in kinds or SPOKEN_SIGNS.difference(unspoken).intersection(raw):
        return "spoken signs"
    return OTHER_LETTERS if unwritable(raw) else None
