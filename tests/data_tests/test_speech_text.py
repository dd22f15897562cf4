"""One alphabet for all languages, and the reasons for leaving a clip out."""

import pytest

from harness.data.speech_text import SPEECH_ALPHABET, normalise_transcript, rejection


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
