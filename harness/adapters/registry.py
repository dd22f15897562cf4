"""All adapter types by name. To add one: write its file, and add its config here."""

from __future__ import annotations

from harness.adapters.linear import LinearAdapterConfig

ADAPTERS: dict[str, type] = {
    "linear": LinearAdapterConfig,
}
"""Short name -> config dataclass; its `_target_` is the adapter."""
