"""Makes NeMo's classes and this package's know each other, without importing NeMo.

NeMo's strategy asks `isinstance(adapter, AccessMixin)` of its own AccessMixin, and its LinearAdapter the
same of its AbstractAdapterStrategy. Both are abstract base classes, so ours are registered as virtual
subclasses as soon as NeMo is loaded. NeMo 3 also refuses to build a class from a config unless its import
path starts with an allowed prefix; lifting that is the user's decision: `allow_in_nemo()`.
"""

from __future__ import annotations

import sys
from typing import Any

from harness.adapters.access import AccessMixin
from harness.adapters.strategies.abstract import AbstractAdapterStrategy

_COMMON = "nemo.core.classes.common"
_STRATEGIES = "nemo.core.classes.mixins.adapter_mixin_strategies"
_ACCESS = "nemo.core.classes.mixins.access_mixins"


def connect_loaded_nemo() -> bool:
    """Register our base classes with NeMo's, if NeMo is loaded; calling it again changes nothing.

    Returns:
        Whether NeMo's mixins were there.
    """
    strategies, access = sys.modules.get(_STRATEGIES), sys.modules.get(_ACCESS)
    base = getattr(strategies, "AbstractAdapterStrategy", None)
    mixin = getattr(access, "AccessMixin", None)
    if base is None or mixin is None:
        return False
    _register(base, AbstractAdapterStrategy)
    _register(mixin, AccessMixin)
    return True


def strategy_classes() -> tuple[type, ...]:
    """The base classes of strategies: ours, and NeMo's if it is loaded."""
    theirs = getattr(sys.modules.get(_STRATEGIES), "AbstractAdapterStrategy", None)
    return (AbstractAdapterStrategy,) if theirs is None else (AbstractAdapterStrategy, theirs)


def allow_in_nemo(*prefixes: str) -> None:
    """Let NeMo's `add_adapter` build classes whose import path starts with these prefixes.

    Args:
        *prefixes: such as "mystrategies."; "harness.adapters." is always added.

    Raises:
        ImportError: NeMo is not loaded; import its mixins first.
    """
    if not connect_loaded_nemo():
        raise ImportError("allow_in_nemo: NeMo is not loaded; import nemo.core.classes.mixins first")
    common = sys.modules.get(_COMMON)
    for name in ("ALLOWED_TARGET_PREFIXES", "ALLOWED_ADAPTER_STRATEGY_PREFIXES"):
        allowed: list[str] = getattr(common, name, [])  # NeMo 2 has no such list and allows everything
        allowed.extend(p for p in ("harness.adapters.", *prefixes) if p not in allowed)


def _register(theirs: Any, ours: type) -> None:
    if not issubclass(ours, theirs):
        theirs.register(ours)
