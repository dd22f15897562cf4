"""Loads what workers need, in the process that they are forked from (remote_worker.py), by being imported there.

No torch operation is run: the threads of one would not be in a fork. What cannot be loaded ends nothing here: a worker
that needs it fails of it, and tells.
"""

import gc
from contextlib import suppress
from importlib import import_module

from harness.garbage import no_search_for_garbage

with no_search_for_garbage():
    for _name in ("harness.training.run_trial", "harness.engines.registry", "harness.engines.packed.driver"):
        with suppress(Exception):
            import_module(_name)
    with suppress(Exception):
        # loads and reads the sources of all encoders
        import_module("harness.engines.cut.prefix_cache").prefix_code()
    gc.freeze()  # nor do workers look for any among what is loaded
