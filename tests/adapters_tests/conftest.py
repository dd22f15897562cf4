"""Fixtures of the adapter tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from harness.adapters import access as access_module

from .tiny_models import DIM, TinyModel


@pytest.fixture
def model() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _clean_access() -> Iterator[None]:
    """The settings that NeMo's signatures share by id start and end empty."""
    access_module._ACCESS_CFG.clear()
    access_module._ACCESS_ENABLED.clear()
    yield
    access_module._ACCESS_CFG.clear()
    access_module._ACCESS_ENABLED.clear()
