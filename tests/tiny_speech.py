"""A speech experiment small enough for a test: tones instead of words, two domains, a one-layer encoder.

Each letter is a tone, so that a transcript is what a clip says; the domains differ in pitch and loudness. Sixteen clips
a domain, each under a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.data.audio_files import write_audio
from harness.seeding import derive_seed

RATE = 8000
PITCH = {"a": 400.0, "e": 700.0, "o": 1100.0, "u": 1700.0}
DOMAINS = {"low": (1.0, 9000), "high": (1.4, 3000)}  # factor on the pitch, amplitude
SPLITS = ("train",) * 8 + ("valid",) * 4 + ("test",) * 4
LETTER_S = 0.14


@dataclass(frozen=True)
class TinySpeech:
    """Paths of the files; `manifest` names the clips, which lie beside it in `clips/`."""

    root: Path
    manifest: Path
    recipe: Path
    experiment: Path


def transcript_of(number: int) -> str:
    """Three to five letters, no two neighbours the same."""
    letters: list[str] = []
    for position in range(3 + number % 3):
        choices = [letter for letter in PITCH if letters[-1:] != [letter]]
        letters.append(choices[derive_seed(number, "letter", position) % len(choices)])
    return "".join(letters)


def write_clip(path: Path, transcript: str, domain: str, letter_s: float = LETTER_S) -> None:
    """A tone a letter, as a WAV file."""
    factor, amplitude = DOMAINS[domain]
    time = np.arange(int(letter_s * RATE)) / RATE
    tones = [np.sin(2 * np.pi * factor * PITCH[letter] * time) for letter in transcript]
    write_audio(path, (amplitude * np.concatenate(tones)).astype(np.int16), RATE)


def write_corpus(root: Path) -> Path:
    """Write the clips and their manifest; returns the manifest."""
    (root / "clips").mkdir(parents=True)
    lines = ["domain,path,transcript,group,split"]
    for domain in DOMAINS:
        for number, split in enumerate(SPLITS):
            name, transcript = f"clips/{domain}{number}.wav", transcript_of(number)
            write_clip(root / name, transcript, domain)
            lines.append(f"{domain},{name},{transcript},{number},{split}")
    manifest = root / "clips.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def recipe_settings(manifest: Path) -> dict[str, Any]:
    """The recipe: trained on `low` alone."""
    return {
        "name": "tones",
        "data": {"corpus": f"manifest:{manifest}", "domains": ["low"]},
        "encoder": {
            "kind": "speech",
            "num_mels": 16,
            "dim": 16,
            "num_layers": 2,
            "num_heads": 2,
            "hidden": 32,
            "kernel": 3,
            "dropout": 0.0,
        },
        "optim": {"lr": 0.02},
        "loop": {"epochs": 14, "batch_size": 4, "valid_limit": None},
    }


def experiment_settings(manifest: Path, recipe: Path) -> dict[str, Any]:
    """Two arms, one seed, two epochs, with SpecAugment."""
    return {
        "name": "tiny_tones",
        "base": {
            "data": {"corpus": f"manifest:{manifest}", "source": ["low"], "target": "high", "train_limit": 6},
            "backbone": {"recipe": str(recipe)},
            "train": "adapters",
            "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 4},
            "optim": {"lr": 0.02},
            "loop": {"epochs": 2, "batch_size": 3, "augment": {"time_mask": 4, "mel_mask": 3}},
        },
        "arms": {"frozen": {"train": "none", "adapter": None, "loop": {"augment": None}}, "residual_add": {}},
        "seeds": [0],
    }


def files_in(root: Path) -> TinySpeech:
    """The paths below `root`."""
    return TinySpeech(root, root / "clips.csv", root / "tones.yaml", root / "tiny_tones.yaml")


def write_files(root: Path) -> TinySpeech:
    """Write corpus, recipe and experiment below `root`."""
    files = files_in(root)
    manifest = write_corpus(root)
    files.recipe.write_text(yaml.safe_dump(recipe_settings(manifest), sort_keys=False), encoding="utf-8")
    settings = experiment_settings(manifest, files.recipe)
    files.experiment.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return files
