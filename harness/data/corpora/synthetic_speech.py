"""Synthetic speech in five languages, for machines that cannot have the real recordings: needs nothing but pip.

SVOX Pico (py-nanotts, Apache-2.0, voices included) speaks the sentences of `synthetic_prompts`, each with its own speed
and pitch. A table made from this corpus says so. Files are kept under a hash of sentences and settings.
"""

import hashlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.data.audio_files import audio_seconds
from harness.data.cache import has_record, sha256_file, staging_folder, write_record
from harness.data.corpora.synthetic_prompts import LANGUAGES, Prompt, synthetic_prompts
from harness.data.corpus import Corpus, SpeechExample, fingerprint_rows
from harness.data.errors import DataError
from harness.data.speech_text import LATIN28, Normaliser
from harness.errors import must_be_in
from harness.seeding import derive_seed

logger = logging.getLogger(__name__)

VOICES = {"en": "en-US", "es": "es-ES", "fr": "fr-FR", "it": "it-IT", "de": "de-DE"}
SPEEDS = (0.85, 1.25)
PITCHES = (0.70, 1.25)
# Blocks above this many bytes come fresh, all zero, from the system: see synthetic_render.
CHILD_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "131072"}
NUM_ATTEMPTS = 3
NOTES = (
    "speech is synthetic (SVOX Pico): no human recordings",
    "one synthetic voice a language, at varying speed and pitch: language and voice shift together",
)


def _job(prompt: Prompt) -> dict[str, str | float]:
    """Return what the child needs to speak `prompt`, its path relative to the corpus' folder."""
    return {
        "path": f"{prompt.language}/{prompt.key}.wav",
        "text": prompt.text,
        "voice": VOICES[prompt.language],
        "speed": _setting("speed", prompt, SPEEDS),
        "pitch": _setting("pitch", prompt, PITCHES),
    }


def _setting(name: str, prompt: Prompt, bounds: tuple[float, float]) -> float:
    """Return a number within `bounds` that depends on `name` and `prompt` alone."""
    share = derive_seed(0, "synthetic voice", name, prompt.language, prompt.key) / 2.0**63
    return round(bounds[0] + share * (bounds[1] - bounds[0]), 3)


def recipe() -> str:
    """Return a hash of every sentence and setting: the name of the folder that holds the rendered files."""
    jobs = json.dumps([_job(prompt) for prompt in synthetic_prompts()], sort_keys=True)
    return hashlib.sha256(jobs.encode()).hexdigest()[:16]


def fetch_nanotts(folder: Path, *, allow_other_version: bool = False) -> None:
    """Render all sentences into `folder`; raises DataError when py-nanotts is missing or keeps failing.

    `allow_other_version` is accepted for uniformity: what is rendered here has no published hash.
    """
    del allow_other_version
    if importlib.util.find_spec("py_nanotts") is None:
        raise DataError("nanotts needs the package py-nanotts; run: pip install py-nanotts==0.1.1")
    with staging_folder(folder / recipe()) as staging:
        render(staging, synthetic_prompts())
        write_record(staging, {"recipe": recipe(), "other_version": False})


def render(folder: Path, prompts: Sequence[Prompt]) -> None:
    """Speak `prompts` into `folder`/LANGUAGE/KEY.wav in a child process, going on where an earlier child crashed."""
    jobs = [{**job, "path": str(folder / str(job["path"]))} for job in map(_job, prompts)]
    reason = ""
    for _ in range(NUM_ATTEMPTS):
        missing = [job for job in jobs if not Path(str(job["path"])).is_file()]
        if not missing:
            return
        logger.info("nanotts: rendering %d sentences", len(missing))
        result = subprocess.run(
            [sys.executable, "-m", "harness.data.corpora.synthetic_render"],
            input="".join(json.dumps(job) + "\n" for job in missing),
            env={**os.environ, **CHILD_ENVIRONMENT},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = result.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {result.returncode}"
    if any(not Path(str(job["path"])).is_file() for job in jobs):
        raise DataError(f"nanotts: the synthesiser failed {NUM_ATTEMPTS} times: {reason}")


def has_nanotts(folder: Path) -> bool:
    """Return whether the sentences, in their present wording and voice, were rendered into `folder`."""
    return has_record(folder / recipe())


def load_nanotts(folder: Path, *, languages: Sequence[str] = LANGUAGES, normaliser: Normaliser = LATIN28) -> Corpus:
    """Read the rendered corpus, one domain a language; raises DataError when it was not rendered."""
    for language in languages:
        must_be_in(language, LANGUAGES, f"nanotts has no language {language!r}", DataError)
    inner = folder / recipe()
    if not has_nanotts(folder):
        raise DataError(f"corpus nanotts is not in {folder}; run: harness data fetch nanotts")
    domains: dict[str, list[SpeechExample]] = {language: [] for language in languages}
    for prompt in synthetic_prompts():
        if prompt.language in domains:
            path = inner / prompt.language / f"{prompt.key}.wav"
            domains[prompt.language].append(
                SpeechExample(
                    key=f"{prompt.language}/{prompt.key}",
                    group=prompt.group,
                    domain=prompt.language,
                    path=path,
                    seconds=audio_seconds(path),
                    transcript=normaliser.normalise(prompt.text),
                    raw=prompt.text,
                )
            )
    examples = [example for members in domains.values() for example in members]
    return Corpus(
        name="nanotts",
        modality="speech",
        domains={language: tuple(members) for language, members in domains.items()},
        symbols=normaliser.alphabet(example.transcript for example in examples),
        fingerprint=fingerprint_rows((e.key, e.group, e.transcript, sha256_file(e.path)) for e in examples),
        notes=NOTES,
    )
