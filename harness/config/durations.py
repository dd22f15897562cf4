"""Spans and points of time as people write them: `90m`, `1d12h`, Slurm's `1-12:00:00`; `17:30`. Loads no torch."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")
SPANS = "4h, 90m, 1d12h or 1-12:00:00 (days-hours:minutes:seconds)"


def seconds_of(text: str) -> int:
    """The length of a span of time in seconds.

    Raises:
        ValueError: it is none, or empty.
    """
    found = _UNITS.fullmatch(text) or _CLOCK.fullmatch(text)
    days, hours, minutes, seconds = (int(part or 0) for part in (found.groups() if found else (0, 0, 0, 0)))
    total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
    if not 0 < total < 10**9:
        raise ValueError(f"expected a duration as {SPANS}, got {text!r}")
    return total


def _as_duration(value: Any) -> Any:
    if not isinstance(value, str):  # YAML reads 4:00:00 as the number 14400, and Slurm takes numbers for minutes
        raise ValueError(f"expected a duration as {SPANS}, the last in quotes, got {value!r}")
    seconds_of(value)
    return value


Duration = Annotated[str, BeforeValidator(_as_duration)]


def moment_of(text: str, now: datetime) -> datetime:
    """The time that is meant by a span from now, by a time of day (the next one), or by a date and time.

    Raises:
        ValueError: it is none of these, or lies in the past.
    """
    if re.fullmatch(r"\d\d?:\d\d", text):
        hours, minutes = map(int, text.split(":"))
        if hours < 24 and minutes < 60:
            found = now.replace(hour=hours, minute=minutes, second=0, microsecond=0)
            return found if found > now else found + timedelta(days=1)
    try:
        return now + timedelta(seconds=seconds_of(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a duration as {SPANS}, or a time as 17:30 or 2026-12-01T08:00") from None
    found = found.replace(tzinfo=found.tzinfo or now.tzinfo)
    if found <= now:
        raise ValueError(f"lies in the past; it is {now:%Y-%m-%dT%H:%M} now")
    return found
