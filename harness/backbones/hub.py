"""Models by their id in the Hugging Face hub: taken from its cache, else fetched into it; weights in safetensors alone.

    encoder: {kind: transformers, path: org/name}            # the newest revision that the cache has, or the hub
    encoder: {kind: transformers, path: org/name@REVISION}   # a branch, a tag or a commit

No file with code is fetched, and nothing of what is there is run.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from harness.errors import UserError, first_line

_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
FILES = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model"),
)


def is_hub_id(path: str) -> bool:
    """Whether a path may be the id of a model, `org/name` or `org/name@REVISION`."""
    return _ID.fullmatch(path) is not None


def hub_folder(path: str) -> Path:
    """The folder of a model in the hub's cache, after it was fetched where it is not there yet.

    Args:
        path: `org/name` or `org/name@REVISION`.

    Raises:
        UserError: it is not in the cache and cannot be fetched, or has no weights in safetensors; one line.
    """
    found = _ID.fullmatch(path)
    assert found is not None
    name, revision, cache = found["id"], found["revision"], hub_cache()
    from huggingface_hub import snapshot_download

    options: Any = {"revision": revision, "cache_dir": cache, "allow_patterns": [*FILES]}
    try:
        folder = Path(snapshot_download(name, local_files_only=True, **options))
        if _is_whole(folder):
            return folder
    except OSError:  # it is not in the cache, or not whole: the hub has it, or says why not
        pass
    try:
        folder = Path(snapshot_download(name, **options))
    except Exception as error:
        raise UserError(
            f"encoder.path: {path}: no such folder; as a model of the hub it is not in the cache ({cache}), and it "
            f"cannot be fetched: {first_line(error)}"
        ) from error
    if not _is_whole(folder):
        raise UserError(
            f"encoder.path: {path}: this model of the hub has no config.json with weights in safetensors; others are "
            "not read, as they may run code"
        )
    return folder


def hub_cache() -> Path:
    """Where fetched models lie: `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "hub"


def hub_note(folder: Path) -> tuple[str, ...]:
    """What every table must say of a model in the hub's cache: which revision it is."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return ()
    name = repository.removeprefix("models--").replace("--", "/")
    return (f"the backbone's first weights are {name} of the hub, revision {folder.name[:12]}",)


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
