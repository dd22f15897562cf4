"""Fetching the Asterisk prompts: two Debian packages a language, the transcripts and the recordings.

Each language is fetched and kept by itself, so a stopped fetch goes on with the languages that are missing.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.data.cache import has_record, remove_abandoned, staging_folder, write_record
from harness.data.errors import DataError
from harness.data.fetch.apt import download_package, unpack_deb
from harness.errors import must_be_in

logger = logging.getLogger(__name__)

SCRATCH_PREFIX = ".apt-"
LANGUAGES = ("en", "es", "fr", "it", "ru")
ROOT_HINT = "HARNESS_ASTERISK_ROOT at a copy of the sounds (with their core-sounds-XX.txt)"

SHA256 = {  # of version 1.6.1-1, Debian 12
    "asterisk-core-sounds-en": "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    "asterisk-core-sounds-es": "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
    "asterisk-core-sounds-fr": "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
    "asterisk-core-sounds-it": "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
    "asterisk-core-sounds-ru": "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
    "asterisk-core-sounds-en-wav": "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
    "asterisk-core-sounds-es-wav": "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
    "asterisk-core-sounds-fr-wav": "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
    "asterisk-core-sounds-it-wav": "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
    "asterisk-core-sounds-ru-wav": "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201",
}


def fetch_asterisk(folder: Path, *, allow_other_version: bool = False, languages: Sequence[str] = LANGUAGES) -> None:
    """Fetch the prompts of `languages` into `folder`/LANGUAGE; what is already there is left alone.

    Raises DataError for an unknown language, where apt is missing, and for other contents than expected.
    """
    check_languages(languages)
    missing = [language for language in languages if not has_record(folder / language)]
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder, SCRATCH_PREFIX)
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=folder) as scratch:
        for number, language in enumerate(missing, start=1):
            logger.info("asterisk: fetching %s (%d of %d)", language, number, len(missing))
            _fetch_language(folder / language, language, Path(scratch), allow_other_version)


def check_languages(languages: Sequence[str]) -> None:
    """Raise DataError, with the choices, when one of `languages` has no prompts here."""
    for language in languages:
        must_be_in(language, LANGUAGES, f"asterisk has no language {language!r}", DataError)


def _fetch_language(folder: Path, language: str, scratch: Path, allow_other_version: bool) -> None:
    digests = {}
    with staging_folder(folder) as staging:
        for package in (f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-wav"):
            deb, digest = download_package(
                package, SHA256[package], scratch, hint=ROOT_HINT, allow_other_version=allow_other_version
            )
            unpack_deb(deb, staging)
            deb.unlink()
            digests[package] = digest
        other = any(SHA256[package] != digest for package, digest in digests.items())
        write_record(staging, {"archives": digests, "other_version": other})
