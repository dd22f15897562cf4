"""Spans and points of time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from harness.config.durations import moment_of, seconds_of

NOW = datetime(2026, 11, 29, 17, 0, 30, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("4h", 14400),
        ("1d12h", 129600),
        ("1h30m10s", 5410),
        ("00:30:00", 1800),
        ("1-00:00:01", 86401),
    ],
)
def test_spans(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "4", "30:00", "1.5h", "h", "1m1h", "-1h", "4 h", "9" * 20 + "d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration as 4h, "):
        seconds_of(text)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2h", 2.0),
        ("17:30", 0.5 - 30 / 3600),
        ("17:00", 24 - 30 / 3600),  # the next one
        ("2026-11-30T17:00:30", 24.0),
        ("2026-11-29T17:00:30+00:00", 1.0),
    ],
)
def test_moments(text: str, hours: float) -> None:
    assert moment_of(text, NOW) == NOW + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("text", "why"), [("2026-11-29T16:00", "lies in the past"), ("25:00", "or a time as"), ("soon", "or a time as")]
)
def test_what_is_no_moment(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        moment_of(text, NOW)
