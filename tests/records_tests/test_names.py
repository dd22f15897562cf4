"""Names that fit."""

from __future__ import annotations

import pytest

from harness.records.names import file_name, shorten


def test_shorten() -> None:
    assert shorten("a" * 64, 64) == "a" * 64
    long = [shorten("a" * 80 + end, 64) for end in ("1", "2")]
    assert [len(text) for text in long] == [64, 64] and long[0] != long[1] and long[0].startswith("a" * 55 + "-")


@pytest.mark.parametrize("text", ["residual_add", "depth 0.5, l2=1e-3", "арм"])
def test_a_plain_name_stays(text: str) -> None:
    assert file_name(text) == text


@pytest.mark.parametrize("text", ["..", ".", "", "../../x", "/etc", "a/b", ".git", "x" * 300])
def test_no_name_leads_elsewhere(text: str) -> None:
    name = file_name(text)
    assert name not in ("", ".", "..") and "/" not in name and len(name) <= 64 and not name.startswith(".")
