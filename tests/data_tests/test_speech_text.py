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
        ("a", 0.29, "too short"),
        ("a long clip", 7.01, "too long"),
        ("x" * 23, 1.0, "too dense"),
        ("x" * 22, 1.0, None),
    ],
)
def test_rejection(raw: str, seconds: float, reason: str | None) -> None:
    assert rejection(raw, seconds) == reason


def test_longest_clip_can_be_set() -> None:
    assert rejection("a long clip", 12.0, longest_s=20.0) is None
