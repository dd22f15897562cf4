"""The normalisers: one alphabet for all languages, or every script; and the reasons for leaving a clip out."""

import random
import sys
import unicodedata

import pytest
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from harness.data.speech_text import NORMALISERS, SPEECH_ALPHABET, normalise_transcript, rejection

BASIC, TURKISH, NONE = (NORMALISERS[name].normalise for name in ("basic", "basic_turkish", "none"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Enter your password, followed by the pound key.", "enter your password followed by the pound key"),
        ("Composez votre numéro d'agent suivi du dièse.", "composez votre numero d'agent suivi du diese"),
        ("Vous n\u2019êtes plus en ligne", "vous n'etes plus en ligne"),
        ("contraseña ¿sí? ¡Ñandú!", "contrasena si nandu"),
        ("Più tardi: perché così", "piu tardi perche cosi"),
        ("Этот оператор уже зарегистрирован.", "etot operator uzhe zaregistrirovan"),
        ("нажмите решётку", "nazhmite reshetku"),
        ("ещё щи, объём, чай", "eshche shchi obem chay"),
        ("Ваш", "vash"),
        ("cœur, straße, über", "coeur strasse uber"),
        ("'quoted' and rock 'n' roll", "quoted and rock n roll"),
        ("  many \t spaces\n", "many spaces"),
        ("kırmızı ışık, İstanbul'da kışın", "kirmizi isik istanbul'da kisin"),
        ("co\u00adoperate, can\u200dnot, \u2066left\u2069, vari\ufe0fant, zero\u200bwidth",
         "cooperate cannot left variant zero width"),
        ("naïve café Łódź Þór Ðorđe Ŋ", "naive cafe lodz thor dorde ng"),
        ("nai\u0308ve и\u0306 ї е\u0308", "naive y yi e"),  # accents as characters of their own
        ("ﬁnal ĳs ªº ᴬ", "final ijs ao a"),
        ("ʻokina haʻi don＇t rock‑n‑roll", "okina ha'i don't rock n roll"),
        ("Ђорђе Љубав Ќе", "djordje ljubav kje"),
        ("...", ""),
    ],
)  # fmt: skip
def test_normalise(raw: str, expected: str) -> None:
    assert normalise_transcript(raw) == expected
    assert set(expected) <= set(SPEECH_ALPHABET)
    assert normalise_transcript(expected) == expected


def test_alphabet() -> None:
    assert len(SPEECH_ALPHABET) == len(set(SPEECH_ALPHABET)) == 28


@pytest.mark.parametrize(
    ("raw", "seconds", "reason"),
    [
        ("a good clip", 2.0, None),
        ("[ascending tones]", 2.0, "stage directions"),
        ("pour (emphase)", 2.0, "stage directions"),
        ("<beep ascending>", 2.0, "stage directions"),
        ("appuyez sur 1", 2.0, "digits"),
        ("...", 2.0, "no words"),
        ("½ cup of tea", 2.0, "digits"),
        ("x² plus y", 2.0, "digits"),
        ("Louis Ⅳ", 2.0, "digits"),
        ("٣ أيام", 2.0, "digits"),
        ("five € left", 2.0, "spoken signs"),
        ("R&D", 2.0, "spoken signs"),
        ("ten % of it", 2.0, "spoken signs"),
        ("№ one", 2.0, "spoken signs"),
        ("Ωmega", 2.0, "letters outside a-z"),
        ("你好", 2.0, "letters outside a-z"),
        ("hello 你好", 2.0, "letters outside a-z"),
        ("مرحبا", 2.0, "letters outside a-z"),
        ("नमस्ते", 2.0, "letters outside a-z"),
        ("สวัสดี", 2.0, "letters outside a-z"),
        ("what a day \U0001f600 \u2013 \u00abyes\u00bb \u2026", 2.0, None),
        ("a", 0.29, "too short"),
        ("a long clip", 7.01, "too long"),
        ("x" * 23, 1.0, "too dense"),
        ("x" * 22, 1.0, None),
    ],
)
def test_rejection(raw: str, seconds: float, reason: str | None) -> None:
    assert rejection(raw, seconds) == reason


def test_signs_that_a_corpus_knows_to_be_silent() -> None:
    assert rejection("press # to end", 5.0) == "spoken signs"
    assert rejection("press # to end", 5.0, unspoken="#*") is None


def test_longest_clip_can_be_set() -> None:
    assert rejection("a long clip", 12.0, longest_s=20.0) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Più tardi: perché così!", "più tardi perché così"),
        ("Cafe\u0301", "caf\u00e9"),  # composed: one character
        ("Этот Ёж — объём.", "этот ёж объём"),
        ("Straße, ΟΔΟΣ", "straße οδος"),  # the sigma of a word's end
        ("你好，世界！", "你好 世界"),
        ("שָׁלוֹם", "שָׁלוֹם"),  # vowel points stay
        ("مُحَمَّد، نعم؟", "مُحَمَّد نعم"),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),
        ("สวัสดี", "สวัสดี"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian is spelt with this joiner
        ("co\u00adoperate\ufeff", "cooperate"),
        ("İstanbul'da IŞIK", "istanbul da işik"),
        ("press 1 [tones] (twice) & hold", "press 1 hold"),
        ("ﬁn ＡＢＣ x² 1\ufe0f\u20e3", "fin abc x2 1"),
        ("...", ""),
    ],
)  # fmt: skip
def test_basic_keeps_every_script(raw: str, expected: str) -> None:
    assert BASIC(raw) == unicodedata.normalize("NFC", expected)


def test_basic_is_whispers_where_no_mark_stands_alone() -> None:
    """Over a thousand texts of characters from all of Unicode; Whisper's makes spaces of marks."""
    whispers, draw = BasicTextNormalizer(), random.Random(0)
    common = " " * 20 + "abcXYZ0189.,;:!?'\"()[]<>%&€-äÉñçЖщ漢字가ひΩ"
    every = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code))[0] in "LNPSZ" and chr(code) != "\u0130"
    ]
    differences = []
    for _ in range(1000):
        text = "".join(draw.choice(common if draw.random() < 0.7 else every) for _ in range(40))
        parts = unicodedata.normalize("NFKC", text.lower())
        if any(unicodedata.category(c)[0] == "M" for c in parts):
            continue  # a letter that Unicode takes apart for good
        differences.append((text, BASIC(text), " ".join(whispers(text).split())))
    assert len(differences) > 900
    assert [found for found in differences if found[1] != found[2]] == []


def test_turkish_has_two_kinds_of_i() -> None:
    assert TURKISH("İSTANBUL'DA IŞIK, KIRMIZI") == "istanbul da ışık kırmızı"
    assert TURKISH("I\u0307zmir") == "izmir" and TURKISH("ＩＳＩ") == "ısı"


def test_none_leaves_the_text_as_it_is() -> None:
    assert NONE("  Straße,\u00a0«Ja»!\n[x] É e\u0301 ") == "Straße, «Ja»! [x] É \u00e9"


@pytest.mark.parametrize("name", NORMALISERS)
def test_what_is_normalised_stays_so(name: str) -> None:
    draw, normalise = random.Random(1), NORMALISERS[name].normalise
    for _ in range(500):
        text = "".join(chr(draw.choice((draw.randrange(32, 0x250), draw.randrange(32, 0xD800)))) for _ in range(30))
        once = normalise(text)
        assert normalise(once) == once and once == " ".join(once.split())
        assert unicodedata.is_normalized("NFC", once)
    assert NORMALISERS[name].alphabet(["ba b"]) == (SPEECH_ALPHABET if name == "latin28" else (" ", "a", "b"))


def test_other_normalisers_take_what_latin28_cannot_write() -> None:
    for raw in ("appuyez sur 1", "five € left", "你好", "Ωmega"):
        assert rejection(raw, 2.0, normaliser=NORMALISERS["basic"]) is None
    assert rejection("[tones]", 2.0, normaliser=NORMALISERS["basic"]) == "no words"
    assert rejection("[tones]", 2.0, normaliser=NORMALISERS["none"]) is None
    assert rejection("[tones]", 2.0, normaliser=NORMALISERS["none"], has_directions=True) == "stage directions"
    assert rejection("字" * 23, 1.0, normaliser=NORMALISERS["none"]) == "too dense"
    assert rejection("a", 0.2, normaliser=NORMALISERS["none"], shortest_s=0.1) is None
