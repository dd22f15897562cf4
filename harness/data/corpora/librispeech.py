"""LibriSpeech: read English audiobooks (Panayotov et al., ICASSP 2015; CC-BY-4.0), domains "clean" and "other".

Read from a local copy in its official layout, through torchaudio's dataset. Where a domain has its train, dev and test
sets the split is the official one; otherwise speakers are split by hash, and the notes say so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.data.audio_files import audio_seconds
from harness.data.cache import write_record
from harness.data.corpus import Corpus, SpeechExample, Split, fingerprint_rows
from harness.data.errors import DataError
from harness.data.speech_text import LATIN28, Normaliser, rejection
from harness.errors import must_be_in

SUBSETS: dict[str, tuple[str, Split]] = {
    "train-clean-100": ("clean", "train"),
    "train-clean-360": ("clean", "train"),
    "dev-clean": ("clean", "valid"),
    "test-clean": ("clean", "test"),
    "train-other-500": ("other", "train"),
    "dev-other": ("other", "valid"),
    "test-other": ("other", "test"),
}
LONGEST_S = 20.0


def fetch_librispeech(
    folder: Path,
    *,
    allow_other_version: bool = False,
    subsets: Sequence[str] = ("dev-clean", "test-clean", "dev-other", "test-other"),
) -> None:
    """Let torchaudio download `subsets` (checked by its own hashes) into `folder`; the default is 1.3 GB."""
    del allow_other_version  # torchaudio knows one hash for each, and checks it
    folder.mkdir(parents=True, exist_ok=True)
    for subset in subsets:
        must_be_in(subset, SUBSETS, f"LibriSpeech has no subset {subset!r}", DataError)
        _dataset(folder, subset, download=True)
    write_record(folder, {"archives": dict.fromkeys(subsets, "checked by torchaudio"), "other_version": False})


def load_librispeech(folder: Path, *, longest_s: float = LONGEST_S, normaliser: Normaliser = LATIN28) -> Corpus:
    """Read what there is of `folder`/LibriSpeech/SUBSET, leaving out clips above `longest_s` seconds.

    Raises DataError when no subset is there, or a file cannot be read.
    """
    present = [subset for subset in SUBSETS if (folder / "LibriSpeech" / subset).is_dir()]
    if not present:
        raise DataError(f"{folder}: no subset of LibriSpeech; expected LibriSpeech/ with one of {', '.join(SUBSETS)}")
    found: dict[str, list[SpeechExample]] = defaultdict(list)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    splits: dict[str, Split] = {}
    rows = []
    for subset in present:
        domain, split = SUBSETS[subset]
        for example in _read_subset(folder, subset, domain, normaliser):
            if reason := rejection(example.raw, example.seconds, longest_s=longest_s, normaliser=normaliser):
                left_out[domain][reason] += 1
                continue
            splits[example.group] = split
            found[domain].append(example)
            size = str(example.path.stat().st_size)  # reading tens of gigabytes to hash them would take too long
            rows.append((example.key, example.group, split, example.transcript, size))
    complete = all({SUBSETS[s][1] for s in present if SUBSETS[s][0] == d} == {"train", "valid", "test"} for d in found)
    how = "official split" if complete else f"not the official split but one by speaker, over {', '.join(present)}"
    return Corpus(
        name="librispeech",
        modality="speech",
        domains={domain: tuple(members) for domain, members in found.items()},
        symbols=normaliser.alphabet(example.transcript for members in found.values() for example in members),
        fingerprint=fingerprint_rows(rows),
        notes=(how,),
        fixed_splits=splits if complete else None,
        left_out=left_out,
    )


def _read_subset(folder: Path, subset: str, domain: str, normaliser: Normaliser) -> Iterator[SpeechExample]:
    """Yield the examples of `subset`."""
    dataset = _dataset(folder, subset)
    for number in range(len(dataset)):
        relative, _rate, raw, speaker, chapter, utterance = dataset.get_metadata(number)
        path = folder / "LibriSpeech" / relative
        yield SpeechExample(
            key=f"{subset}/{speaker}-{chapter}-{utterance:04d}",
            group=f"speaker-{speaker}",
            domain=domain,
            path=path,
            seconds=audio_seconds(path),
            transcript=normaliser.normalise(raw),
            raw=raw,
        )


def _dataset(folder: Path, subset: str, **options: Any) -> Any:
    from harness.data.audio_backend import torchaudio  # here: reading other corpora should not import torch

    try:
        return torchaudio.datasets.LIBRISPEECH(folder, url=subset, **options)
    except (RuntimeError, OSError) as error:
        raise DataError(f"{folder}: not a copy of LibriSpeech {subset}: {error}") from error
