"""Loads what workers need whose backbones are models of transformers: see harness/launch/ahead.py."""

import gc
from contextlib import suppress
from importlib import import_module

from harness.garbage import no_search_for_garbage

with no_search_for_garbage():
    for _name in (
        "harness.data.audio_backend",  # first: transformers imports torchaudio
        "transformers.modeling_utils",
        "transformers.modeling_layers",
        "transformers.masking_utils",
    ):
        with suppress(Exception):
            import_module(_name)
    gc.freeze()
