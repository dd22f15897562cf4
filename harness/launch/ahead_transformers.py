"""Loads what workers need whose backbones are models of transformers: see harness/launch/ahead.py."""

from contextlib import suppress
from importlib import import_module

for _name in (
    "harness.data.audio_backend",  # first: transformers imports torchaudio
    "transformers.modeling_utils",
    "transformers.modeling_layers",
    "transformers.masking_utils",
):
    with suppress(Exception):
        import_module(_name)
