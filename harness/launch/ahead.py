"""Loads what workers need, in the process that they are forked from (remote_worker.py), by being imported there.

No torch operation is run: the threads of one would not be in a fork. What cannot be loaded ends nothing here: a worker
that needs it fails of it, and tells.
"""

import gc
from contextlib import suppress
from importlib import import_module

gc.disable()  # what is loaded stays: looking for garbage among it would take a quarter of the time
for _name in ("harness.training.run_trial", "harness.engines.registry", "harness.engines.packed.driver"):
    with suppress(Exception):
        import_module(_name)
with suppress(Exception):
    import_module("harness.engines.cut.prefix_cache").prefix_code()  # which loads and reads the sources of all encoders
gc.freeze()  # nor do workers look for any among it
gc.enable()
