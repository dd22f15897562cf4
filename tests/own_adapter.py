"""An adapter of a user's own, named in configs as `own_adapter.Wider`."""

from __future__ import annotations

from harness.adapters import LinearAdapter


class Wider(LinearAdapter):
    """A subclass: it inherits no packed form."""
