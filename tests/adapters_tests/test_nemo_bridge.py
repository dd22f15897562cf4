"""The bridge to NeMo, with stand-ins for NeMo's modules (test_nemo_interop.py uses the real ones)."""

from __future__ import annotations

import sys
from abc import ABC
from types import ModuleType

import pytest

from harness.adapters import (
    AccessMixin,
    LinearAdapter,
    ResidualAddAdapterStrategy,
    allow_in_nemo,
    nemo_bridge,
)


class TheirStrategy(ABC):  # noqa: B024 (NeMo's has no abstract method)
    """In place of NeMo's AbstractAdapterStrategy."""


class TheirAccess(ABC):  # noqa: B024 (as above)
    """In place of NeMo's AccessMixin."""


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """NeMo's modules, as far as the bridge reads them; returns the one with the allow lists."""
    modules = {name: ModuleType(name) for name in (nemo_bridge._STRATEGIES, nemo_bridge._ACCESS, nemo_bridge._COMMON)}
    vars(modules[nemo_bridge._STRATEGIES])["AbstractAdapterStrategy"] = TheirStrategy
    vars(modules[nemo_bridge._ACCESS])["AccessMixin"] = TheirAccess
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return modules[nemo_bridge._COMMON]


def test_without_nemo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, nemo_bridge._STRATEGIES, None)
    assert nemo_bridge.connect_loaded_nemo() is False
    with pytest.raises(ImportError, match="NeMo is not loaded"):
        allow_in_nemo()


@pytest.mark.usefixtures("common")
def test_our_classes_become_virtual_subclasses() -> None:
    assert nemo_bridge.connect_loaded_nemo() and nemo_bridge.connect_loaded_nemo()
    assert isinstance(ResidualAddAdapterStrategy(), TheirStrategy)
    assert isinstance(LinearAdapter(4, 2), TheirAccess)
    assert issubclass(AccessMixin, TheirAccess)


def test_prefixes_are_added_once(common: ModuleType) -> None:
    allowed = ["nemo.core."]
    vars(common)["ALLOWED_TARGET_PREFIXES"] = allowed
    allow_in_nemo("mystrategies.")
    allow_in_nemo("mystrategies.")
    assert allowed == ["nemo.core.", "harness.adapters.", "mystrategies."]
